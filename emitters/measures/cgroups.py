"""What limits there are for the control group that we run in: of version 2, or of version 1, as in containers."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from emitters.measures.mounts import Mount, parse

_NONE = 1 << 60  # version 1 says a number about as large as there are where it means none


def limits(proc: Path = Path("/proc/self"), root: Path = Path("/")) -> dict[str, Any]:
    """Return the limits: `cpus`, how many processors' time it may use, and `memory`, bytes; the tightest on the way up.

    `version` is that of the hierarchy in which processors and memory are; nothing at all without control groups.
    """
    try:
        groups = (proc / "cgroup").read_text(errors="surrogateescape").splitlines()
        mounts = list(parse((proc / "mountinfo").read_bytes().splitlines()))
    except OSError:
        return {}
    versions, found = set(), list[tuple[str, float]]()
    for _, names, path in (line.split(":", 2) for line in groups):
        for mount in mounts:
            if version := _version(mount, names):
                versions.add(version)
                place, top = root / mount.mountpoint.lstrip("/"), mount.root.decode(errors="surrogateescape")
                found += _of(place, top, path, _LIMITS[version])
    told: dict[str, Any] = {"version": min(versions)} if versions else {}
    for name, value in found:
        told[name] = min(value, told.get(name, value))
    return told


def _version(mount: Mount, names: str) -> int:
    """Tell whether the hierarchy of these controllers is mounted there, and of which version it is; 0 if it is not."""
    if mount.type == b"cgroup2":
        return 0 if names else 2
    controllers = set(names.split(","))
    is_it = mount.type == b"cgroup" and set(mount.mountpoint.rpartition("/")[2].split(",")) & controllers
    return 1 if is_it and controllers & {"cpu", "memory"} else 0


Limit = Callable[[Path], float | None]


def _of(place: Path, top: str, path: str, limits: Mapping[str, Limit]) -> Iterator[tuple[str, float]]:
    """Yield the limits of a group and of those above it, up to what is mounted: that is `top`."""
    inner = path.removeprefix(top) if top != "/" else path
    for folder in _upwards(place, inner):
        for name, limit in limits.items():
            if (value := limit(folder)) is not None:
                yield name, value


def _upwards(place: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    while True:
        yield place.joinpath(*parts)
        if not parts:
            return
        parts.pop()


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _cpus(folder: Path) -> float | None:
    said = _words(folder / "cpu.max")
    return int(said[0]) / int(said[1]) if len(said) == 2 and said[0] != "max" else None


def _memory(folder: Path) -> float | None:
    said = _words(folder / "memory.max")
    return int(said[0]) if said and said[0] != "max" else None


def _old_cpus(folder: Path) -> float | None:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return int(quota[0]) / int(period[0]) if quota and period and int(quota[0]) > 0 else None


def _old_memory(folder: Path) -> float | None:
    said = _words(folder / "memory.limit_in_bytes")
    return int(said[0]) if said and int(said[0]) < _NONE else None


_LIMITS: Mapping[int, Mapping[str, Limit]] = {
    1: {"cpus": _old_cpus, "memory": _old_memory},
    2: {"cpus": _cpus, "memory": _memory},
}
