"""The ends of processes by the kernel's statistics of their threads: in place of the accounting file, or beside it."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from emitters.exits.pacct import ending, flagged, text
from emitters.kernel import taskstats
from emitters.kernel.channel import Channel
from emitters.kernel.netlink import MalformedError
from emitters.kernel.taskstats import Ended
from emitters.measures.users import Users

log = logging.getLogger(__name__)

_REST = 0.5  # seconds for which ends may gather in the kernel: it has room for thousands
_MOST = 20_000  # processes of which threads have ended, or which wait to be asked for

# What is summed up over a process's threads, by the field that it becomes.
_SUMS = {
    "user_seconds": "user",
    "system_seconds": "system",
    "minor_faults": "minor_faults",
    "major_faults": "major_faults",
    "cpu_delay_seconds": "cpu_delay",
    "block_delay_seconds": "block_delay",
    "swapin_delay_seconds": "swapin_delay",
    "reclaim_delay_seconds": "reclaim_delay",
    "read_characters": "read_characters",
    "write_characters": "write_characters",
    "read_bytes": "read_bytes",
    "write_bytes": "write_bytes",
    "cancelled_bytes": "cancelled_bytes",
    "voluntary_switches": "voluntary",
    "involuntary_switches": "involuntary",
}

FIELDS = {
    "nice": "int: its nice value at its end, -20 to 19 (by the statistics, as all that follows; root only)",
    "cpu_delay_seconds": "double: for how long its threads waited for a processor, seconds",
    "block_delay_seconds": "double: for how long they waited for disks, seconds; 0 unless kernel.task_delayacct is on",
    "swapin_delay_seconds": "double: for how long they waited for pages to be swapped in, seconds; likewise",
    "reclaim_delay_seconds": "double: for how long they waited for memory to be freed, seconds; likewise",
    "read_characters": "int: what it read from files, pipes and sockets, bytes; each thread's rounded down to 1024",
    "write_characters": "int: what it wrote to files, pipes and sockets, bytes; likewise",
    "read_bytes": "int: what it made be read from disks, bytes; likewise",
    "write_bytes": "int: what it made be written to disks, bytes; likewise",
    "cancelled_bytes": "int: of that, what never had to be written as the file was truncated, bytes; likewise",
    "voluntary_switches": "int: how often its threads gave up the processor to wait for something",
    "involuntary_switches": "int: how often the processor was taken from them",
    "resident_peak_bytes": "int: the most resident memory that it ever had, bytes",
    "virtual_peak_bytes": "int: the most virtual memory that it ever had, bytes",
    "threads_ended": "int: its threads that ended since this emitter started, the last one included",
}


class Statistics:
    """Puts together what the threads of each process have used, until the last of them ends. Raises OSError."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._socket, self._family = taskstats.listen()
        self._channel = Channel(self._socket, arrived, rest=_REST)
        self._told = False
        self._partly: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def close(self) -> None:
        try:
            taskstats.ignore(self._socket, self._family)
        finally:
            self._channel.close()

    def lost(self) -> int:
        return self._channel.lost()

    def take(self) -> list[tuple[Ended, dict[str, Any]]]:
        """Return the processes that have ended: the last thread of each, and the sums over all of them."""
        found = []
        for datagram in self._channel.take():
            try:
                for thread in taskstats.ended(datagram, self._family):
                    sums = self._add(thread)
                    if thread.last:
                        found.append((thread, self._partly.pop(thread.process, sums)))
            except MalformedError as exc:
                if not self._told:
                    log.warning("the kernel's statistics cannot be read", extra={"error": str(exc)})
                self._told = True
        return found

    def _add(self, thread: Ended) -> dict[str, Any]:
        sums = self._partly.setdefault(thread.process, {"threads_ended": 0, **dict.fromkeys(_SUMS, 0)})
        for field, name in _SUMS.items():
            sums[field] += getattr(thread, name)
        sums["threads_ended"] += 1
        sums["nice"] = thread.nice
        sums["resident_peak_bytes"], sums["virtual_peak_bytes"] = thread.resident_peak, thread.virtual_peak
        if len(self._partly) > _MOST:
            self._partly.popitem(last=False)
        return sums


def whole(thread: Ended, sums: dict[str, Any], users: Users, groups: Users) -> dict[str, Any]:
    """Return the fields of a process by its statistics alone."""
    return {
        "source": "taskstats",
        "command": text(thread.command),
        "pid": thread.process,
        "ppid": thread.ppid,
        "uid": thread.uid,
        "user": users.name(thread.uid),
        "gid": thread.gid,
        "group": groups.name(thread.gid),
        "began": thread.began,
        "elapsed_seconds": thread.elapsed,
        **ending(thread.exited),
        **flagged(thread.flags),
        "version": thread.version,
        **_rounded(sums),
    }


def beside(sums: dict[str, Any]) -> dict[str, Any]:
    """Return what the statistics say beyond the accounting file."""
    return {name: value for name, value in _rounded(sums).items() if name in FIELDS}


def _rounded(sums: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 9) if isinstance(value, float) else value for name, value in sums.items()}
