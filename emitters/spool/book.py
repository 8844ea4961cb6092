"""What is in the log, kept in memory: its segments, what is unsent, where the sources are, and the epoch."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from emitters.spool.dropped import Dropped
from emitters.spool.dropped import Row as DroppedRow
from emitters.spool.forgone import Forgone, Row
from emitters.spool.frames import Numbered
from emitters.spool.spans import Spans

T = TypeVar("T")
Positions = Mapping[str, Mapping[str, Any]]
"""By the name of an emitter's use: which part of its source, and where that is; None where it is to be forgotten."""
UNASKED = 7 * 86_400.0
"""After so many seconds nobody is expected to ask for positions any more."""


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
    `numbers` are, by emitter and stream, the first and the last number of `epoch` that it holds; where it is `holed`,
    something of them was given up.
    """

    start: int
    end: int
    size: int
    batches: int = 0
    oldest: float = 0.0
    newest: float = 0.0
    epoch: int = 0
    numbers: dict[str, dict[str, tuple[int, int]]] = {}
    holed: bool = False

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
    used: dict[str, dict[str, int]] = {}
    forgone: list[Row] = []
    asked: dict[str, float] = {}
    dropped: list[DroppedRow] = []


class Untold(msgspec.Struct):
    """What batches have still to tell: dropped records, and numbers that were given up, unless those are as before."""

    dropped: list[DroppedRow]
    forgone: list[Row] | None = None


class Bounds(NamedTuple):
    """How much a checkpoint may hold: stretches of what is unsent, streams' numbers, rows of what is untold."""

    spans: int
    numbers: int
    forgone: int
    dropped: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Checkpoint).decode
_decode_untold = msgspec.json.Decoder(Untold).decode
_decode_positions = msgspec.json.Decoder(dict[str, dict[str, Any]]).decode


class Done(NamedTuple):
    """A stretch of the log that is done with, how many batches ended in it, and whether they were given up."""

    start: int
    end: int
    batches: int
    lost: bool = False


_decode_confirmed = msgspec.json.Decoder(list[Done]).decode


