"""What was written down outside the system: numbers yielded, numbers that arrived, effects, starts of the service."""

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.soak.plugin import FLEETING, WAITING

Range = tuple[int, int]


class Numbers:
    """A set of numbers as the ranges that it has, and how many came again."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self.ranges: list[Range] = []
        self.duplicates = 0
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add a number, or a range with both its ends."""
        last = first if last is None else last
        low = bisect.bisect_left(self.ranges, first - 1, key=lambda one: one[1])
        high = bisect.bisect_right(self.ranges, last + 1, key=lambda one: one[0])
        for a, b in self.ranges[low:high]:
            self.duplicates += max(0, min(last, b) - max(first, a) + 1)
        if low < high:
            first, last = min(first, self.ranges[low][0]), max(last, self.ranges[high - 1][1])
        self.ranges[low:high] = [(first, last)]

    @property
    def highest(self) -> int:
        return self.ranges[-1][1] if self.ranges else 0

    @property
    def lowest(self) -> int:
        return self.ranges[0][0] if self.ranges else 1

    def up_to(self, last: int) -> int:
        """Return the highest number that is not above `last`, 0 if there is none."""
        below = bisect.bisect_right(self.ranges, last, key=lambda one: one[0])
        return min(last, self.ranges[below - 1][1]) if below else 0

    def missing(self, last: int, first: int = 1) -> list[Range]:
        """Return what is not there of `first` to `last`."""
        found, after = [], first - 1
        for begin, end in self.ranges[bisect.bisect_left(self.ranges, first, key=lambda one: one[1]) :]:
            if begin > after + 1 and after < last:
                found.append((after + 1, min(begin - 1, last)))
            after = max(after, end)
        return [*found, (after + 1, last)] if after < last else found


def count(ranges: Iterable[Range]) -> int:
    """Return how many numbers ranges hold."""
    return sum(last - first + 1 for first, last in ranges)


def ranges(numbers: Iterable[int]) -> list[Range]:
    """Return numbers, in whatever order, as ranges."""
    return Numbers((number, number) for number in dict.fromkeys(numbers)).ranges


class Tail:
    """The lines of a file that have been completed since they were asked for last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def lines(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode().splitlines()


class Batch(NamedTuple):
    """A batch as it came to somebody outside: `dropped` is what it says of records given up, by reason.

    `forgone` are batches of its stream that were: the epoch, the first and the last number of each stretch.
    """

    emitter: str
    stream: str
    epoch: int
    seq: int
    numbers: tuple[Range, ...]
    dropped: Mapping[str, int]
    forgone: Sequence[Sequence[int]] = ()


class Effect(NamedTuple):
    """One doing of the action, as the action wrote it down; `time` is seconds since boot."""

    key: str
    pid: int
    time: float


class Start(NamedTuple):
    """One start of the kept service, as it wrote it down."""

    pid: int
    time: float


@dataclass
class Stream:
    """One stream of numbers: up to where it was yielded, and what came of it to whom.

    `starts` are the numbers that its emitter's starts began after. Of one that `waits` all up to there were safe.
    """

    waits: bool = True
    yielded: int = 0
    starts: list[int] = field(default_factory=list)
    witnessed: Numbers = field(default_factory=Numbers)
    heard: Numbers = field(default_factory=Numbers)
    dropped: Counter[str] = field(default_factory=Counter)
    batches: dict[tuple[int, int], tuple[Range, ...]] = field(default_factory=dict)
    forgone: dict[int, Numbers] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> list[Range]:
        """What was surely in the spool, or told as dropped.

        Numbers are yielded one after the other: what came proves that those before it were taken too, since the start.
        """
        if self.waits:
            return [(1, max([*self.starts, self.witnessed.highest, self.heard.highest]))]
        ends = [*self.starts[1:], self.yielded]
        reached = (max(self.witnessed.up_to(end), self.heard.up_to(end)) for end in ends)
        return [(after + 1, last) for after, last in zip(self.starts, reached, strict=False) if last > after]

    def missing(self, seen: Numbers) -> list[Range]:
        """Return what was accepted and not seen."""
        return [gap for first, last in self.accepted for gap in seen.missing(last, first)]

    @property
    def duplicates(self) -> int:
        return self.witnessed.duplicates + self.heard.duplicates

    def hear(self, batch: Batch) -> None:
        """Take a batch; one that comes again must be the same."""
        number = (batch.epoch, batch.seq)
        known = self.batches.get(number)
        if known is None:
            self.batches[number] = batch.numbers
            self.dropped.update(batch.dropped)
            for epoch, begin, end in batch.forgone:
                self.forgone.setdefault(epoch, Numbers()).add(begin + 1, end + 1)
        elif known != batch.numbers:
            self.conflicts.append(f"epoch {batch.epoch} seq {batch.seq} held {known}, then {batch.numbers}")
        for first, last in batch.numbers:
            self.heard.add(first, last)


class Ledgers:
    """All of them, read on from the files of one folder: see `tests.soak.plugin` for who writes what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.streams = {name: Stream(name in WAITING) for name in (*WAITING, FLEETING)}
        self.effects: list[Effect] = []
        self.starts: list[Start] = []
        self._tails: dict[str, Tail] = {}

    def hear(self, batch: Batch) -> None:
        """Take a batch that came to somebody outside."""
        if batch.stream in self.streams:
            self.streams[batch.stream].hear(batch)

    def read(self) -> None:
        """Read on; what came is read before what was yielded, so that nothing seems to come from nowhere."""
        for name, stream in self.streams.items():
            for (number,) in self._words(f"witness.{name}"):
                stream.witnessed.add(int(number))
            for _, last in self._words(f"yields.{name}"):
                stream.yielded = max(stream.yielded, int(last))
        for _, name, number in self._words("starts"):
            if name in self.streams:
                self.streams[name].starts.append(int(number))
        self.effects += [Effect(key, int(pid), int(time) / 1e9) for key, pid, time in self._words("effects")]
        self.starts += [Start(int(pid), float(time)) for pid, time in self._words("service")]

    @property
    def emitter_starts(self) -> int:
        """How often all emitters were started, and so told what is safe."""
        return min(len(stream.starts) for stream in self.streams.values())

    def _words(self, name: str) -> Iterator[list[str]]:
        tail = self._tails.setdefault(name, Tail(self.folder / name))
        return map(str.split, tail.lines())
