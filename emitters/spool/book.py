"""What is in the log, kept in memory: its segments, what is unsent, where the sources are, and the epoch."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from emitters.spool.spans import Spans

Positions = Mapping[str, Mapping[str, Any]]
"""By the name of an emitter's use: which part of its source, and where that is; None where it is to be forgotten."""


class Placed(NamedTuple):
    """A batch's place in the log: from the end of the batch before up to its own. `size` is of its text."""

    start: int
    end: int
    time: float
    records: int
    size: int


class Segment(msgspec.Struct, array_like=True):
    """One file of the log: its first position, the end of its last batch, and the bytes that it takes on the disk.

    `batches` are those that are unsent; the times are of the oldest of them (or one before it) and of the newest batch.
    """

    start: int
    end: int
    size: int
    batches: int = 0
    oldest: float = 0.0
    newest: float = 0.0

    @property
    def name(self) -> str:
        return segment_name(self.start)


def segment_name(start: int) -> str:
    return f"{start:016x}.log"


class Checkpoint(msgspec.Struct):
    """What each segment begins with: all that must outlive the segments before it."""

    epoch: int
    positions: dict[str, dict[str, Any]]
    unsent: list[tuple[int, int]]
    segments: list[Segment]
    version: int = 1


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Checkpoint).decode
_decode_positions = msgspec.json.Decoder(dict[str, dict[str, Any]]).decode
_decode_confirmed = msgspec.json.Decoder(list[tuple[int, int, int]]).decode


class Book:
    """The state of the log. What changes it here is durable already, or will be with the next write."""

    def __init__(self) -> None:
        self.epoch = 0
        self.positions: dict[str, dict[str, Any]] = {}
        self.unsent = Spans()
        self.segments: list[Segment] = []
        self.reached = 0  # the end of the newest batch

    @property
    def batches(self) -> int:
        """How many batches are unsent."""
        return sum(segment.batches for segment in self.segments) if self.unsent else 0

    @property
    def oldest(self) -> float | None:
        """The time of the oldest unsent batch, or of one shortly before it; None where nothing is unsent."""
        return min((one.oldest for one in self.segments if one.batches), default=None) if self.unsent else None

    def add(self, placed: Placed) -> None:
        """Note a batch in the newest segment."""
        segment = self.segments[-1]
        self.unsent.add(placed.start, placed.end)
        if not segment.batches:
            segment.oldest = placed.time
        segment.batches += 1
        segment.end = self.reached = placed.end
        segment.newest = max(segment.newest, placed.time)

    def remove(self, start: int, end: int, batches: int, time: float = 0.0) -> Segment | None:
        """Note that this stretch, which ends with a batch, is done with. Return its segment if that exists still."""
        segment = self.segment(end)
        if segment is not None:
            segment.batches = max(0, segment.batches - batches)
            if self.unsent and self.unsent.first[0] >= start:
                segment.oldest = max(segment.oldest, time)
        self.unsent.remove(start, end)
        return segment

    def move(self, positions: Positions) -> None:
        """Note where sources are."""
        for use, parts in positions.items():
            mine = self.positions.setdefault(use, {})
            mine |= parts
            for part in [part for part, value in mine.items() if value is None]:
                del mine[part]

    def segment(self, end: int) -> Segment | None:
        """Return the segment that the batch with this end is in."""
        place = bisect_right(self.segments, end - 1, key=lambda one: one.start) - 1
        return self.segments[place] if place >= 0 and end <= self.segments[place].end else None

    def following(self, position: int) -> Segment | None:
        """Return the segment that holds the first batch which ends after this position."""
        place = bisect_right(self.segments, position, key=lambda one: one.end)
        return next((one for one in self.segments[place:] if one.end > one.start), None)

    def needs(self, segment: Segment) -> bool:
        """Tell whether anything in a segment is unsent."""
        return segment.end > segment.start and self.unsent.touches(segment.start, segment.end)

    def checkpoint(self, most_spans: int) -> bytes:
        """Return all of this as the text of a frame, what is unsent in at most so many stretches."""
        return _encode(Checkpoint(self.epoch, self.positions, self.unsent.outline(most_spans), self.segments))

    def restore(self, text: bytes, sizes: Mapping[int, int]) -> bool:
        """Take a checkpoint's state, of segments that exist (`sizes` by start); return whether it is one."""
        try:
            found = _decode(text)
        except msgspec.MsgspecError:
            return False
        self.epoch, self.positions = found.epoch, found.positions
        self.segments = [one for one in found.segments if one.start in sizes]
        self.unsent = Spans(found.unsent)
        self.reached = max((one.end for one in found.segments), default=0)
        return True

    def apply_positions(self, text: bytes) -> None:
        self.move(_decode_positions(text))

    def apply_confirmed(self, text: bytes) -> None:
        for start, end, batches in _decode_confirmed(text):
            self.remove(start, end, batches)


def encode_positions(positions: Positions) -> bytes:
    return _encode(positions)


def encode_confirmed(confirmed: Sequence[tuple[int, int, int]]) -> bytes:
    """Return the text of what was confirmed: stretches and how many batches ended in each."""
    return _encode(confirmed)