class Book:
    """The state of the log. What changes it here is durable already, or will be with the next write.

    `used` is, by emitter and stream, how many numbers of the epoch are used up; `forgone` those that were given up,
    `dropped` records that were: what no batch has told of.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.used: dict[str, dict[str, int]] = {}
        self.forgone = Forgone()
        self.dropped = Dropped()
        self.positions: dict[str, dict[str, Any]] = {}
        self._asked: dict[str, float] = {}  # when positions were last asked for, or that was first noted
        self._in_use: set[str] = set()
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

    def begin(self, epoch: int) -> None:
        """Begin an epoch, in which nothing is numbered yet."""
        self.epoch, self.used = epoch, {}

    def add(self, placed: Placed, number: Numbered | None = None) -> None:
        """Note a batch in the newest segment."""
        segment = self.segments[-1]
        self.unsent.add(placed.start, placed.end)
        if not segment.batches:
            segment.oldest = placed.time
        segment.batches += 1
        segment.end = self.reached = placed.end
        segment.newest = max(segment.newest, placed.time)
        if number is not None:
            self._count(segment, number)

    def _count(self, segment: Segment, number: Numbered) -> None:
        """Note a number in a segment; it has those as well that are missing before it, which were garbled there."""
        if number.epoch > self.epoch:
            self.begin(number.epoch)
        used = self.used.setdefault(number.emitter, {})
        mine = segment.numbers.setdefault(number.emitter, {})
        first = mine[number.stream][0] if number.stream in mine else used.get(number.stream, 0)
        mine[number.stream] = (min(first, number.seq), number.seq)
        segment.epoch, used[number.stream] = number.epoch, number.seq + 1

    def remove(self, done: Done, time: float = 0.0) -> Segment | None:
        """Note that this stretch, which ends with a batch, is done with. Return its segment if that exists still."""
        segment = self.segment(done.end)
        if segment is not None:
            segment.batches = max(0, segment.batches - done.batches)
            segment.holed = segment.holed or done.lost
            if self.unsent and self.unsent.first[0] >= done.start:
                segment.oldest = max(segment.oldest, time)
        self.unsent.remove(done.start, done.end)
        return segment

    def forgo(self, segment: Segment) -> None:
        """Note that numbers of a segment, with which all is done, will never be sent where something was given up.

        All of them: for those that were sent nobody waits.
        """
        if not segment.holed:
            return
        for emitter, streams in segment.numbers.items():
            for stream, (first, last) in streams.items():
                self.forgone.add((emitter, stream), (segment.epoch, first, last))

    def move(self, positions: Positions) -> None:
        """Note where sources are."""
        for use, parts in positions.items():
            mine = self.positions.setdefault(use, {})
            mine |= parts
            for part in [part for part, value in mine.items() if value is None]:
                del mine[part]

    def ask(self, use: str, now: float) -> Mapping[str, Any]:
        """Return where the source of a use is: it changes as that advances."""
        self._in_use.add(use)
        self._asked[use] = now
        return self.positions.setdefault(use, {})

    def attend(self, now: float) -> list[str]:
        """Forget the positions that nobody has asked for in so long that nobody will; return whose they were."""
        self._asked |= dict.fromkeys(self._in_use | (self.positions.keys() - self._asked.keys()), now)
        unasked = [use for use, asked in self._asked.items() if asked < now - UNASKED]
        for use in unasked:
            self._forget(use)
        return unasked

    def shorten(self) -> str:
        """Forget the positions that were not asked for longest, the longest of such; return whose they were.

        What this life has asked for is kept: then nobody is returned.
        """
        others = self.positions.keys() - self._in_use
        use = min(others, key=lambda one: (self._asked.get(one, 0.0), -len(_encode(self.positions[one]))), default="")
        self._forget(use)
        return use

    def _forget(self, use: str) -> None:
        self.positions.pop(use, None)
        self._asked.pop(use, None)

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

    def checkpoint(self, most: Bounds) -> bytes:
        """Return all of this as the text of a frame."""
        checkpoint = Checkpoint(
            self.epoch,
            self.positions,
            self.unsent.outline(most.spans),
            self._outline(most.numbers),
            used=self.used,
            forgone=_last(self.forgone.rows, most.forgone),
            asked=self._asked,
            dropped=_last(self.dropped.rows, most.dropped),
        )
        return _encode(checkpoint)

    def _outline(self, most: int) -> list[Segment]:
        """Return the segments, the newest with their numbers: those of `most` streams in all."""
        segments = []
        for segment in reversed(self.segments):
            most -= sum(map(len, segment.numbers.values()))
            segments.append(segment if most >= 0 else msgspec.structs.replace(segment, numbers={}))
        return segments[::-1]

    @property
    def changes(self) -> tuple[int, int]:
        """How often something untold came, dropped and forgone."""
        return self.dropped.changes, self.forgone.changes

    def untold(self, most: Bounds, *, forgone: bool) -> bytes:
        """Return what is untold as the text of a frame, what is `forgone` only if that is asked for."""
        rows = _last(self.forgone.rows, most.forgone) if forgone else None
        return _encode(Untold(_last(self.dropped.rows, most.dropped), rows))

    def restore(self, text: bytes) -> bool:
        """Take a checkpoint's state; return whether it is one."""
        try:
            found = _decode(text)
        except msgspec.MsgspecError:
            return False
        self.epoch, self.positions, self._asked = found.epoch, found.positions, found.asked
        self.segments, self.used = found.segments, found.used
        self.unsent, self.forgone, self.dropped = Spans(found.unsent), Forgone(found.forgone), Dropped(found.dropped)
        self.reached = max((one.end for one in found.segments), default=0)
        return True

    def apply_positions(self, text: bytes) -> None:
        self.move(_decode_positions(text))

    def apply_confirmed(self, text: bytes) -> None:
        for done in _decode_confirmed(text):
            self.remove(done)

    def apply_untold(self, text: bytes) -> None:
        untold = _decode_untold(text)
        self.dropped.restore(untold.dropped)
        if untold.forgone is not None:
            self.forgone.restore(untold.forgone)


def _last(rows: list[T], most: int) -> list[T]:
    return rows[max(0, len(rows) - most) :]


def encode_positions(positions: Positions) -> bytes:
    return _encode(positions)


def encode_confirmed(confirmed: Sequence[Done]) -> bytes:
    """Return the text of what was confirmed, or given up."""
    return _encode(confirmed)
