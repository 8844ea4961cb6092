"""Finds what has waited in the log for too long, and counts it."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial

import msgspec

from emitters.spool.backlog import head
from emitters.spool.book import Segment
from emitters.spool.frames import BATCH, Frame, Hole
from emitters.spool.parcels import Stream
from emitters.spool.scribe import Scribe, ask
from emitters.spool.segments import Log
from emitters.spool.spans import Spans


@dataclass
class Given:
    """What is unsent in a segment: records, numbers by epoch, and what its batches tell, which others have to tell now.

    Where it is `holed` not all of it can be read.
    """

    records: Counter[Stream] = field(default_factory=Counter)
    numbers: defaultdict[tuple[Stream, int], Spans] = field(default_factory=lambda: defaultdict(Spans))
    dropped: defaultdict[Stream, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    holed: bool = False


class Outdated:
    """Looks for sealed segments whose newest batch is older than `age` seconds."""

    def __init__(self, log: Log, scribe: Scribe, age: float) -> None:
        self._log = log
        self._scribe = scribe
        self._age = age

    def found(self, now: float) -> list[tuple[int, Segment]]:
        """Return such segments, each with the end of the last batch before it."""
        segments = self._log.book.segments
        old = self._log.outdated(now - self._age)
        return [(max((before.end for before in segments if before.start < one.start), default=0), one) for one in old]

    async def look(self, segment: Segment) -> Given:
        """Return what is unsent in a segment. Raises OSError."""
        given = Given()
        position = segment.start
        while position < segment.end:
            found, position = await ask(self._scribe, partial(self._log.reader.read, segment, position, segment.end))
            for one in found:
                self._add(one, given)
        return given

    def _add(self, one: Frame | Hole, given: Given) -> None:
        if isinstance(one, Hole):
            given.holed = True
            for emitter, stream, count in one.lost:
                given.records[emitter, stream] += count
        elif one.kind == BATCH and self._log.book.unsent.covers(one.position, one.end):
            try:
                batch = head(one)
            except msgspec.MsgspecError:
                given.holed = True
                return
            name = (batch.emitter, batch.stream)
            given.records[name] += one.records
            given.dropped[name].update(batch.dropped)
            for epoch, first, last in [*batch.forgone, (batch.epoch, batch.seq, batch.seq)]:
                given.numbers[name, epoch].add(first, last + 1)

    def give_up(self, start: int, segment: Segment, given: Given) -> list[Segment]:
        """Let batches to come tell of what was in a segment; return the segments that nobody needs any more."""
        book = self._log.book
        for (stream, epoch), spans in given.numbers.items():
            for first, end in spans:
                book.forgone.add(stream, (epoch, first, end - 1))
        for stream, reasons in given.dropped.items():
            book.dropped.add(stream, reasons)
        return self._log.give_up(start, segment.end, segment.batches, lost=given.holed)
