"""How busy this host is as a whole: processors, load, memory, swap and processes, read from /proc."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from emitters.measures.proc import Proc, number, percent
from exhaust.plugins import Fields

_FIRST_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO: that of the host, not a container's
_RECOUNT = 30

# What is told "since the last record" is not in the first one.
SYSTEM: Fields = {
    "cpu_percent": "double: share of all processors' time spent working since the last record, percent",
    "cpu_iowait_percent": "double: share of that time spent idle while input or output was pending, percent",
    "cpu_steal_percent": "double: share of that time that the hypervisor gave to others, percent",
    "load1": "double: tasks that ran or waited for a processor or a disk, mean over 1 minute",
    "load5": "double: the same over 5 minutes",
    "load15": "double: the same over 15 minutes",
    "memory_total_bytes": "int: memory of the host, bytes",
    "memory_available_bytes": "int: memory that programs can have without swapping, by the kernel's estimate, bytes",
    "memory_used_percent": "double: share of the memory that is not available, percent",
    "swap_total_bytes": "int: swap space of the host, bytes",
    "swap_used_percent": "double: share of the swap space in use, percent (0 where there is none)",
    "processes": "int: processes that exist, kernel threads included",
    "processes_running": "int: tasks that run or wait for a processor now",
    "processes_blocked": "int: tasks that wait for input or output now",
    "context_switches_per_second": "double: switches between tasks since the last record, per second",
    "forks_per_second": "double: tasks created since the last record, per second",
}


class Counters(NamedTuple):
    """What only grows; processors' times are in clock ticks, summed over all of them."""

    time: float
    busy: int
    iowait: int
    steal: int
    total: int
    switches: int
    forks: int


def counters(stat: bytes, now: float) -> Counters:
    """Read /proc/stat (see proc_stat(5)). What guests used is part of user and nice already."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, stat[: stat.index(b"\n")].split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    total = busy + idle + iowait
    return Counters(now, busy, iowait, steal, total, number(stat, b"\nctxt "), number(stat, b"\nprocesses "))


def levels(files: Mapping[str, bytes], processes: int) -> dict[str, Any]:
    """Return what can be told from one reading."""
    stat, meminfo = files["stat"], files["meminfo"]
    load1, load5, load15 = map(float, files["loadavg"].split()[:3])
    memory, available = number(meminfo, b"MemTotal:") * 1024, number(meminfo, b"MemAvailable:") * 1024
    swap, swap_free = number(meminfo, b"SwapTotal:") * 1024, number(meminfo, b"SwapFree:") * 1024
    return {
        "load1": load1,
        "load5": load5,
        "load15": load15,
        "memory_total_bytes": memory,
        "memory_available_bytes": available,
        "memory_used_percent": percent(memory - available, memory),
        "swap_total_bytes": swap,
        "swap_used_percent": percent(swap - swap_free, swap),
        "processes": processes,
        "processes_running": number(stat, b"\nprocs_running "),
        "processes_blocked": number(stat, b"\nprocs_blocked "),
    }


def rates(before: Counters | None, after: Counters) -> dict[str, Any]:
    """Return what can be told from two readings; nothing where no time lies between them, or the clock was set back."""
    if before is None or after.time <= before.time or after.total <= before.total:
        return {}
    seconds, ticks = after.time - before.time, after.total - before.total
    return {
        "cpu_percent": percent(after.busy - before.busy, ticks),
        # The kernel says itself that this one may decrease.
        "cpu_iowait_percent": percent(max(0, after.iowait - before.iowait), ticks),
        "cpu_steal_percent": percent(after.steal - before.steal, ticks),
        "context_switches_per_second": round((after.switches - before.switches) / seconds, 1),
        "forks_per_second": round((after.forks - before.forks) / seconds, 1),
    }


class Population:
    """Counts processes. The links of /proc, by stat(2), become more with each; that costs a hundredth of a list.

    By how much it is more than their number is found by a list from time to time: it changes with what else the kernel
    puts there. In a container it counts the processes of others, and where some are hidden from us those, too.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._looks = 0
        self._others = 0
        try:
            whole = (proc / "self/ns/pid").stat().st_ino == _FIRST_NAMESPACE
            self._are_all_ours = whole and (proc / "1").exists()
        except OSError:
            self._are_all_ours = False

    def count(self) -> int:
        if not self._are_all_ours:
            return self._listed()
        links = os.stat(self._proc).st_nlink  # noqa: PTH116  called at every look
        if self._looks % _RECOUNT == 0:
            self._others = links - self._listed()
        self._looks += 1
        return links - self._others

    def _listed(self) -> int:
        return sum(map(str.isdecimal, os.listdir(self._proc)))  # noqa: PTH208  ten times cheaper than Path


class System:
    """One record at each look."""

    def __init__(self, proc: Proc) -> None:
        self._proc = proc
        self._population = Population()
        self._before: Counters | None = None

    async def look(self, now: float) -> list[dict[str, Any]]:
        files = {name: self._proc.text(name, now) for name in ("stat", "meminfo", "loadavg")}
        before, self._before = self._before, counters(files["stat"], now)
        return [levels(files, self._population.count()) | rates(before, self._before)]
