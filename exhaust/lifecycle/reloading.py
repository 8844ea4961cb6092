"""A configuration that is read again under way: taken where it is sound, refused with everything left as it is."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from exhaust.clock import Clock
from exhaust.configuration import Configuration
from exhaust.errors import ConfigurationError

log = logging.getLogger(__name__)

Reread = Callable[[], Configuration]


class Reload:
    """What SIGHUP asks for: set `asked`, and whoever runs by a configuration takes the next from here.

    `reread` raises ConfigurationError with every fault; without one nothing is ever taken. Who `listens`, or answers
    for who does, refuses an address that somebody has; to others it is no obstacle: our own collector may have it.
    """

    def __init__(self, reread: Reread | None, clock: Clock, *, listens: bool) -> None:
        self._listens = listens
        self.asked = asyncio.Event()
        self._reread = reread
        self._clock = clock
        self._last: dict[str, Any] = {}

    def status(self) -> dict[str, Any]:
        """Return `{"reload": {"time", "refused"}}` of the last one, `refused` None where it was taken; else nothing."""
        return {"reload": self._last} if self._last else {}

    @property
    def refused(self) -> str:
        """Why the last one was not taken; empty where it was, or there was none."""
        return self._last.get("refused") or ""

    async def taken(self, current: Configuration) -> Configuration | None:
        """Wait until asked, then read; return the new configuration, None where it was refused."""
        await self.asked.wait()
        self.asked.clear()
        if self._reread is None:
            return None
        try:
            new = await asyncio.to_thread(self._reread)
        except ConfigurationError as exc:
            self.refuse(exc.faults)
        except Exception as exc:  # the one place: whatever goes wrong in reading must not end what runs well
            log.exception("the configuration could not be read again")
            self.refuse([f"{type(exc).__name__}: {exc}"])
        else:
            if not (faults := [*fixed(current, new), *(unavailable(current, new) if self._listens else ())]):
                self._last = {"time": self._clock.now(), "refused": None}
                return new
            self.refuse(faults)
        return None

    def refuse(self, faults: Sequence[object]) -> None:
        """Log every fault: the last good configuration stays in force."""
        for fault in faults:
            log.error("configuration refused, the last good one stays in force", extra={"fault": str(fault)})
        count = f"{len(faults)} faults, first: " if len(faults) > 1 else ""
        self._last = {"time": self._clock.now(), "refused": f"{count}{faults[0] if faults else 'no reason'}"}


def fixed(old: Configuration, new: Configuration) -> list[str]:
    """Return what cannot change while the installation runs, and has."""
    told = (
        ("host", old.host, new.host),
        ("state", str(old.state), str(new.state)),
        ("broker", *("embedded" if one.embedded else "amqp" for one in (old, new))),
    )
    return [f"{key}: '{was}' is now '{now}': that needs a restart" for key, was, now in told if was != now]


def unavailable(old: Configuration, new: Configuration) -> list[str]:
    """Return what the new one asks for and somebody else has."""
    if old.http.address == new.http.address:
        return []
    host, port = new.http.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            return [f"http.listen: {new.http.listen}: {exc.strerror or exc}"]
    return []
