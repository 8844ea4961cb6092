"""Services that somebody else keeps, found by their pidfile: they can be reloaded, and nothing else."""

import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from agents.reloading import reload
from exhaust.plugins import ActionError
from exhaust.processes import Process, find, identify

_TICKS = os.sysconf("SC_CLK_TCK")
_LATER_BY = 2.0
_MOST_BYTES = 64
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # whoever runs as the service may put a pipe there


class PidfileService(msgspec.Struct, frozen=True, tag="pidfile"):
    """A service as the configuration has it."""

    name: str
    pidfile: str


class Pidfiles:
    """All such services of a host, asked only for what is one. `now` is the wall clock, in epoch seconds."""

    def __init__(self, services: Sequence[PidfileService], now: Callable[[], float]) -> None:
        self._paths = {given.name: Path(given.pidfile) for given in services}
        self._now = now

    async def pid(self, name: str) -> int | None:
        process = self._process(name)
        return process.pid if process else None

    async def start(self, name: str) -> int:
        self._refuse(name)

    async def stop(self, name: str, patience: float, *, kill: bool) -> int | None:
        self._refuse(name)

    async def restart(self, name: str, patience: float, *, kill: bool) -> tuple[int, int | None]:
        self._refuse(name)

    async def reload(self, name: str) -> int:
        return await reload(name, self._process(name))

    def _refuse(self, name: str) -> NoReturn:
        raise ActionError(f"service '{name}' can only be reloaded: a pidfile does not say how it is started")

    def _process(self, name: str) -> Process | None:
        """Return the process that the pidfile names, None if that has ended. Raises ActionError in doubt."""
        path = self._paths[name]
        try:
            written, text = _read(path)
            process = find(int(text.split(None, 1)[0]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, IndexError) as exc:
            raise ActionError(f"service '{name}': '{path}' does not hold a pid: {exc}") from exc
        if process is not None and (why := self._doubt(process, written)):
            raise ActionError(f"service '{name}': '{path}' names process {process.pid}, but {why}")
        return process

    def _doubt(self, process: Process, written: os.stat_result) -> str | None:
        """Say why a pidfile is not to be relied on: whoever writes it chooses whom we signal."""
        began = self._now() - (time.clock_gettime(time.CLOCK_BOOTTIME) - process.started / _TICKS)
        if began > written.st_mtime + _LATER_BY:
            return "that was started after the file was written, and so is another's"
        if written.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return "others may write the file: chmod go-w it"
        found = identify(process.pid)
        owners = {0, os.getuid()} | (found.users if found else frozenset())
        return (
            None if written.st_uid in owners else f"the file belongs to uid {written.st_uid}, and the process does not"
        )


def _read(path: Path) -> tuple[os.stat_result, bytes]:
    """Return the status of a regular file, and how it begins. Raises OSError, ValueError."""
    fd = os.open(path, _FLAGS)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        return status, os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)
