"""What has come of each stream: how much, what is missing, and what came twice.

Counts are kept with every transaction that changes them, not once in a while: the mark that a batch was seen is durable
at once, so counts that lagged behind it would show gaps after a crash that never were.
"""

import bisect
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from exhaust.broker.interface import Delivery
from exhaust.errors import MessageError
from exhaust.routing import word
from exhaust.worker import Keep, Rows

MOST_STREAMS = 20_000
MOST_EPOCHS = 4
MOST_GAPS = 1000
_PREFIX = "ledger/"

Number = Annotated[int, msgspec.Meta(ge=0)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]


class Arrival(msgspec.Struct, frozen=True):
    """A batch as its headers tell of it; `count` is of its records, `dropped` of those that its emitter gave up."""

    host: Word
    emitter: Word
    stream: Word
    epoch: Number
    seq: Number
    count: Number
    dropped: Number
    time: float


def read_arrival(delivery: Delivery) -> Arrival:
    """Return what the headers say. Raise MessageError where they are not a batch's, or not those of its key."""
    try:
        arrival = msgspec.convert({**delivery.headers, "time": delivery.time}, Arrival)
    except msgspec.ValidationError as exc:
        raise MessageError(f"the headers are not a batch's: {exc}") from exc
    if delivery.key != f"{word(arrival.host)}.{arrival.emitter}.{arrival.stream}":
        raise MessageError(f"misattributed: a batch of {arrival.host} came with the key {delivery.key}")
    return arrival


class Counts(msgspec.Struct):
    """How many batches came once, came again and are awaited still; and the records in them."""

    received: int = 0
    duplicates: int = 0
    missing: int = 0
    records: int = 0
    dropped: int = 0

    def add(self, other: "Counts") -> None:
        self.received += other.received
        self.duplicates += other.duplicates
        self.missing += other.missing
        self.records += other.records
        self.dropped += other.dropped


class Epoch(msgspec.Struct):
    """One life of an emitter's stream; `gaps` are first and last of the sequence numbers that did not come."""

    epoch: int
    highest: int = -1
    counts: Counts = msgspec.field(default_factory=Counts)
    gaps: list[tuple[int, int]] = []

    def add(self, arrival: Arrival) -> None:
        if not self._is_new(arrival.seq):
            self.counts.duplicates += 1
            return
        self.counts.received += 1
        self.counts.records += arrival.count
        self.counts.dropped += arrival.dropped

    def _is_new(self, seq: int) -> bool:
        if seq <= self.highest:
            return self._fill(seq)
        if seq > self.highest + 1:
            self.gaps.append((self.highest + 1, seq - 1))
            self.counts.missing += seq - self.highest - 1
            # A forgotten gap stays counted as missing; whatever fills it late is counted as a duplicate.
            del self.gaps[:-MOST_GAPS]
        self.highest = seq
        return True

    def _fill(self, seq: int) -> bool:
        place = bisect.bisect_right(self.gaps, seq, key=lambda gap: gap[0]) - 1
        if place < 0 or self.gaps[place][1] < seq:
            return False
        first, last = self.gaps[place]
        rest = ((first, seq - 1), (seq + 1, last))
        self.gaps[place : place + 1] = [gap for gap in rest if gap[0] <= gap[1]]
        self.counts.missing -= 1
        return True


class Stream(msgspec.Struct):
    """One stream of one emitter of one host: its newest epochs, and the sum of those before."""

    host: str
    emitter: str
    stream: str
    last_time: float = 0.0
    last_received: float = 0.0
    epochs: list[Epoch] = []
    past: Counts = msgspec.field(default_factory=Counts)

    def add(self, arrival: Arrival, received: float) -> None:
        self.last_time = max(self.last_time, arrival.time)
        self.last_received = received
        self._epoch(arrival.epoch).add(arrival)
        while len(self.epochs) > MOST_EPOCHS:
            self.past.add(self.epochs.pop(0).counts)

    def _epoch(self, number: int) -> Epoch:
        place = bisect.bisect_left(self.epochs, number, key=lambda epoch: epoch.epoch)
        if place == len(self.epochs) or self.epochs[place].epoch != number:
            self.epochs.insert(place, Epoch(number))
        return self.epochs[place]

    def total(self) -> Counts:
        total = Counts()
        for counts in (self.past, *(epoch.counts for epoch in self.epochs)):
            total.add(counts)
        return total


class Ledger:
    """All streams, the one that was heard of last at the end."""

    def __init__(self) -> None:
        self._streams: dict[str, Stream] = {}
        self.lag = 0.0

    def recall(self, rows: Rows) -> None:
        found = [(key, msgspec.json.decode(row, type=Stream)) for key, row in rows(_PREFIX)]
        self._streams = dict(sorted(found, key=lambda pair: pair[1].last_received))

    def add(self, arrival: Arrival, received: float) -> Iterator[Keep]:
        """Count it. Sequence numbers start at 0 in every epoch."""
        key = f"{_PREFIX}{arrival.host}\x1f{arrival.emitter}\x1f{arrival.stream}"
        stream = self._streams.pop(key, None) or Stream(arrival.host, arrival.emitter, arrival.stream)
        stream.add(arrival, received)
        self._streams[key] = stream
        self.lag = max(0.0, received - arrival.time)
        yield Keep(key, stream)
        if len(self._streams) > MOST_STREAMS:
            silent = next(iter(self._streams))
            del self._streams[silent]
            yield Keep(silent, None)

    def table(self) -> list[dict[str, Any]]:
        """Return the sums per host and emitter, with the time of the newest batch, in order."""
        sums: dict[tuple[str, str], tuple[Counts, float]] = {}
        for stream in self._streams.values():
            counts, last = sums.get((stream.host, stream.emitter), (Counts(), 0.0))
            counts.add(stream.total())
            sums[stream.host, stream.emitter] = counts, max(last, stream.last_time)
        return [
            {"host": host, "emitter": emitter, **msgspec.to_builtins(counts), "last": last}
            for (host, emitter), (counts, last) in sorted(sums.items())
        ]

    def streams(self) -> list[Stream]:
        """Return every stream with its epochs."""
        return list(self._streams.values())
