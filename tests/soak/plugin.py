"""What the soak plugs in: an emitter that counts, an analyzer that bears witness, an action that leaves a mark.

Each writes what it does to a file outside the system, before or while it does it: a line that was written stays,
whenever the process is killed.
"""

import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from exhaust.clock import Clock
from exhaust.plugins import (
    Action,
    Analyzer,
    Emitter,
    Inferring,
    Judgement,
    Outcome,
    Record,
    Settings,
    Tools,
)

WAITING, FLEETING = ("a", "b"), "c"
BEAT = "beat"
# While this file lies among the ledgers, records weigh so much: a disk's last bytes are soon gone.
HEAVY = "heavy"
_WEIGHT = "x" * 12_000
_TICK = 0.05
_TICKS_A_BEAT = 5
_LANES = 8
# Of one age, none is ever late: what an outage held up is judged as well, after what is newer.
_LONG_AGO = 1.0


def note(path: Path, line: str, *, durable: bool = False) -> None:
    """Append a line at once, whoever else does."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, line.encode() + b"\n")
        if durable:
            os.fsync(file)
    finally:
        os.close(file)


# Two emitters: of one the source can be read again, of the other what is not stored at once is gone. `yields.STREAM`
# has a line for each range of numbers, before they are yielded. `starts` has one for each stream at each start: its
# pid, and up to which number all were safe by then; of the other emitter, which cannot know, up to which all had been
# yielded.


class Counting(Settings, frozen=True, kw_only=True):
    """Where the ledgers are, and how many numbers each stream has a second."""

    folder: str
    rate: int


class Row:
    """The numbers of one stream, from the one that follows upon `last`."""

    def __init__(self, settings: Counting, stream: str, last: int) -> None:
        self.stream, self._last = stream, last
        self._each = max(1, round(settings.rate * _TICK))
        self._yields = Path(settings.folder) / f"yields.{stream}"
        self._heavy = Path(settings.folder) / HEAVY
        note(Path(settings.folder) / "starts", f"{os.getpid()} {stream} {last}")

    def next(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Write down which come next, and yield each with its fields."""
        first, self._last = self._last + 1, self._last + self._each
        note(self._yields, f"{first} {self._last}")
        weight = {"weight": _WEIGHT} if self._heavy.exists() else {}
        for number in range(first, self._last + 1):
            yield number, {"n": number, **weight}


async def count(settings: Counting, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
    """Count on from where each stream is known to be safe, and let lanes be lit and dark in turn."""
    rows = [Row(settings, stream, int(positions.get(stream, 0))) for stream in WAITING]
    beat, ticks = int(positions.get(BEAT, 0)), 0
    async for now in clock.every(_TICK):
        for row in rows:
            for number, fields in row.next():
                yield Record(_LONG_AGO, fields, row.stream, position=(row.stream, number))
        ticks += 1
        if ticks % _TICKS_A_BEAT == 0:
            beat += 1
            lane, lit = f"{beat % _LANES}", beat // _LANES % 2 == 1
            yield Record(now, {"lane": lane, "lit": lit}, BEAT, position=(BEAT, beat))


def _last_yielded(folder: Path, stream: str) -> int:
    try:
        return int((folder / f"yields.{stream}").read_text().split()[-1])
    except FileNotFoundError:
        return 0


async def measure(settings: Counting, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
    """Count on from what was yielded last."""
    row = Row(settings, FLEETING, _last_yielded(Path(settings.folder), FLEETING))
    async for _ in clock.every(_TICK):
        for _, fields in row.next():
            yield Record(_LONG_AGO, fields)


_NUMBER = {"n": "int: one more than the number before it", "weight": "string: what only takes room"}
_LANE = {"lane": "string: one of a few, in turn", "lit": "bool: what it was not the last time"}
COUNTER = Emitter("counter", Counting, count, streams={**dict.fromkeys(WAITING, _NUMBER), BEAT: _LANE}, waits=True)
METER = Emitter("meter", Counting, measure, streams={FLEETING: _NUMBER})


# The analyzer. Its file has a line for each record that it was shown.


class Witness(Inferring, frozen=True, kw_only=True):
    """Where it writes down what it is shown; the fact never opens."""

    file: str


class Judge:
    """Writes the number of each record down."""

    silence: float | None = None

    def __init__(self, settings: Witness, lists: Mapping[str, Any]) -> None:
        self._file = os.open(settings.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def judge(self, record: Mapping[str, Any], time: float, host: Mapping[str, Any]) -> Judgement:
        os.write(self._file, b"%d\n" % record["n"])
        return Judgement(opens=False, clears=True)


ANALYZER = Analyzer("witness", Witness, Judge)


# The action. Its file has a line for each time that it was done: what it was told, by whom it was done, and when.


class Mark(Settings, frozen=True, kw_only=True):
    """Which file, and what to write into it."""

    file: str
    key: str


async def mark(params: Mark, tools: Tools) -> Outcome:
    """Leave one line."""
    note(Path(params.file), f"{params.key} {os.getpid()} {time.monotonic_ns()}", durable=True)
    return Outcome(changed=True)


ACTION = Action("soak.mark", Mark, mark)
