"""What is sent late: read back from the log, oldest first, a little at a time."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import msgspec

from emitters.spool.book import Placed
from emitters.spool.frames import BATCH, Frame, Hole
from emitters.spool.scribe import Scribe, ask
from emitters.spool.segments import Log
from emitters.spool.spans import Spans
from exhaust.broker.interface import Publication
from exhaust.messages import Batch
from exhaust.routing import BACKLOG
from exhaust.wire import pack

Lost = Callable[[int, Hole], None]


class Head(msgspec.Struct, tag_field="kind", tag="batch/1"):
    """A batch without its records."""

    id: str
    time: float
    host: str
    emitter: str
    stream: str
    epoch: int
    seq: int
    dropped: dict[str, int] = {}
    forgone: list[tuple[int, int, int]] = []


_decode = msgspec.json.Decoder(Head).decode


def head(frame: Frame) -> Head:
    """Return a batch from the log without its records. Raises msgspec.MsgspecError where it is none."""
    return _decode(frame.body)


def late(frame: Frame) -> Publication:
    """Return the publication of a batch from the log. Raises msgspec.MsgspecError where it is none."""
    found = head(frame)
    empty = pack(Batch(**{name: getattr(found, name) for name in Head.__struct_fields__}))
    headers = {**empty.headers, "count": frame.records}
    return replace(empty, exchange=BACKLOG, body=frame.body, headers=headers)


class Backlog:
    """The batches that nobody is sending now.

    `lost` is told of each stretch that turns out to hold no batch: from the end of the batch before, and the hole.
    """

    def __init__(self, log: Log, scribe: Scribe, lost: Lost) -> None:
        self._log = log
        self._scribe = scribe
        self._lost = lost
        self._spans = Spans(log.book.unsent)
        self._read: deque[tuple[Placed, Frame]] = deque()

    def __bool__(self) -> bool:
        return bool(self._spans)

    def add(self, start: int, end: int) -> None:
        """Take what could not be sent; it comes before what is newer."""
        self._spans.add(start, end)
        if self._read and start < self._read[0][0].start:
            self._read.clear()

    def forget(self, start: int, end: int) -> None:
        """Drop what is in a stretch of the log."""
        self._spans.remove(start, end)

    async def next(self) -> tuple[Placed, Publication] | None:
        """Take the oldest batch; None where there is none any more. Raises OSError where it cannot be read."""
        while self._spans:
            if not self._read:
                await self._fill()
                continue
            placed, frame = self._read.popleft()
            if self._spans.covers(placed.start, placed.end):
                self._spans.remove(placed.start, placed.end)
                try:
                    return placed, late(frame)
                except msgspec.MsgspecError:  # whole, and yet no batch
                    self._lost(placed.start, Hole(frame.position, frame.end))
        return None

    async def _fill(self) -> None:
        """Read on from the oldest batch."""
        start, end = self._spans.first
        segment = self._log.book.following(start)
        position = max(start, segment.start) if segment is not None else end
        if segment is None or position >= end:
            self._give_up(start, Hole(start, end))
            return
        until = min(end, segment.end)
        while not self._read and position < until:
            found, position = await ask(self._scribe, partial(self._log.reader.read, segment, position, until))
            if not self._spans or self._spans.first[0] != start:  # something older has come back meanwhile
                return
            for one in found:
                if isinstance(one, Hole):
                    self._give_up(start, one)
                    start = one.end
                elif one.kind == BATCH:
                    self._read.append((Placed(start, one.end, one.time, one.records, len(one.body)), one))
                    start = one.end
        if not self._read:
            self._give_up(start, Hole(start, until))

    def _give_up(self, start: int, hole: Hole) -> None:
        self._spans.remove(start, hole.end)
        if start < hole.end:
            self._lost(start, hole)
