"""What each user of this host uses: the sums of all processes with that user's rights, and who is logged in."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from emitters.measures.census import Census, Reading
from emitters.measures.sessions import Session, Sessions
from emitters.measures.users import Users
from exhaust.plugins import Fields

USER: Fields = {
    "user": "string: who, by /etc/passwd; the number where that has no name for it",
    "processes": "int: processes with that user's rights",
    "threads": "int: their threads",
    "cpu_percent": "double: what they used since the last record, percent of one processor; not in the first one",
    "cpu_seconds": "double: what those that are there have used since they started, seconds of a processor",
    "memory_bytes": "int: their resident memory, what they share counted for each, bytes",
    "memory_percent": "double: the same as a share of the host's memory, percent",
    # Only root is told these of the processes of others; not in the first record.
    "read_bytes_per_second": "double: what they made be read from disks since the last record, bytes per second",
    "write_bytes_per_second": "double: what they made be written to disks since the last record, bytes per second",
    "io_calls_per_second": "double: their calls to read and write anything since the last record, per second",
    "sessions": "int: how often the user is logged in; missing where the host does not keep that",
    "logins": "list: of each of these a map of what is known: terminal, from (host), since (epoch seconds), pid",
}

_RATES = ("read_bytes_per_second", "write_bytes_per_second", "io_calls_per_second")
_ASK_USER_EVERY = 6
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MEMORY = os.sysconf("SC_PHYS_PAGES")


Traffic = tuple[int, int, int]
"""Bytes that were read from disks and written to them, and calls to read or write anything."""


@dataclass(slots=True)
class Known:
    """A process as it was at the last look; `io` is what its file of that name said, from which `traffic` was read."""

    started: int
    user: int
    ticks: int = 0
    io: bytes = b""
    traffic: Traffic | None = None


@dataclass(slots=True)
class Sum:
    """What the processes of one user come to; what is `new` is so since the last look."""

    processes: int = 0
    threads: int = 0
    ticks: int = 0
    pages: int = 0
    new_ticks: int = 0
    new_traffic: list[int] | None = None

    def add(self, reading: Reading) -> None:
        stat = reading.stat
        self.processes += 1
        self.threads += stat.threads
        self.ticks += stat.ticks
        self.pages += stat.pages

    def move(self, before: Traffic, after: Traffic) -> None:
        if self.new_traffic is None:
            self.new_traffic = [0, 0, 0]
        for place in range(3):
            self.new_traffic[place] += max(0, after[place] - before[place])

    def told(self, seconds: float) -> dict[str, Any]:
        told: dict[str, Any] = {
            "processes": self.processes,
            "threads": self.threads,
            "cpu_seconds": round(self.ticks / _TICKS, 2),
            "memory_bytes": self.pages * _PAGE,
            "memory_percent": round(100 * self.pages / _MEMORY, 2),
        }
        if seconds > 0:
            told["cpu_percent"] = round(max(0, 100 * self.new_ticks / _TICKS / seconds), 2)
            if self.new_traffic is not None:
                told |= {name: round(count / seconds, 1) for name, count in zip(_RATES, self.new_traffic, strict=True)}
        return told


class Usage:
    """A record of each user at each look. `takes` says whether it is this one that has the census taken."""

    def __init__(self, census: Census, users: Users, sessions: Sessions, *, takes: bool) -> None:
        self._census = census
        self._users = users
        self._sessions = sessions
        self._takes = takes
        self._looks = 0
        self._time: float | None = None
        self._known: dict[int, Known] = {}

    async def look(self, now: float) -> list[dict[str, Any]]:
        if self._takes:
            await self._census.take(now)
        self._users.refresh()
        seconds = 0.0 if self._time is None else now - self._time
        self._looks += 1
        self._time = now
        sums = self._sums()
        told = {self._users.name(user): one.told(seconds) for user, one in sums.items()}
        return [{"user": user} | one for user, one in _with_sessions(told, self._sessions()).items()]

    def _sums(self) -> dict[int, Sum]:
        before, self._known = self._known, {}
        sums: dict[int, Sum] = {}
        for pid, reading in self._census.readings.items():
            known = before.get(pid)
            is_new = known is None or known.started != reading.stat.started
            # Few change their user, and to ask costs as much as all the rest: it is asked in turn.
            if known is None or is_new or (pid + self._looks) % _ASK_USER_EVERY == 0:
                user = self._census.user(pid)
                if user is None:
                    continue
                known = Known(reading.stat.started, user) if known is None or is_new else known
                known.user = user
            self._known[pid] = known
            total = sums.get(known.user)
            if total is None:
                total = sums[known.user] = Sum()
            total.add(reading)
            self._spend(total, pid, known, reading, is_new=is_new)
        return sums

    def _spend(self, total: Sum, pid: int, known: Known, reading: Reading, *, is_new: bool) -> None:
        """Count what is new since the last look: all of a process that was not there then."""
        total.new_ticks += reading.stat.ticks - known.ticks
        known.ticks = reading.stat.ticks
        if reading.stat.kernel:
            return
        io = self._census.text(pid, "io")
        if io == known.io:  # as of most, which do nothing
            if io and total.new_traffic is None:
                total.new_traffic = [0, 0, 0]
            return
        before, known.io, known.traffic = known.traffic, io, _traffic(io)
        if known.traffic is not None and (before is not None or is_new):
            total.move(before or (0, 0, 0), known.traffic)


def _traffic(io: bytes) -> Traffic | None:
    words = io.split()  # see proc_pid_io(5): a name, its value, the next name
    return (int(words[9]), int(words[11]), int(words[5]) + int(words[7])) if words else None


def _with_sessions(
    told: Mapping[str, dict[str, Any]], sessions: Iterable[Session] | None
) -> Mapping[str, dict[str, Any]]:
    if sessions is None:
        return told
    logins: dict[str, list[dict[str, Any]]] = {user: [] for user in told}
    for session in sessions:
        logins.setdefault(session.user, []).append(session.known)
    return {user: told.get(user, {}) | _logins(found) for user, found in logins.items()}


def _logins(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"sessions": len(found)} | ({"logins": found[:20]} if found else {})
