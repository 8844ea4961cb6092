"""The busiest processes of this host, and the end of each that was ever told of.

Records of all would be thousands, so a table holds at most `most` of them. Half of it is for those that use most of a
processor, a quarter for those that have most memory; the rest keeps its places, busy or not. A process stays until it
ends, or until the table is full and it was busy longer ago than all others; and whoever is in the table counts for
half as much again when the busiest are chosen. So series do not flap, and one that has calmed down is seen to be calm.

To leave the table is not an end. Every process that was ever in it gets its `gone` once it has really ended, by each
name that it was told of, also where it ended while this emitter was not there.
"""

import heapq
import os
from collections.abc import Iterator
from typing import Any

from emitters.measures.census import Census, Reading
from emitters.measures.told import Known, Told
from emitters.measures.users import Users
from exhaust.plugins import Fields

PROCESS: Fields = {
    "pid": "int: its process id",
    "started": "int: when it started, clock ticks since boot (field 22 of /proc/PID/stat)",
    "name": "string: what the kernel calls it; that changes when it runs another program, or renames itself",
    "gone": "bool: whether it has ended; then nothing else is told but pid, started, name and nice_at_start",
    "nice_at_start": "int: its nice value when it was first seen, -20 to 19; it never changes",
    "nice": "int: its nice value now",
    "parent": "int: the process id of its parent, 0 of none",
    "user": "string: whose rights it has, by /etc/passwd; the number where that has no name for it",
    "kernel": "bool: whether it is a thread of the kernel",
    "state": "string: running, sleeping, blocked (waits for input or output), stopped, traced, idle, parked; "
    "zombie if its first thread has ended before the others",
    "threads": "int: its threads",
    "cpu_percent": "double: what it used since the last look at it, percent of one processor",
    "memory_bytes": "int: its resident memory, bytes",
    # Only root is told these of the processes of others.
    "read_bytes_per_second": "double: what it made be read from disks since the last record, bytes per second",
    "write_bytes_per_second": "double: what it made be written to disks since the last record, bytes per second",
}

_STATES = {
    b"R": "running",
    b"S": "sleeping",
    b"D": "blocked",
    b"T": "stopped",
    b"t": "traced",
    b"I": "idle",
    b"P": "parked",
    b"Z": "zombie",
}
_BUSY = 2.0  # percent of a processor: whoever uses less is not busy, even if nobody uses more
_STAYS = 1.5
_MOST_NAMES = 4  # of one process: it may rename itself for ever
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Processes:
    """At each look a record of each process in the table, and one of each that has ended."""

    def __init__(self, most: int, told: Told, census: Census, users: Users) -> None:
        self._most = most
        self._told = told
        self._users = users
        self._census = census
        recalled, self._ended = told.recall()
        census.known |= {known.pid: known for known in recalled}
        self._looks = max((known.noted for known in recalled), default=0)
        self._table = recalled
        self._time = 0.0
        self._traffic: dict[int, tuple[int, int, int]] = {}

    async def look(self, now: float) -> list[dict[str, Any]]:
        self._ended += await self._census.take(now)
        self._table = self._choose()
        self._users.refresh()
        records = [_gone(known, name) for known in self._ended for name in known.names]
        changed = bool(records)
        seconds, self._time = now - self._time, now
        before, self._traffic = self._traffic, {}
        for known in self._table:
            record = self._record(known) | self._rates(known, before.get(known.pid), seconds)
            records.append(record)
            changed |= _remember(known, record["name"])
        if changed:
            # Those that have ended are kept until the next change, in case that we end before this is told.
            alive = sorted(self._census.known.values(), key=_noted, reverse=True)
            self._told.keep([known for known in (*self._ended, *alive) if known.names])
        self._ended = []
        return records

    def _choose(self) -> list[Known]:
        self._looks += 1
        for pid in self._busiest():
            self._census.known[pid].noted = self._looks
        noted = [self._census.known[pid] for pid in self._census.readings]
        return heapq.nlargest(self._most, filter(_noted, noted), key=_noted)

    def _busiest(self) -> Iterator[int]:
        here = {known.pid for known in self._table}
        readings = self._census.readings.items()
        cpu = {pid: one.cpu_percent for pid, one in readings if one.cpu_percent is not None}
        busy = {pid: _weight(used, pid in here) for pid, used in cpu.items() if used >= _BUSY}
        big = {pid: _weight(one.stat.pages, pid in here) for pid, one in readings if one.stat.pages > 0}
        yield from heapq.nlargest(self._most // 2, busy, key=busy.__getitem__)
        yield from heapq.nlargest(self._most // 4, big, key=big.__getitem__)

    def _record(self, known: Known) -> dict[str, Any]:
        reading = self._census.readings[known.pid]
        stat = reading.stat
        user, resident = self._census.user(known.pid), self._resident(known.pid, reading)
        record = {
            "pid": known.pid,
            "started": known.started,
            "name": stat.name.decode(errors="backslashreplace"),
            "gone": False,
            "nice_at_start": known.nice_at_start,
            "nice": stat.nice,
            "user": None if user is None else self._users.name(user),
            "kernel": stat.kernel,
            "parent": stat.parent,
            "state": _STATES.get(stat.state, stat.state.decode()),
            "threads": stat.threads,
            "cpu_percent": reading.cpu_percent,
            "memory_bytes": resident,
        }
        return {name: value for name, value in record.items() if value is not None}

    def _resident(self, pid: int, reading: Reading) -> int | None:
        # The field of stat is an estimate, off by megabytes on machines with many processors; this one sums up.
        statm = self._census.text(pid, "statm").split()
        resident = int(statm[1]) * _PAGE if statm else 0
        return resident if resident or reading.stat.kernel else None  # it has just ended

    def _rates(self, known: Known, before: tuple[int, int, int] | None, seconds: float) -> dict[str, float]:
        io = self._census.text(known.pid, "io").split()  # see proc_pid_io(5): a name, its value, the next name
        if not io:
            return {}
        after = self._traffic[known.pid] = known.started, int(io[9]), int(io[11])
        if before is None or before[0] != known.started or seconds <= 0:
            return {}
        return {
            "read_bytes_per_second": round((after[1] - before[1]) / seconds, 1),
            "write_bytes_per_second": round((after[2] - before[2]) / seconds, 1),
        }


def _noted(known: Known) -> int:
    return known.noted


def _weight(amount: float, is_here: bool) -> float:
    return amount * _STAYS if is_here else amount


def _remember(known: Known, name: str) -> bool:
    """Add a name by which it is told of; return whether that is news."""
    if name in known.names:
        return False
    known.names = (*known.names, name)[-_MOST_NAMES:]
    return True


def _gone(known: Known, name: str) -> dict[str, Any]:
    return {
        "pid": known.pid,
        "started": known.started,
        "name": name,
        "gone": True,
        "nice_at_start": known.nice_at_start,
    }
