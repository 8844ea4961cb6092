"""What the service manager is told of a process, as sd_notify(3) has it: ready, alive, reloading, stopping, and why."""

import asyncio
import contextlib
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Self

_LONGEST = 500
_MOST_OWED = 16
_ALIVE = b"WATCHDOG=1"
_RELOADING, _STOPPING = "reloading the configuration", "stopping"

log = logging.getLogger(__name__)


class Systemd:
    """Sends datagrams to `address`, a path or an abstract name that begins with `@`; without one it says nothing.

    `watchdog` is within how many seconds the manager wants a sign of life, None where it waits for none; `look_every`
    how many seconds apart it is looked for something to tell.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog: float | None = None,
        *,
        look_every: float = 1.0,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._address = _opened(address or "")
        self._owed: deque[bytes] = deque(maxlen=_MOST_OWED)
        self._monotonic_ns = monotonic_ns
        self._every = look_every if watchdog is None else min(look_every, watchdog / 2)
        self._watched = watchdog is not None
        self._status = ""
        self._deaf = False
        self._busy = ""
        self._started = False

    @classmethod
    def claimed(cls, environment: MutableMapping[str, str], pid: int) -> Self:
        """Take what the manager has put into the environment out of it: no child may speak in our name."""
        address = environment.pop("NOTIFY_SOCKET", None)
        microseconds = environment.pop("WATCHDOG_USEC", "")
        ours = environment.pop("WATCHDOG_PID", str(pid)) == str(pid)
        watched = ours and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address, int(microseconds) / 1e6 if watched else None)

    async def attend(self, started: asyncio.Event, fault: Callable[[], str | None], status: Callable[[], str]) -> None:
        """Tell until cancelled: `status` whenever it changes, that we are ready once `started`, then signs of life.

        There is none while `fault` says what is wrong, so that the manager starts us anew.
        """
        while self._address is not None and not started.is_set():
            self._show(status())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await started.wait()
        if not self._busy:
            self.ready()
        while self._address is not None:
            self._show(status())
            self._send(_ALIVE if self._watched and fault() is None else None)
            await asyncio.sleep(self._every)

    def ready(self) -> None:
        """Tell that the start, or a reload, is over."""
        self._started, self._busy = True, ""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Tell that a reload begins; one during the start is part of that."""
        if self._started and not self._busy:
            self._busy = _RELOADING
            self._tell("RELOADING=1", f"MONOTONIC_USEC={self._monotonic_ns() // 1000}")
            self._show(self._busy)

    def resumed(self) -> None:
        """Tell that a reload is over, if one was begun."""
        if self._busy == _RELOADING:
            self.ready()

    def stopping(self) -> None:
        """Tell that we are told to stop: after that nothing else counts."""
        self._busy = _STOPPING
        self._tell("STOPPING=1")
        self._show(self._busy)

    def _show(self, status: str) -> None:
        line = (self._busy or " ".join(status.split()))[:_LONGEST]
        if line != self._status:
            self._status = line
            self._tell(f"STATUS={line}")

    def _tell(self, *lines: str) -> None:
        self._owed.append("\n".join(lines).encode())
        self._send()

    def _send(self, last: bytes | None = None) -> None:
        """Send what is owed, then `last`, which is not kept: one who is slow to hear must not keep us from working."""
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
                way.setblocking(False)
                way.connect(self._address)
                while self._owed:
                    way.send(self._owed[0])
                    self._owed.popleft()
                if last is not None:
                    way.send(last)
            self._deaf = False
        except OSError as exc:
            if not self._deaf:
                log.warning("the service manager cannot be told", extra={"error": str(exc)})
            self._deaf = True


def _opened(address: str) -> str | None:
    """Return what a socket takes for an address; None for a kind that is not known, or none."""
    return {"/": address, "@": "\0" + address[1:]}.get(address[:1])
