"""The ends of processes by the kernel's process connector, with what /proc said of them while they ran.

The connector knows a pid and how it ended. The name, the user and the like are read when a process executes a program,
or is already there at the start; of one that was too short for that, or only forked, they are missing.
"""

import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from emitters.exits.pacct import ending, tty_name
from emitters.kernel import connector
from emitters.kernel.channel import Channel
from emitters.kernel.connector import EXEC, EXIT, Event
from emitters.kernel.netlink import MalformedError
from emitters.measures.users import Users

log = logging.getLogger(__name__)

_TICKS = os.sysconf("SC_CLK_TCK")
_MOST = 20_000
_UID, _GID = re.compile(rb"\nUid:\t([0-9]+)"), re.compile(rb"\nGid:\t([0-9]+)")
_REST = 0.1  # seconds for which ends may gather in the kernel


class Seen(NamedTuple):
    """What /proc says of a process: `began` is seconds since boot; `tty` its device, 0 if it has none."""

    command: str
    ppid: int
    tty: int
    began: float
    uid: int
    gid: int


def look(pid: int) -> Seen | None:
    """Look a process up; None if it is gone."""
    try:
        stat, status = text_of(pid, "stat"), text_of(pid, "status")
    except OSError:
        return None
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")
    values = rest.split()
    uid, gid = (int(found[1]) for found in (_UID.search(status), _GID.search(status)) if found)
    return Seen(
        name.decode(errors="backslashreplace"), int(values[1]), int(values[4]), int(values[19]) / _TICKS, uid, gid
    )


def text_of(pid: int, name: str, most: int = 4096) -> bytes:
    """Read what /proc has of a process by one call. Raises OSError where it is gone, or not for us."""
    opened = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(opened, most)
    finally:
        os.close(opened)


class Witnessed:
    """Follows executions and ends. Raises OSError where the connector cannot be had."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        with ExitStack() as unless:
            self._ends = connector.listen(EXIT)
            unless.callback(self._ends.close)
            # On a socket of its own, so that what is lost there does not count as an end.
            self._executions = connector.listen(EXEC)
            unless.pop_all()
        self._known: OrderedDict[int, Seen] = OrderedDict()
        self._executed = Channel(self._executions, self._note)
        self._ended = Channel(self._ends, arrived, rest=_REST)
        for entry in os.scandir("/proc"):
            if entry.name.isdecimal():
                self._remember(int(entry.name))

    def close(self) -> None:
        for opened, channel in ((self._executions, self._executed), (self._ends, self._ended)):
            with suppress(OSError):
                connector.ignore(opened)
            channel.close()

    def lost(self) -> int:
        return self._ended.lost()

    def take(self, users: Users, groups: Users) -> Iterator[tuple[float, dict[str, Any]]]:
        """Yield when each process ended, and the fields of its record."""
        boot = time.time() - time.monotonic()  # as the kernel counts these
        ends = [event for datagram in self._ended.take() for event in _events(datagram)]
        self._note()  # after the ends were taken: who has ended has executed before
        for end in ends:
            yield boot + end.at, self._fields(end, boot, users, groups)

    def _note(self) -> None:
        for datagram in self._executed.take():
            for event in _events(datagram):
                self._remember(event.pid)

    def _remember(self, pid: int) -> None:
        if (seen := look(pid)) is None:
            return
        self._known[pid] = seen
        self._known.move_to_end(pid)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def _fields(self, end: Event, boot: float, users: Users, groups: Users) -> dict[str, Any]:
        fields: dict[str, Any] = {"source": "connector", "pid": end.pid, **ending(end.exited)}
        fields |= {"killed": fields["exit"] < 0, "core_dumped": bool(end.exited & 0x80)}
        seen = self._known.pop(end.pid, None) or look(end.pid)
        if seen is None:
            return fields
        major, minor = os.major(seen.tty), os.minor(seen.tty)
        skew = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()  # `began` counts sleep, the events do not
        return fields | {
            "command": seen.command,
            "ppid": seen.ppid,
            "uid": seen.uid,
            "user": users.name(seen.uid),
            "gid": seen.gid,
            "group": groups.name(seen.gid),
            **({"tty": tty_name(major, minor)} if seen.tty else {}),
            "began": round(boot + seen.began - skew, 2),
            "elapsed_seconds": max(0.0, round(end.at - (seen.began - skew), 3)),
        }


def _events(datagram: bytes) -> Iterator[Event]:
    try:
        yield from connector.events(datagram)
    except MalformedError as exc:
        log.debug("an event cannot be read", extra={"error": str(exc)})
