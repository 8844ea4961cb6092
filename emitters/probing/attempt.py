"""One attempt at a target: what it finds out on its way, and how it ends."""

import asyncio
import errno
import os
import socket
import ssl
import time
from typing import Any

from emitters.probing.probe import Place, Probe
from emitters.probing.resolving import Resolver, literal
from exhaust.errors import ExhaustError
from exhaust.text import clean

_LONGEST_REASON = 200
_NOT_THERE = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
    | {errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}
)


class ProbeError(ExhaustError):
    """The target does not do what it should; `outcome` is the word for it, the text says more."""

    def __init__(self, outcome: str, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


class Attempt:
    """What is `found` so far; it stays when the time is up. `number` counts the attempts of a probe."""

    def __init__(self, probe: Probe, resolver: Resolver, number: int = 0) -> None:
        self.probe = probe
        self.number = number
        self.found: dict[str, Any] = {}
        self._resolver = resolver

    def took(self, what: str, since: float) -> None:
        """Note how long a part of the way took."""
        self.found[f"{what}_seconds"] = round(time.monotonic() - since, 6)

    async def connect(self, place: Place, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """Return a socket that is connected to the first address that takes it. Raises OSError of the last."""
        since = time.monotonic()
        if not (addresses := literal(place.host)):
            addresses = await self._resolver.addresses(place.host)
            self.took("resolve", since)
        error: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
        for family, address in addresses:
            self.found["address"] = address
            since = time.monotonic()
            try:
                found = await _connected(family, kind, (address, place.port))
            except OSError as exc:
                error = exc
                continue
            if kind == socket.SOCK_STREAM:
                self.took("connect", since)
            return found
        raise error


async def _connected(family: int, kind: socket.SocketKind, address: tuple[str, int]) -> socket.socket:
    found = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    try:
        found.setblocking(False)
        await asyncio.get_running_loop().sock_connect(found, address)
    except BaseException:
        found.close()
        raise
    return found


def outcome_of(exc: BaseException) -> tuple[str, str]:
    """Return the word for how an attempt failed, and the reason in the words of who said so."""
    if isinstance(exc, ProbeError):
        return exc.outcome, clean(str(exc), _LONGEST_REASON)
    if isinstance(exc, ssl.SSLCertVerificationError):
        return "tls", clean(exc.verify_message, _LONGEST_REASON)
    if isinstance(exc, ssl.SSLError):
        return "tls", clean(exc.reason or str(exc), _LONGEST_REASON)
    if isinstance(exc, socket.gaierror):
        return "dns", clean(exc.strerror or str(exc), _LONGEST_REASON)
    if isinstance(exc, TimeoutError):
        return "timeout", "no answer in time"
    return _word(exc), os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else clean(str(exc), 200)


def _word(exc: BaseException) -> str:
    if isinstance(exc, ConnectionRefusedError):
        return "refused"
    if isinstance(exc, OSError) and exc.errno in _NOT_THERE:
        return "unreachable"
    return "reset" if isinstance(exc, ConnectionError) else "error"
