"""What was written down outside the system: numbers yielded, numbers that arrived, effects, starts of the service."""

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

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

    def missing(self, last: int) -> list[Range]:
        """Return what is not there of 1 to `last`."""
        found, after = [], 0
        for first, end in self.ranges:
            if first > after + 1 and after < last:
                found.append((after + 1, min(first - 1, last)))
            after = end
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
    """A batch as it came to somebody outside: `dropped` is what it says of records given up, by reason."""

    emitter: str
    stream: str
    epoch: int
    seq: int
    numbers: tuple[Range, ...]
    dropped: Mapping[str, int]


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
    """One stream of numbers: up to where it was yielded and is safe, and what came of it to whom."""

    yielded: int = 0
    safe: int = 0
    witnessed: Numbers = field(default_factory=Numbers)
    heard: Numbers = field(default_factory=Numbers)
    dropped: Counter[str] = field(default_factory=Counter)
    batches: dict[tuple[int, int], tuple[Range, ...]] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """The highest number that was surely in the spool.

        That the emitter was told that it is, or that it came: numbers are yielded one after the other, so that all
        before it were accepted too.
        """
        return max(self.safe, self.witnessed.highest, self.heard.highest)

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
        elif known != batch.numbers:
            self.conflicts.append(f"epoch {batch.epoch} seq {batch.seq} held {known}, then {batch.numbers}")
        for first, last in batch.numbers:
            self.heard.add(first, last)


class Ledgers:
    """All of them, read on from the files of one folder: see `tests.soak.plugin` for who writes what."""

    def __init__(self, folder: Path, streams: Iterable[str]) -> None:
        self.folder = folder
        self.streams = {name: Stream() for name in streams}
        self.emitter_starts = 0
        self.effects: list[Effect] = []
        self.starts: list[Start] = []
        self._witnesses = {name: Tail(folder / f"witness.{name}") for name in self.streams}
        self._tails = {name: Tail(folder / name) for name in ("starts", "yields", "effects", "service")}

    def hear(self, batch: Batch) -> None:
        """Take a batch that came to somebody outside."""
        if batch.emitter == "numbers" and batch.stream in self.streams:
            self.streams[batch.stream].hear(batch)

    def read(self) -> None:
        """Read on; what came is read before what was yielded, so that nothing seems to come from nowhere."""
        for name, tail in self._witnesses.items():
            for line in tail.lines():
                self.streams[name].witnessed.add(int(line))
        for words in self._words("yields"):
            self.streams[words[0]].yielded = max(self.streams[words[0]].yielded, int(words[2]))
        for _, name, number in self._words("starts"):
            if name in self.streams:
                self.streams[name].safe = max(self.streams[name].safe, int(number))
            else:
                self.emitter_starts += 1  # the stream told last is none of those that are counted
        self.effects += [Effect(key, int(pid), int(time) / 1e9) for key, pid, time in self._words("effects")]
        self.starts += [Start(int(pid), float(time)) for pid, time in self._words("service")]

    def _words(self, name: str) -> Iterator[list[str]]:
        return map(str.split, self._tails[name].lines())
