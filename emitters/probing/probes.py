"""Probes by their schedules: stream `probe`."""

import asyncio
import time
import zlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from emitters.probing.attempt import Attempt, outcome_of
from emitters.probing.handshake import context_for, tls
from emitters.probing.names import dns
from emitters.probing.plain import tcp, udp
from emitters.probing.probe import Probe
from emitters.probing.resolving import Resolver
from emitters.probing.web import http
from exhaust.clock import Clock
from exhaust.errors import ExhaustError
from exhaust.plugins import Fields, Record

PROBE: Fields = {
    "name": "string: the probe's name in the settings",
    "kind": "string: tcp, http, tls, dns or udp",
    "target": "string: what was tried, as in the settings",
    "labels": "map: the probe's labels in the settings, text by name; missing where it has none",
    "outcome": "string: ok; refused; reset; unreachable; timeout (not done within the probe's time-out); closed (the "
    "other end said nothing and closed); dns (no such name or record, or its server says no); tls (the handshake "
    "failed, or the certificate is not trusted); status (of http, not as expected); body (what is expected did not "
    "come); protocol (the answer makes no sense); error (anything else)",
    "reason": "string: why it is not ok, in the words of who said so",
    "address": "string: the address that was tried last",
    "latency_seconds": "double: how long it took as a whole, however it ended, seconds",
    "resolve_seconds": "double: of that, until the name was looked up, seconds; missing where `target` has an address",
    "connect_seconds": "double: of that, until the connection to `address` was there, seconds",
    "tls_seconds": "double: of that, the handshake of TLS, seconds",
    "first_byte_seconds": "double: of that, from the question to the first byte of an answer, seconds",
    "status": "int: the answer's status, of http",
    "answers": "list: the records of dns as text, at most 16",
    "tls_version": "string: such as TLSv1.3",
    "certificate_not_before": "timestamp: since when the certificate is good",
    "certificate_not_after": "timestamp: until when the certificate is good; also of one that is not trusted",
    "certificate_subject": "string: whose certificate it is, as in RFC 4514, cut at 200 characters",
    "certificate_issuer": "string: who signed it, likewise",
}

_MOST_AT_ONCE = 64  # attempts
_SPREAD = 1.0  # seconds over which the first attempts of all probes are spread

_WAYS: Mapping[str, Callable[[Attempt], Awaitable[None]]] = {
    "tcp": tcp,
    "http": http,
    "tls": tls,
    "dns": dns,
    "udp": udp,
}


class Probes:
    """Makes the attempts of so many probes: of one target never two at once; who waits is on time later.

    Up to a bound, no probe waits for one of another target, which may take its whole time-out.
    """

    def __init__(self, clock: Clock, resolver: Resolver, number: int) -> None:
        self._clock = clock
        self._resolver = resolver
        self._room = asyncio.Semaphore(min(number, _MOST_AT_ONCE))
        self._targets: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def records(self, probe: Probe) -> AsyncGenerator[Record]:
        """Yield a record of each attempt; when the first is made follows from the name."""
        await self._clock.until(self._clock.now() + delay(probe))
        number = 0
        async for _ in self._clock.every(probe.every):
            async with self._targets[probe.target], self._room:
                fields = await attempt(probe, self._resolver, number)
            yield Record(self._clock.now(), fields, "probe")
            number += 1


async def attempt(probe: Probe, resolver: Resolver, number: int = 0) -> dict[str, Any]:
    """Try once; return the fields of a record. It takes no longer than the probe's time-out."""
    told: dict[str, Any] = {"name": probe.name, "kind": probe.kind, "target": probe.target}
    if probe.labels:
        told["labels"] = dict(probe.labels)
    tried = Attempt(probe, resolver, number)
    since = time.monotonic()
    try:
        if probe.kind == "tls" or probe.http.startswith("https:"):
            context_for(probe)
            since = time.monotonic()  # what it takes to read the authorities, once, is none of the target's
        async with asyncio.timeout(probe.timeout):
            await _WAYS[probe.kind](tried)
        told["outcome"] = "ok"
    except (OSError, EOFError, ValueError, ExhaustError) as exc:
        told["outcome"], told["reason"] = outcome_of(exc)
    tried.took("latency", since)
    return told | tried.found


def delay(probe: Probe) -> float:
    """Return how many seconds a probe waits at first: probes of one host do not start all at once."""
    return zlib.crc32(probe.name.encode()) / 2**32 * min(_SPREAD, probe.every)
