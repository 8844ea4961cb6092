"""How busy the disks of this host are: whole block devices, without partitions, loop devices and memory disks."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from emitters.measures.proc import Proc
from exhaust.plugins import Fields

DISK: Fields = {
    "device": "string: its name, such as sda or nvme0n1",
    "reads": "int: reads that it has finished since it was there",
    "reads_merged": "int: reads that were made one with another before they reached it, since then",
    "read_bytes": "int: read since then, bytes",
    "read_seconds": "double: what all its reads took since then, seconds",
    "writes": "int: writes that it has finished since then",
    "writes_merged": "int: writes that were made one with another before they reached it, since then",
    "write_bytes": "int: written since then, bytes",
    "write_seconds": "double: what all its writes took since then, seconds",
    "busy_seconds": "double: how long it had something to do since then, seconds",
    "in_flight": "int: requests that it has not finished now",
    # Rates are missing in a device's first record, and in the one after its counters began anew.
    "reads_per_second": "double: reads since the last record, per second",
    "writes_per_second": "double: writes since the last record, per second",
    "read_bytes_per_second": "double: read since the last record, bytes per second",
    "write_bytes_per_second": "double: written since the last record, bytes per second",
    "busy_percent": "double: share of the time since the last record in which it had something to do, percent",
    "queue": "double: requests that it had at once since the last record, the mean",
    "latency_seconds": "double: what a request took since the last record, from queue to end, the mean, seconds; "
    "missing where there was none",
}

_LEFT_OUT = frozenset({b"1", b"7"})  # major numbers of memory disks and loop devices
_SECTOR = 512


class Totals(NamedTuple):
    """The first eleven figures of a line of diskstats; times are milliseconds."""

    reads: int
    reads_merged: int
    sectors_read: int
    reading: int
    writes: int
    writes_merged: int
    sectors_written: int
    writing: int
    in_flight: int
    busy: int
    waited: int


def parse(text: bytes) -> Iterator[tuple[str, Totals]]:
    """Read /proc/diskstats (see the kernel's iostats.rst); devices that never had anything to do are left out."""
    for line in text.split(b"\n"):
        fields = line.split(None, 14)
        if len(fields) < 14 or fields[0] in _LEFT_OUT:
            continue
        totals = Totals(*map(int, fields[3:14]))
        if totals.reads or totals.writes:
            yield fields[2].decode(errors="backslashreplace"), totals


def told(totals: Totals) -> dict[str, Any]:
    return {
        "reads": totals.reads,
        "reads_merged": totals.reads_merged,
        "read_bytes": totals.sectors_read * _SECTOR,
        "read_seconds": totals.reading / 1000,
        "writes": totals.writes,
        "writes_merged": totals.writes_merged,
        "write_bytes": totals.sectors_written * _SECTOR,
        "write_seconds": totals.writing / 1000,
        "busy_seconds": totals.busy / 1000,
        "in_flight": totals.in_flight,
    }


def rates(before: Totals | None, after: Totals, seconds: float) -> dict[str, float]:
    """Return what was done by the second; nothing where that is not known, or the counters began anew."""
    if before is None or seconds <= 0 or after.reads < before.reads or after.writes < before.writes:
        return {}
    reads, writes = after.reads - before.reads, after.writes - before.writes
    found = {
        "reads_per_second": reads / seconds,
        "writes_per_second": writes / seconds,
        "read_bytes_per_second": (after.sectors_read - before.sectors_read) * _SECTOR / seconds,
        "write_bytes_per_second": (after.sectors_written - before.sectors_written) * _SECTOR / seconds,
        # These are 32 bits wide in some kernels, and begin anew.
        "busy_percent": min(100.0, max(0, after.busy - before.busy) / seconds / 10),
        "queue": max(0, after.waited - before.waited) / seconds / 1000,
    }
    rounded = {name: round(value, 2) for name, value in found.items()}
    if reads + writes:
        took = after.reading - before.reading + after.writing - before.writing
        rounded["latency_seconds"] = round(max(0, took) / (reads + writes) / 1000, 6)
    return rounded


def whole_devices() -> Iterable[str]:
    """Return the names of block devices that are no partitions."""
    return [name.replace("!", "/") for name in os.listdir("/sys/block")]  # noqa: PTH208  only the names


class Disks:
    """A record of each device at each look; `devices` tells which names are no partitions."""

    def __init__(self, proc: Proc, devices: Callable[[], Iterable[str]] = whole_devices) -> None:
        self._proc = proc
        self._devices = devices
        self._known: dict[str, bool] = {}
        self._time = 0.0
        self._before: dict[str, Totals] = {}

    async def look(self, now: float) -> list[dict[str, Any]]:
        found = dict(parse(self._proc.text("diskstats", now)))
        if not found.keys() <= self._known.keys():
            self._learn(found)
        seconds, before = now - self._time, self._before
        self._time, self._before = now, found
        return [
            {"device": name} | told(totals) | rates(before.get(name), totals, seconds)
            for name, totals in found.items()
            if self._known[name]
        ]

    def _learn(self, names: Iterable[str]) -> None:
        try:
            whole = frozenset(self._devices())
        except OSError:  # without /sys nobody can tell: then all are told of
            whole = frozenset(names)
        self._known = {name: name in whole for name in names}
