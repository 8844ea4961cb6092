"""Finds what has waited in the log for too long, and counts it."""

from collections import Counter
from functools import partial

import msgspec

from emitters.spool.backlog import head
from emitters.spool.book import Segment
from emitters.spool.frames import BATCH, Frame, Hole
from emitters.spool.parcels import Stream
from emitters.spool.scribe import Scribe, ask
from emitters.spool.segments import Log


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

    async def count(self, segment: Segment) -> Counter[Stream]:
        """Return how many unsent records of each stream are in a segment. Raises OSError.

        What its unsent batches tell of numbers that were given up before them, others have to tell now.
        """
        counts: Counter[Stream] = Counter()
        position = segment.start
        while position < segment.end:
            found, position = await ask(self._scribe, partial(self._log.reader.read, segment, position, segment.end))
            for one in found:
                self._add(one, counts)
        return counts

    def _add(self, one: Frame | Hole, counts: Counter[Stream]) -> None:
        if isinstance(one, Hole):
            for emitter, stream, count in one.lost:
                counts[emitter, stream] += count
        elif one.kind == BATCH and self._log.book.unsent.covers(one.position, one.end):
            try:
                batch = head(one)
            except msgspec.MsgspecError:
                return
            counts[batch.emitter, batch.stream] += one.records
            for stretch in batch.forgone:
                self._log.book.forgone.add((batch.emitter, batch.stream), stretch)
