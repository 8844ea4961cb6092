"""Which processes there are, what each has used since the last look, and which have ended."""

import asyncio
import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

from emitters.measures.descriptors import Descriptors, affordable
from emitters.measures.told import Known

_AT_ONCE = 200  # processes looked at before others get their turn
_TICKS = os.sysconf("SC_CLK_TCK")
_WORKER, _KERNEL = 0x20, 0x200000  # PF_WQ_WORKER, PF_KTHREAD


class Stat(NamedTuple):
    """What /proc/PID/stat says: `ticks` of processor time, `pages` of resident memory (an estimate)."""

    name: bytes
    state: bytes
    parent: int
    kernel: bool
    ticks: int
    nice: int
    threads: int
    started: int
    pages: int

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more: its first thread may end before the others."""
        return self.state in (b"Z", b"X") and self.threads <= 1


class Reading(NamedTuple):
    """A process at one look; how much of a processor it used since the last one is not known at first."""

    stat: Stat
    time: float
    cpu_percent: float | None


def parse(text: bytes) -> Stat:
    """Read /proc/PID/stat (see proc_pid_stat(5)). The name may hold anything: fields count from the last `)`."""
    start, end = text.index(b"("), text.rindex(b")")
    fields = text[end + 2 :].split(None, 22)
    name, flags = text[start + 1 : end], int(fields[6])
    if flags & _WORKER and not name.startswith(b"kworker/R-"):
        name = name.split(b"+", 1)[0].split(b"-", 1)[0]  # what follows is the work of the moment
    ticks = int(fields[11]) + int(fields[12])
    nice, threads, started, pages = int(fields[16]), int(fields[17]), int(fields[19]), int(fields[21])
    return Stat(name, fields[0], int(fields[1]), flags & _KERNEL != 0, ticks, nice, threads, started, pages)


class Census:
    """All processes: as they are `known`, and their `readings` of the last look, by pid. `proc` is /proc."""

    def __init__(self, opened: ExitStack, *, proc: str = "/proc", open_files: int | None = None) -> None:
        self._files = Descriptors(proc, opened, most=affordable() if open_files is None else open_files)
        self.known: dict[int, Known] = {}
        self.readings: dict[int, Reading] = {}
        self._parsed: dict[int, tuple[bytes, Stat]] = {}

    async def take(self, now: float) -> list[Known]:
        """Look at all of them; return those that have ended since."""
        self._files.sweep()
        before, self.readings = self.readings, {}
        parsed, self._parsed = self._parsed, {}
        missing = self.known.copy()
        pids = map(int, filter(str.isdecimal, os.listdir(self._files.directory)))  # noqa: PTH208  it is a descriptor
        for count, pid in enumerate(pids, 1):
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                stat = self._stat(pid, parsed.get(pid))
            except PermissionError:  # nobody can say whether it is still the same
                missing.pop(pid, None)
                continue
            if stat is None:
                continue
            known = self.known.get(pid)
            if known is not None and known.started == stat.started:
                missing.pop(pid, None)
            else:
                self.known[pid] = Known(pid, stat.started, stat.nice)
            self.readings[pid] = Reading(stat, now, _cpu_percent(before.get(pid), stat, now))
        return self._buried(missing.values())

    def _buried(self, missing: Iterable[Known]) -> list[Known]:
        # One that becomes another program may for a moment not be found: what was told of is looked for again.
        ended = [one for one in missing if not (one.names and self._is_there(one))]
        for one in ended:
            if self.known[one.pid] is one:
                del self.known[one.pid]
        return ended

    def _is_there(self, one: Known) -> bool:
        try:
            stat = self._stat(one.pid)
        except PermissionError:
            return True
        return stat is not None and stat.started == one.started

    def _stat(self, pid: int, before: tuple[bytes, Stat] | None = None) -> Stat | None:
        text = self._files.read(f"{pid}/stat")
        if before is None or before[0] != text:  # most processes are idle, and say the same again
            if not text:
                return None
            before = text, parse(text)
        self._parsed[pid] = before
        return None if before[1].ended else before[1]

    def text(self, pid: int, name: str) -> bytes:
        """Return a file of a process; nothing if it has ended or we may not read it."""
        try:
            return self._files.read(f"{pid}/{name}")
        except PermissionError:
            return b""

    def user(self, pid: int) -> int | None:
        """Return the user id whose rights it has: of its directory, which is cheaper than its status."""
        try:
            return os.stat(str(pid), dir_fd=self._files.directory).st_uid
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None


def _cpu_percent(before: Reading | None, stat: Stat, now: float) -> float | None:
    if before is None or before.stat.started != stat.started or now <= before.time:
        return None
    if before.stat is stat:
        return 0.0
    return round(100 * (stat.ticks - before.stat.ticks) / _TICKS / (now - before.time), 2)
