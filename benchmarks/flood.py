"""The plug-ins that benchmarks plug in: an emitter of metric records, as many as it is let, and an action on faults.

A fault is a record with a `subject` of its own, named after the moment (in µs) at which it was meant to be made. The
action writes down when it began; the emitter reads that, and says at once that the fault is gone.
"""

import asyncio
import mmap
import os
import struct
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from exhaust.clock import Clock
from exhaust.plugins import Action, Emitter, Outcome, Record, Settings, Tools

FIELDS: Final = ("busy", "user", "system", "waiting", "stolen")
_DEVICES: Final = tuple(f"cpu{number:02}" for number in range(20))
_FIGURES: Final = tuple(tuple(round(step * share, 2) for share in (1.11, 0.91, 0.37, 0.23)) for step in range(1, 90))
_SPIKE_EVERY: Final = 100_000
_SPIKE: Final = 100.0
_AT_ONCE: Final = 500
_LOOK_AGAIN: Final = 0.005
_WORD: Final = struct.Struct("=d")
_SLUICE, _ACTED = "sluice", "acted"


class Sluice:
    """A few numbers in a file that the benchmark and its emitter both have mapped. Open with `with`.

    Records flow until there were `allowed` of them: as fast as they can while `rate` is 0, else so many a second, each
    at its own moment; `faults` a second are among these, as long as fewer than `most` are open. `emitted`, `faulted`
    and `gone` are what there was.
    """

    _NAMES: Final = ("allowed", "rate", "faults", "most", "emitted", "faulted", "gone")

    def __init__(self, folder: Path) -> None:
        self._path = folder / _SLUICE
        self.acted = folder / _ACTED

    def __enter__(self) -> Self:
        size = _WORD.size * len(self._NAMES)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(file).st_size < size:
                os.truncate(file, size)
            self._words = mmap.mmap(file, size)
        finally:
            os.close(file)
        self.acted.touch()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._words.close()

    def get(self, name: str) -> float:
        return float(_WORD.unpack_from(self._words, self._NAMES.index(name) * _WORD.size)[0])

    def set(self, **numbers: float) -> None:
        for name, number in numbers.items():
            _WORD.pack_into(self._words, self._NAMES.index(name) * _WORD.size, number)

    @property
    def open(self) -> int:
        """How many faults there were that are not gone yet."""
        return int(self.get("faulted") - self.get("gone"))


class Metric(Settings, frozen=True, kw_only=True):
    """`folder` is where the sluice is."""

    folder: str


class Source:
    """What is to be emitted now: the records that have come due, and the ends of the faults that were acted upon."""

    def __init__(self, sluice: Sluice) -> None:
        self._sluice = sluice
        self._pace = (0.0, 0.0)
        self._began = 0.0
        self._paced = 0
        self._number = int(sluice.get("emitted"))

    def records(self, acted: str, now: float) -> Iterator[Record]:
        sluice = self._sluice
        pace = (sluice.get("rate"), sluice.get("faults"))
        if pace != self._pace:
            self._pace, self._began, self._paced = pace, now, 0
        yield from self._due(*pace, now) if pace[0] else self._let(now)
        for line in acted.splitlines():
            sluice.set(gone=sluice.get("gone") + 1)
            yield Record(now, {"subject": line.partition(" ")[0], "state": "well"})
        sluice.set(emitted=self._number)

    def wait(self, now: float) -> float:
        """Return in how many seconds to look again."""
        rate, flows = self._pace[0], self._number < self._sluice.get("allowed")
        due = self._began + self._paced / rate if rate else now
        return max(0.0, min(due - now, _LOOK_AGAIN)) if flows else _LOOK_AGAIN

    def _let(self, now: float) -> Iterator[Record]:
        for _ in range(int(min(_AT_ONCE, self._sluice.get("allowed") - self._number))):
            yield Record(now, self._next())

    def _due(self, rate: float, faults: float, now: float) -> Iterator[Record]:
        allowed = self._sluice.get("allowed")
        while self._number < allowed and (due := self._began + self._paced / rate) <= now:
            self._paced += 1
            fields = self._next()
            turn = int(self._paced * faults / rate) > int((self._paced - 1) * faults / rate)
            if turn and self._sluice.open < self._sluice.get("most"):
                self._sluice.set(faulted=self._sluice.get("faulted") + 1)
                fields |= {"subject": str(round(due * 1e6)), "state": "faulty"}
            yield Record(due, fields)

    def _next(self) -> dict[str, Any]:
        self._number += 1
        fields = self.metric(self._number)
        if self._number % _SPIKE_EVERY == 0:
            fields[FIELDS[self._number // _SPIKE_EVERY % len(FIELDS)]] = _SPIKE
        return fields

    @staticmethod
    def metric(number: int) -> dict[str, Any]:
        """Return a record, 230 bytes as JSON with its time."""
        busy, user, system, waiting = _FIGURES[number % len(_FIGURES)]
        return {
            "metric": "processor.time", "unit": "percent", "device": _DEVICES[number % 20],
            "busy": busy, "user": user, "system": system, "waiting": waiting, "stolen": 0.11,
            "sample": number, "source": "/proc/stat", "interval": 1.0, "kernel": "6.1.0-40",
        }  # fmt: skip


async def emit(settings: Metric, clock: Clock, positions: Mapping[str, Any] | None = None) -> AsyncIterator[Record]:
    with Sluice(Path(settings.folder)) as sluice, sluice.acted.open() as acted:
        source, rest = Source(sluice), ""
        while True:
            lines, _, rest = (rest + acted.read()).rpartition("\n")
            for record in source.records(lines, clock.now()):
                yield record
            await asyncio.sleep(source.wait(clock.now()))


EMITTER = Emitter(
    "flood",
    Metric,
    emit,
    streams={
        "metric": {
            "metric": "string: what is measured",
            "unit": "string: of the figures",
            "device": "string: one of 20",
            **dict.fromkeys(FIELDS, "double: a share, percent"),
            "sample": "int: the number of the record",
            "source": "string: where it is read",
            "interval": "double: over which it was measured, seconds",
            "kernel": "string: the version of the system",
            "subject": "string: what is faulty",
            "state": "string: faulty, or well again",
        }
    },
)


class Fault(Settings, frozen=True, kw_only=True):
    """What is faulty, and where to write down that it was acted upon."""

    subject: str
    folder: str


async def answer(params: Fault, tools: Tools) -> Outcome:
    began = time.time()
    await tools.run(["/bin/true"])
    with (Path(params.folder) / _ACTED).open("a") as acted:
        acted.write(f"{params.subject} {began:.6f} {time.time():.6f}\n")
    return Outcome(changed=True)


ACTION = Action("flood.answer", Fault, answer, idempotent=True)
