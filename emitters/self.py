"""The emitters themselves: how each of them fares, what it costs, and what their process takes altogether."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from time import process_time
from typing import Annotated, Any

import msgspec

from emitters.measures.proc import ProcFile
from exhaust.clock import Clock
from exhaust.plugins import Emitter, Fields, Record, Settings
from exhaust.settings import Duration

EMITTERS: Fields = {
    "emitter": "string: which one, as status names it: service, and of a second use of the same service/2",
    "running": "bool: whether it works; if not, it failed and is started again after a pause",
    "records": "int: records that it has yielded since this process began",
    "records_per_second": "double: records since the last look, per second; not in the first one",
    "batches": "int: batches of its records that were stored since this process began, of all its uses together",
    "lag_seconds": "double: age of its newest record, by the record's own time, seconds; missing before there is one",
    "dropped": "map: records that went no further since this process began, of all its uses together, by reason",
    "dropped_per_second": "double: such records since the last look, per second; not in the first one",
    "restarts": "int: how often it was started again since this process began",
    "last_error": "string: why it failed last; empty while it has been well for a while",
    "cpu_percent": "double: what it used since the last look, percent of one processor, the encoding of its records "
    "included, but not its threads nor what sockets call directly; not in the first one",
}
PROCESS: Fields = {
    "pid": "int: the process in which the emitters run",
    "cpu_percent": "double: what it used since the last look, percent of one processor; not in the first one",
    "memory_bytes": "int: its resident memory, bytes",
    "threads": "int: its threads",
    "spool_batches": "int: batches that are stored and not yet confirmed by the broker",
    "spool_bytes": "int: what these are, bytes",
    "spool_disk_bytes": "int: what the spool takes on disk, bytes",
    "spool_seconds": "double: age of the oldest batch that is not confirmed, seconds; 0 where there is none",
    "dropped": "map: records of all emitters that went no further since this process began, by reason",
}

Ask = Callable[[], Mapping[str, Any]]
"""Returns the runner's status: `emitters` by name, and `spool`."""


class Itself(Settings, frozen=True, kw_only=True):
    """How often to look."""

    every: Annotated[Duration, msgspec.Meta(ge=0.1)] = 10.0


class Look:
    """What was counted when it was looked last, so that rates can be told."""

    def __init__(self, opened: ExitStack) -> None:
        self._statm = ProcFile("/proc/self/statm", opened)
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._time: float | None = None
        self._counts: dict[str, tuple[int, int, float]] = {}
        self._used = 0.0

    def emitters(self, status: Mapping[str, Any], now: float) -> list[dict[str, Any]]:
        """Return a record of each use of an emitter."""
        seconds = 0.0 if self._time is None else now - self._time
        before, self._counts = self._counts, {}
        return [self._emitter(name, one, now, seconds, before.get(name)) for name, one in status.items()]

    def _emitter(
        self, name: str, one: Mapping[str, Any], now: float, seconds: float, before: tuple[int, int, float] | None
    ) -> dict[str, Any]:
        known = ("running", "records", "batches", "dropped", "restarts", "last_error")
        told = {"emitter": name} | {key: one[key] for key in known}
        if one["last_time"] is not None:
            told["lag_seconds"] = round(max(0.0, now - one["last_time"]), 3)
        after = self._counts[name] = one["records"], sum(one["dropped"].values()), one["cpu_seconds"]
        if before is not None and seconds > 0:
            records, dropped, cpu = ((new - old) / seconds for new, old in zip(after, before, strict=True))
            told["records_per_second"], told["dropped_per_second"] = round(records, 2), round(dropped, 2)
            told["cpu_percent"] = round(100 * cpu, 3)
        return told

    def process(self, spool: Mapping[str, Any], now: float) -> dict[str, Any]:
        """Return the record of the whole process; without a spool it is looked at alone."""
        told: dict[str, Any] = {
            "pid": os.getpid(),
            "memory_bytes": int(self._statm.read().split()[1]) * self._page,
            "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208  only how many
        }
        if spool:
            told |= {"spool_batches": spool["unsent"], "spool_bytes": spool["bytes"], "spool_disk_bytes": spool["disk"]}
            told |= {"spool_seconds": round(spool["oldest"] or 0.0, 3), "dropped": spool["dropped"]}
        before, self._used, time, self._time = self._used, process_time(), self._time, now
        if time is not None and now > time:
            told["cpu_percent"] = round(100 * (self._used - before) / (now - time), 3)
        return told


def alone() -> Mapping[str, Any]:
    """The status where no runner tells one, as under `exhaust try`."""
    return {"emitters": {}, "spool": {}}


async def emit(settings: Itself, clock: Clock, positions: Mapping[str, Any], *, ask: Ask) -> AsyncIterator[Record]:
    with ExitStack() as opened:
        look = Look(opened)
        async for now in clock.every(settings.every):
            status = ask()
            for fields in look.emitters(status["emitters"], now):
                yield Record(now, fields, "emitter")
            yield Record(now, look.process(status["spool"], now), "process")


EMITTER = Emitter("self", Itself, partial(emit, ask=alone), {"emitter": EMITTERS, "process": PROCESS})


def seeing(emitter: Emitter[Any], ask: Ask) -> Emitter[Any]:
    """Return an emitter as the runner has it: this one sees the others."""
    return replace(emitter, emit=partial(emit, ask=ask)) if emitter is EMITTER else emitter
