"""What this host is: seldom told, as it seldom changes."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emitters.measures.cgroups import limits
from emitters.measures.proc import Proc, number
from exhaust.plugins import Fields

COMPUTER: Fields = {
    "model": "string: what its processors are called",
    "processors": "int: processors that it has, as programs count them",
    "cores": "int: cores in which these are",
    "frequency_mhz": "double: the highest clock rate, or where the host does not tell that the one now, MHz",
    "memory_bytes": "int: memory, bytes",
    "architecture": "string: x86_64, aarch64, …",
    "kernel": "string: release of the kernel",
    "os": "string: the distribution and its version",
    "booted": "timestamp: when it was started",
    "machine": "string: who made it and what it is called; missing where it does not tell",
    "cgroup_version": "int: of the control groups in which we run: 1 or 2",
    "cgroup_cpus": "double: how many processors' time our control group may use; missing without a limit",
    "cgroup_memory_bytes": "int: how much memory our control group may have, bytes; missing without a limit",
    "interfaces": "list: of each network interface a map: interface, mac, mtu (bytes), speed (Mbit/s), duplex, "
    "addresses (a list of maps: family, address, netmask, broadcast, peer); what is not known is missing",
}

EVERY = 600.0
_MOST_INTERFACES = 100


def model(cpuinfo: str, root: Path = Path("/")) -> str:
    """Return what the processors are called; on ARM that may be the board's name."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware", "cpu") and value.strip():
            return value.strip()
    return _text(root / "proc/device-tree/model")


def cores(devices: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """Return the number of cores, by which of them the processors share."""
    found = {
        (_text(place / "physical_package_id"), _text(place / "core_id")) for place in devices.glob("cpu[0-9]*/topology")
    }
    return len(found) or None


def frequency(cpuinfo: str, devices: Path = Path("/sys/devices/system/cpu")) -> float | None:
    """Return the highest clock rate, MHz."""
    highest = [int(text) / 1000 for path in devices.glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq") if (text := _text(path))]
    now = [float(line.partition(":")[2]) for line in cpuinfo.splitlines() if line.startswith("cpu MHz")]
    return max(highest or now, default=None)


def distribution(root: Path = Path("/")) -> str:
    """Return the distribution's name for people (see os-release(5))."""
    for place in ("etc/os-release", "usr/lib/os-release"):
        said = dict(line.partition("=")[::2] for line in _text(root / place).splitlines())
        if name := said.get("PRETTY_NAME") or said.get("NAME"):
            return name.strip("\"'")
    return ""


def machine(root: Path = Path("/")) -> str:
    """Return who made the machine and what it is called, by its firmware."""
    folder = root / "sys/class/dmi/id"
    known = [_text(folder / name) for name in ("sys_vendor", "product_name")]
    return " ".join(filter(None, known)) or _text(root / "proc/device-tree/model")


def interfaces() -> list[dict[str, Any]]:
    """Return what is set at each network interface."""
    import psutil

    families = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
    duplexes: dict[Any, str] = {psutil.NIC_DUPLEX_FULL: "full", psutil.NIC_DUPLEX_HALF: "half"}
    addresses, found = psutil.net_if_addrs(), []
    for name, status in list(psutil.net_if_stats().items())[:_MOST_INTERFACES]:
        own = addresses.get(name, [])
        told = {
            "interface": name,
            "mac": next((one.address for one in own if one.family == psutil.AF_LINK), None),
            "mtu": status.mtu,
            "speed": status.speed or None,
            "duplex": duplexes.get(status.duplex),
            "addresses": [_address(one, families[one.family]) for one in own if one.family in families],
        }
        found.append({key: value for key, value in told.items() if value is not None})
    return found


def _address(one: Any, family: str) -> dict[str, str]:
    told = {"family": family, "address": one.address, "netmask": one.netmask, "broadcast": one.broadcast}
    return {key: value for key, value in (told | {"peer": one.ptp}).items() if value}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="backslashreplace").strip("\0\n ")
    except OSError:
        return ""


class Computer:
    """One record at the first look, and again every ten minutes."""

    def __init__(self, proc: Proc) -> None:
        self._proc = proc
        self._told: float | None = None

    async def look(self, now: float) -> list[dict[str, Any]]:
        if self._told is not None and 0 <= now - self._told < EVERY:
            return []
        self._told = now
        return [self._record(now)]

    def _record(self, now: float) -> dict[str, Any]:
        cpuinfo = self._proc.text("cpuinfo", now).decode(errors="backslashreplace")
        system, group = os.uname(), limits()
        told: Mapping[str, Any] = {
            "model": model(cpuinfo),
            "processors": os.cpu_count(),
            "cores": cores(),
            "frequency_mhz": frequency(cpuinfo),
            "memory_bytes": number(self._proc.text("meminfo", now), b"MemTotal:") * 1024,
            "architecture": system.machine,
            "kernel": system.release,
            "os": distribution(),
            "booted": float(number(self._proc.text("stat", now), b"\nbtime ")),
            "machine": machine(),
            "cgroup_version": group.get("version"),
            "cgroup_cpus": group.get("cpus"),
            "cgroup_memory_bytes": group.get("memory"),
            "interfaces": interfaces(),
        }
        return {name: value for name, value in told.items() if value not in (None, "")}
