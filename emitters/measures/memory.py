"""What the memory of this host is used for, and what it costs that there is not more of it."""

from typing import Any, NamedTuple

from emitters.measures.proc import Proc, number, percent
from exhaust.plugins import Fields

MEMORY: Fields = {
    "total_bytes": "int: memory of the host, bytes",
    "free_bytes": "int: memory in no use at all, bytes",
    "available_bytes": "int: memory that programs can have without swapping, by the kernel's estimate, bytes",
    "used_bytes": "int: memory that is not available, bytes",
    "used_percent": "double: share of the memory that is not available, percent",
    "buffers_bytes": "int: blocks of devices held in memory, bytes",
    "cached_bytes": "int: files held in memory, those in tmpfs too, bytes",
    "shared_bytes": "int: memory shared by programs, and files in tmpfs, bytes",
    "slab_bytes": "int: the kernel's own data, bytes",
    "slab_reclaimable_bytes": "int: the part of it that can be given back, bytes",
    "active_bytes": "int: memory that was in use a short while ago, bytes",
    "inactive_bytes": "int: memory that was not, and is given back first, bytes",
    "dirty_bytes": "int: what waits to be written to disks, bytes",
    "swap_total_bytes": "int: swap space of the host, bytes",
    "swap_free_bytes": "int: swap space not in use, bytes",
    "swap_used_bytes": "int: swap space in use, bytes",
    "swap_used_percent": "double: share of the swap space in use, percent (0 where there is none)",
    # Rates since the last record are missing in the first one.
    "swap_in_bytes_per_second": "double: read back from swap space since the last record, bytes per second",
    "swap_out_bytes_per_second": "double: written to swap space since the last record, bytes per second",
    "major_faults_per_second": "double: times that a program had to wait for a disk to get at its memory, per second",
    "oom_kills": "int: programs that the kernel has killed for want of memory since boot; missing before Linux 4.13",
}

# In the order in which meminfo has them.
_LEVELS = {
    "total_bytes": b"MemTotal:",
    "free_bytes": b"\nMemFree:",
    "available_bytes": b"\nMemAvailable:",
    "buffers_bytes": b"\nBuffers:",
    "cached_bytes": b"\nCached:",
    "active_bytes": b"\nActive:",
    "inactive_bytes": b"\nInactive:",
    "swap_total_bytes": b"\nSwapTotal:",
    "swap_free_bytes": b"\nSwapFree:",
    "dirty_bytes": b"\nDirty:",
    "shared_bytes": b"\nShmem:",
    "slab_bytes": b"\nSlab:",
    "slab_reclaimable_bytes": b"\nSReclaimable:",
}
_COUNTERS = {
    "swap_in_bytes_per_second": b"\npswpin ",
    "swap_out_bytes_per_second": b"\npswpout ",
    "major_faults_per_second": b"\npgmajfault ",
}


class Counters(NamedTuple):
    """What only grows, in the order of their rates."""

    time: float
    values: tuple[int, ...]


def levels(meminfo: bytes) -> dict[str, Any]:
    """Return what /proc/meminfo says (see proc_meminfo(5))."""
    told: dict[str, Any] = {name: number(meminfo, text) * 1024 for name, text in _LEVELS.items()}
    used, swap = told["total_bytes"] - told["available_bytes"], told["swap_total_bytes"] - told["swap_free_bytes"]
    return told | {
        "used_bytes": used,
        "used_percent": percent(used, told["total_bytes"]),
        "swap_used_bytes": swap,
        "swap_used_percent": percent(swap, told["swap_total_bytes"]),
    }


def rates(before: Counters | None, after: Counters, page: int) -> dict[str, float]:
    """Return what happened by the second between two readings; swap counts pages."""
    if before is None or after.time <= before.time:
        return {}
    seconds = after.time - before.time
    sizes = (page, page, 1)
    return {
        name: round(max(0, new - old) * size / seconds, 2)
        for name, old, new, size in zip(_COUNTERS, before.values, after.values, sizes, strict=True)
    }


class Memory:
    """One record at each look; `page` is the size of one, bytes."""

    def __init__(self, proc: Proc, page: int) -> None:
        self._proc = proc
        self._page = page
        self._before: Counters | None = None

    async def look(self, now: float) -> list[dict[str, Any]]:
        vmstat = self._proc.text("vmstat", now)
        after = Counters(now, tuple(number(vmstat, name) for name in _COUNTERS.values()))
        before, self._before = self._before, after
        told = levels(self._proc.text("meminfo", now)) | rates(before, after, self._page)
        if b"\noom_kill " in vmstat:
            told["oom_kills"] = number(vmstat, b"\noom_kill ")
        return [told]
