"""One service as it is known now: its process is watched by pidfd, and what it uses is measured from beat to beat."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from exhaust.plugins import Record
from exhaust.processes import Process

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Usage(NamedTuple):
    time: float
    ticks: int
    memory: int


def _usage(pid: int, now: float) -> _Usage | None:
    try:
        # Field 24 of stat is an estimate, off by megabytes on machines with many processors; newer kernels sum up here.
        memory = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return _Usage(now, int(fields[11]) + int(fields[12]), memory)


class Watched:
    """A service and the process that it was last known by. `on_end` is called at that one's end, not of a former."""

    provider: ClassVar[str]

    def __init__(self, name: str, on_end: Callable[["Watched"], None], *, wanted: bool) -> None:
        self.name = name
        self._on_end = on_end
        self._configured = self._wanted = wanted
        self._process: Process | None = None
        self._pidfd: int | None = None
        self._exit: int | None = None
        self._reason = ""
        self._restarts = 0
        self._since: float | None = None
        self._known: tuple[Any, ...] = ()
        self._usage: _Usage | None = None
        self._details: Mapping[str, Any] = {}

    @property
    def state(self) -> str | None:
        return "running" if self._pidfd is not None else self._at_rest()

    def _at_rest(self) -> str | None:
        """Return the state of one that does not run; None if nothing is known of it."""
        if not self._wanted or self._exit == 0:
            return "stopped"
        if self._exit is not None:
            return "failed"
        return "gone" if self._process is not None else None

    def want(self, *, wanted: bool) -> None:
        """Take over from the helper whether it ought to run; what the settings do not want nobody wants."""
        self._wanted = self._configured and wanted

    def _is_newer(self, process: Process) -> bool:
        """Tell whether it took the place of ours: what was said before an announcement must not undo that."""
        if self._process is None or process.alive:
            return True
        return not self._process.alive and process.started >= self._process.started

    def _take(self, process: Process) -> None:
        self.close()
        self._restarts += self._process is not None
        self._process, self._exit, self._usage = process, None, None
        self._pidfd = process.open()
        if self._pidfd is not None:
            asyncio.get_running_loop().add_reader(self._pidfd, self._end)
        elif process.alive:
            raise OSError(f"process {process.pid} runs, but cannot be watched: too many open files?")

    def _end(self) -> None:
        self.close()
        self._on_end(self)

    def close(self) -> None:
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def changed(self, now: float) -> bool:
        """Tell whether it runs otherwise than when this was last asked: another process, none, or wanted no more."""
        known = (self.state, self._wanted, self._process, self._exit)
        if known == self._known:
            return False
        if known[0] == "running" and self._process is not None:
            age = time.clock_gettime(time.CLOCK_BOOTTIME) - self._process.started / _TICKS
            self._since = round(now - age, 2)
        elif not self._known or known[0] != self._known[0]:
            self._since = now
        before, self._known = self._known, known
        # How it ended can wait for the beat: that it ended was told already, and the remedy is under way.
        return bool(before) and (before[0] == "running", *before[1:3]) != (known[0] == "running", *known[1:3])

    def record(self, now: float, *, urgent: bool) -> Record:
        """Return what is known of it, and in those that are not urgent its usage since the last one of them."""
        process = self._process
        known = {
            "service": self.name,
            "provider": self.provider,
            "state": self.state,
            "wanted": self._wanted,
            "pid": process and process.pid,
            "started": process and process.started,
            "exit": self._exit,
            "reason": self._reason or None,
            "since": self._since,
            "restarts": self._restarts,
            **self._details,
        }
        if not urgent:
            known |= self._measure(now)
        return Record(now, {name: value for name, value in known.items() if value is not None}, urgent=urgent)

    def _measure(self, now: float) -> dict[str, Any]:
        if self._pidfd is None or self._process is None or (usage := _usage(self._process.pid, now)) is None:
            return {}
        before, self._usage = self._usage, usage
        measured: dict[str, Any] = {"memory_bytes": usage.memory}
        if before is not None and usage.time > before.time:
            used = (usage.ticks - before.ticks) / _TICKS
            measured["cpu_percent"] = round(100 * used / (usage.time - before.time), 2)
        return measured
