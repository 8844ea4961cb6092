"""How hot this host is, by its sensors; a virtual machine has none."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exhaust.plugins import Fields

TEMPERATURE: Fields = {
    "sensor": "string: the chip and what it measures, such as coretemp/Package id 0",
    "celsius": "double: its temperature, degrees Celsius",
    "high_celsius": "double: from where on it is called hot, degrees Celsius; missing where it has no such limit",
    "critical_celsius": "double: from where on the hardware is in danger; missing likewise",
    "alarm": "string: no; high or critical, where one of these limits is reached or the chip itself says so",
}

SYSTEM = Path("/sys/class")


def read(folder: Path = SYSTEM) -> list[dict[str, Any]]:
    """Return what each sensor says (see the kernel's hwmon sysfs-interface.rst); zones only where there is no chip."""
    return list(_chips(folder / "hwmon")) or list(_zones(folder / "thermal"))


def _chips(folder: Path) -> Iterator[dict[str, Any]]:
    for chip in sorted(folder.glob("hwmon*")):
        place = chip if (chip / "name").exists() else chip / "device"  # where old kernels have it
        name = _text(place / "name") or chip.name
        for file in sorted(place.glob("temp*_input")):
            base = str(file).removesuffix("_input")
            label = _text(Path(f"{base}_label")) or file.name.removesuffix("_input")
            alarms = {kind: _text(Path(f"{base}_{kind}_alarm")) == "1" for kind in ("max", "crit")}
            yield from _record(f"{name}/{label}", file, Path(f"{base}_max"), Path(f"{base}_crit"), alarms)


def _zones(folder: Path) -> Iterator[dict[str, Any]]:
    for zone in sorted(folder.glob("thermal_zone*")):
        limits = {_text(file): file.with_name(file.name.replace("_type", "_temp")) for file in zone.glob("trip_*_type")}
        nowhere = zone / "none"
        high, critical = limits.get("hot", nowhere), limits.get("critical", nowhere)
        yield from _record(f"{zone.name}/{_text(zone / 'type') or 'zone'}", zone / "temp", high, critical, {})


def _record(sensor: str, file: Path, high: Path, critical: Path, alarms: dict[str, bool]) -> Iterator[dict[str, Any]]:
    celsius = _degrees(file)
    if celsius is None:  # it is asleep, or broken
        return
    limits = {"high_celsius": _degrees(high), "critical_celsius": _degrees(critical)}
    told = {name: limit for name, limit in limits.items() if limit is not None and limit > 0}
    is_critical = alarms.get("crit") or celsius >= told.get("critical_celsius", 1e9)
    is_high = alarms.get("max") or celsius >= told.get("high_celsius", 1e9)
    alarm = "critical" if is_critical else "high" if is_high else "no"
    yield {"sensor": sensor, "celsius": celsius} | told | {"alarm": alarm}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="backslashreplace").strip()
    except OSError:
        return ""


def _degrees(path: Path) -> float | None:
    try:
        return int(_text(path)) / 1000
    except ValueError:
        return None


class Temperatures:
    """A record of each sensor at each look. Some chips take long to answer: they are asked in a thread."""

    def __init__(self, folder: Path = SYSTEM) -> None:
        self._folder = folder

    async def look(self, now: float) -> list[dict[str, Any]]:
        return await asyncio.to_thread(read, self._folder)


def why_not(folder: Path = SYSTEM) -> str:
    """Say why there are none; empty where there are."""
    places = ("hwmon/hwmon*/temp*_input", "hwmon/hwmon*/device/temp*_input", "thermal/thermal_zone*/temp")
    return "" if any(any(folder.glob(place)) for place in places) else "this host shows no sensors"
