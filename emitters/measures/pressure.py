"""For how much of its time this host's programs had to wait for processors, memory or disks (pressure stall)."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from emitters.measures.proc import ProcFile
from exhaust.plugins import Fields

FOLDER = Path("/proc/pressure")
RESOURCES = ("cpu", "io", "memory", "irq")

_SOME, _FULL = "some tasks had to wait for it", "nobody could go on for want of it"
PRESSURE: Fields = {
    "resource": "string: cpu, io, memory, or irq (time that interrupts took from tasks, of which there is only full)",
    "some_percent": f"double: share of the time since the last record in which {_SOME}, percent; not in the first one",
    "some_avg10_percent": f"double: share of the time in which {_SOME}, mean over 10 seconds, percent",
    "some_avg60_percent": "double: the same over 1 minute",
    "some_avg300_percent": "double: the same over 5 minutes",
    "some_seconds": f"double: how long {_SOME}, since boot, seconds",
    "full_percent": f"double: share of the time since the last record in which {_FULL}, percent; not in the first one",
    "full_avg10_percent": f"double: share of the time in which {_FULL}, mean over 10 seconds, percent",
    "full_avg60_percent": "double: the same over 1 minute",
    "full_avg300_percent": "double: the same over 5 minutes",
    "full_seconds": f"double: how long {_FULL}, since boot, seconds",
    "stalled": "bool: whether this record comes at once, as there was more waiting than the settings' `stalls` allow",
    # Only in such a record.
    "kind": "string: of which there was too much: some or full",
    "limit_seconds": "double: how long it had to be waited for, seconds",
    "within_seconds": "double: within how long, seconds; without privileges it may be longer than in the settings",
}


def parse(text: bytes) -> dict[str, float]:
    """Read a file of /proc/pressure (see the kernel's psi.rst)."""
    told: dict[str, float] = {}
    for line in text.splitlines():
        name, *figures = line.decode().split()
        for figure in figures:
            key, _, value = figure.partition("=")
            if key == "total":
                told[f"{name}_seconds"] = int(value) / 1e6
            elif key.startswith("avg"):
                told[f"{name}_{key}_percent"] = float(value)
    return told


def shares(before: dict[str, float], after: dict[str, float], seconds: float) -> dict[str, float]:
    """Return for which share of the time it was waited between two readings."""
    if seconds <= 0:
        return {}
    return {
        f"{kind}_percent": round(min(100.0, max(0.0, 100 * (after[total] - before[total]) / seconds)), 2)
        for kind, total in (("some", "some_seconds"), ("full", "full_seconds"))
        if total in before and total in after
    }


class Pressure:
    """A record of each resource at each look: those of which the kernel tells. `folder` is /proc/pressure."""

    def __init__(self, opened: ExitStack, folder: Path = FOLDER) -> None:
        self._files: dict[str, ProcFile] = {}
        self._before: dict[str, tuple[float, dict[str, float]]] = {}
        for resource in RESOURCES:
            try:
                file = ProcFile(str(folder / resource), opened)
                file.read()
            except OSError:  # an old kernel, or one that was told not to count
                continue
            self._files[resource] = file

    async def look(self, now: float) -> list[dict[str, Any]]:
        records = []
        for resource, file in self._files.items():
            told = parse(file.read())
            time, before = self._before.get(resource, (now, told))
            self._before[resource] = now, told
            records.append({"resource": resource, "stalled": False} | told | shares(before, told, now - time))
        return records

    def stalled(self, resource: str, kind: str, limit: float, within: float) -> dict[str, Any]:
        """Return the record of a stall."""
        told = parse(self._files[resource].read()) if resource in self._files else {}
        stall = {"stalled": True, "kind": kind, "limit_seconds": limit, "within_seconds": within}
        return {"resource": resource} | stall | told


def why_not(folder: Path = FOLDER) -> str:
    """Say why there is none of it here; empty where there is."""
    try:
        (folder / "cpu").read_bytes()
    except FileNotFoundError:
        return "this kernel does not count it"
    except OSError as exc:
        return f"this kernel does not count it: {exc.strerror}"
    return ""
