"""What the processors of this host spend their time on, together and each by itself."""

from pathlib import Path
from typing import Any

from emitters.measures.proc import Proc, percent
from exhaust.plugins import Fields

CPU: Fields = {
    "cpu": "string: a processor's number, or all",
    # Shares of the time since the last record: missing in the first one.
    "user_percent": "double: time spent in programs, guests included, percent",
    "nice_percent": "double: time in programs of low priority (nice above 0), percent",
    "system_percent": "double: time in the kernel for programs, percent",
    "idle_percent": "double: time without anything to do, percent",
    "iowait_percent": "double: time idle while input or output was pending, percent",
    "irq_percent": "double: time in interrupts, percent",
    "softirq_percent": "double: time in the deferred part of interrupts, percent",
    "steal_percent": "double: time that the hypervisor gave to others, percent",
    "guest_percent": "double: time in virtual machines, part of user, percent",
    "guest_nice_percent": "double: time in virtual machines of low priority, part of nice, percent",
    "cpu_percent": "double: time spent working: all but idle and iowait, percent",
    "frequency_mhz": "double: the clock rate now, of all the mean, MHz; missing where the host does not tell",
}

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
_FREQUENCY_EVERY = 10.0  # its file is made for each processor anew

Times = tuple[int, ...]


def parse(stat: bytes) -> dict[str, Times]:
    """Read the processors' lines of /proc/stat (see proc_stat(5)), in clock ticks."""
    found = {}
    for line in stat[: stat.index(b"\nintr") if b"\nintr" in stat else None].split(b"\n"):
        if not line.startswith(b"cpu"):
            break
        name, *values = line.split()
        found[name[3:].decode() or "all"] = tuple(map(int, values))
    return found


def shares(before: Times | None, after: Times) -> dict[str, float]:
    """Return what became of the time between two readings; nothing where none has passed."""
    if before is None:
        return {}
    spent = [max(0, new - old) for old, new in zip(before, after, strict=False)]  # the kernel lets some decrease
    whole = sum(spent[:8])  # what guests used is part of user and nice already
    if not whole:
        return {}
    told = {f"{mode}_percent": percent(part, whole) for mode, part in zip(MODES, spent, strict=False)}
    return told | {"cpu_percent": percent(whole - spent[3] - spent[4], whole)}


class Frequencies:
    """Clock rates by processor, MHz: of the frequency driver, or what /proc/cpuinfo says."""

    def __init__(self, proc: Proc, devices: Path = Path("/sys/devices/system/cpu")) -> None:
        self._proc = proc
        self._devices = devices
        self._asked = 0.0
        self._known: dict[str, float] = {}

    def now(self, now: float, names: list[str]) -> dict[str, float]:
        if not 0 <= now - self._asked < _FREQUENCY_EVERY:
            self._asked = now
            self._known = self._driver(names) or self._listed(now)
            if self._known:
                self._known["all"] = round(sum(self._known.values()) / len(self._known), 3)
        return self._known

    def _driver(self, names: list[str]) -> dict[str, float]:
        found = {}
        for name in names:
            try:
                text = (self._devices / f"cpu{name}/cpufreq/scaling_cur_freq").read_text()
                found[name] = int(text) / 1000
            except (OSError, ValueError):
                continue
        return found

    def _listed(self, now: float) -> dict[str, float]:
        found, name = {}, ""
        for line in self._proc.text("cpuinfo", now).split(b"\n"):
            key, _, value = line.partition(b":")
            if key.startswith(b"processor"):
                name = value.strip().decode()
            elif key.startswith(b"cpu MHz"):
                found[name] = float(value)
        return found


class Processors:
    """A record of all processors together and one of each, at each look."""

    def __init__(self, proc: Proc, frequencies: Frequencies | None = None) -> None:
        self._proc = proc
        self._frequencies = frequencies or Frequencies(proc)
        self._before: dict[str, Times] = {}

    async def look(self, now: float) -> list[dict[str, Any]]:
        before, self._before = self._before, parse(self._proc.text("stat", now))
        rates = self._frequencies.now(now, [name for name in self._before if name != "all"])
        return [
            {"cpu": name} | shares(before.get(name), times) | ({"frequency_mhz": rates[name]} if name in rates else {})
            for name, times in self._before.items()
        ]
