"""What passes through the network interfaces of this host, loopback included."""

import fcntl
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import Any

from emitters.measures.proc import ProcFile
from exhaust.plugins import Fields

NETWORK: Fields = {
    "interface": "string: its name",
    "up": "bool: whether it is switched on and has a carrier",
    "rx_bytes": "int: received since the interface was made, bytes",
    "rx_packets": "int: packets received since then",
    "rx_errors": "int: packets that came damaged since then",
    "rx_drops": "int: packets that came and were dropped since then",
    "tx_bytes": "int: sent since then, bytes",
    "tx_packets": "int: packets sent since then",
    "tx_errors": "int: packets that could not be sent since then",
    "tx_drops": "int: packets that were dropped instead of sent since then",
    # Rates are missing in an interface's first record, and in the one after its counters began anew.
    "rx_bytes_per_second": "double: received since the last record, bytes per second",
    "rx_packets_per_second": "double: packets received since the last record, per second",
    "rx_errors_per_second": "double: packets that came damaged since the last record, per second",
    "rx_drops_per_second": "double: packets that came and were dropped since the last record, per second",
    "tx_bytes_per_second": "double: sent since the last record, bytes per second",
    "tx_packets_per_second": "double: packets sent since the last record, per second",
    "tx_errors_per_second": "double: packets that could not be sent since the last record, per second",
    "tx_drops_per_second": "double: packets that were dropped instead of sent since the last record, per second",
}

# Where they stand in a line of /proc/net/dev.
_COLUMNS = {
    "rx_bytes": 0,
    "rx_packets": 1,
    "rx_errors": 2,
    "rx_drops": 3,
    "tx_bytes": 8,
    "tx_packets": 9,
    "tx_errors": 10,
    "tx_drops": 11,
}
_RATES = {counter: f"{counter}_per_second" for counter in _COLUMNS}
_SIOCGIFFLAGS = 0x8913  # see netdevice(7)
_UP_AND_RUNNING = 0x1 | 0x40

Totals = dict[str, int]


def parse(lines: Iterable[bytes]) -> Iterator[tuple[str, Totals]]:
    """Read the lines of /proc/net/dev: two of headings, then one of each interface."""
    for line in lines:
        name, colon, counters = line.partition(b":")
        if colon:
            values = counters.split()
            totals = {counter: int(values[column]) for counter, column in _COLUMNS.items()}
            yield name.strip().decode(errors="backslashreplace"), totals


def rates(before: Totals | None, after: Totals, seconds: float) -> dict[str, float]:
    """Return what was counted by the second; nothing where that is not known, or the counters began anew."""
    if before is None or seconds <= 0:
        return {}
    found = {}
    for name, value in after.items():
        if (more := value - before[name]) < 0:
            return {}
        found[_RATES[name]] = round(more / seconds, 2)
    return found


class Interfaces:
    """A record of each interface at each look; of those whose names match `patterns`, if there are any."""

    def __init__(self, patterns: Sequence[str], opened: ExitStack) -> None:
        self._patterns = patterns
        self._counters = ProcFile("/proc/net/dev", opened)
        self._socket = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self._time = 0.0
        self._before: dict[str, Totals] = {}

    async def look(self, now: float) -> list[dict[str, Any]]:
        found = {name: totals for name, totals in parse(self._counters.lines()) if self._is_chosen(name)}
        seconds, before = now - self._time, self._before
        self._time, self._before = now, found
        return [
            {"interface": name} | self._up(name) | totals | rates(before.get(name), totals, seconds)
            for name, totals in found.items()
        ]

    def _is_chosen(self, name: str) -> bool:
        return not self._patterns or any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def _up(self, name: str) -> dict[str, bool]:
        try:
            answer = fcntl.ioctl(self._socket, _SIOCGIFFLAGS, struct.pack("40s", name.encode()))
        except OSError:  # it has just been taken away
            return {}
        flags: int = struct.unpack_from("H", answer, 16)[0]
        return {"up": flags & _UP_AND_RUNNING == _UP_AND_RUNNING}
