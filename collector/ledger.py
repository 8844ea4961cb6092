"""What has come of every stream of every host.

An account is written in the transaction that acknowledges its batch, not once in a while: a batch that the broker has
forgotten and the ledger has not counted would be a gap that never was. A row is one epoch of one stream, so that a
batch writes little however much is remembered.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from typing import Any

import msgspec

from collector.account import Counts, Epoch, Name, Noted, Past, Stream, believed, count, name_of
from collector.arrival import Arrival
from exhaust.received import Gap
from exhaust.worker import Keep, Rows

MOST_STREAMS = 20_000
_PREFIX = "account/"
_HORIZON = "horizon"
_PAST = "past"

InFlight = Callable[[str, Gap], bool]


class Ledger:
    """All streams, the one that was heard of last at the end.

    Epochs are numbered by the milliseconds since 1970 at which they began. Up to the `horizon` one may have begun
    before the ledger did: what came before the first that it saw of it is not missing.
    """

    def __init__(self) -> None:
        self._streams: dict[Name, Stream] = {}
        self._horizon = -1
        self.counts: Counter[str] = Counter()

    def recall(self, rows: Rows) -> None:
        found: dict[Name, Stream] = {}
        for key, row in rows(_PREFIX):
            name, part = name_of(key)
            stream = found.setdefault(name, Stream(name))
            if part == _PAST:
                stream.past = msgspec.json.decode(row, type=Past)
            else:
                stream.epochs.append(msgspec.json.decode(row, type=Epoch))
        for stream in found.values():
            stream.epochs.sort(key=lambda epoch: epoch.epoch)
        self._streams = dict(sorted(found.items(), key=lambda pair: pair[1].last.last_received))
        self._horizon = max((msgspec.json.decode(row, type=int) for _, row in rows(_HORIZON)), default=-1)

    def begin(self, now: float) -> Iterator[Keep]:
        """Begin to account for streams, unless it has begun before."""
        if self._horizon < 0:
            yield from self._raise_horizon(int(now * 1000))

    def add(self, arrival: Arrival, reading: float, received: float) -> Generator[Keep, None, Noted]:
        """Count a batch and return what it was."""
        name = (arrival.host, arrival.emitter, arrival.stream)
        stream = self._streams.pop(name, None) or Stream(name)
        self._streams[name] = stream
        noted = stream.add(arrival, reading, received, self._horizon)
        self.counts["delivered" if noted.new else "duplicate"] += 1
        yield Keep(f"{stream.key}/{arrival.epoch}", stream.epoch(arrival.epoch))
        if noted.forgotten is not None or noted.awaited:
            yield Keep(f"{stream.key}/{_PAST}", stream.past)
        if noted.forgotten is not None:
            yield Keep(f"{stream.key}/{noted.forgotten.epoch}", None)
        return noted

    def forgo(self, arrival: Arrival) -> Iterator[Keep]:
        """Count what a new batch says will never come, as far as that is believed: stretches are `ignored` else."""
        stream = self._streams[arrival.host, arrival.emitter, arrival.stream]
        kept = [stretch for stretch in believed(arrival) if stream.forgo(*stretch)]
        if ignored := sum(stretch not in kept for stretch in arrival.forgone):
            self.counts["ignored"] += ignored
        for number in dict.fromkeys(number for number, _, _ in kept):
            epoch = stream.epoch(number)
            if epoch is not None:
                yield Keep(f"{stream.key}/{number}", epoch)
            else:
                yield Keep(f"{stream.key}/{_PAST}", stream.past)

    def bury(self, letter: Arrival, *, certain: bool) -> Iterator[Keep]:
        """Count a dead letter of an epoch that is remembered; of others its number tells nothing yet.

        Anybody may have written it, unless it is `certain`: only then it counts for a batch that did not come.
        """
        stream, epoch = self._epoch(letter)
        if stream is not None and epoch is not None and epoch.bury(letter, certain=certain):
            self.counts["dead"] += 1
            yield Keep(f"{stream.key}/{epoch.epoch}", epoch)

    def redeem(self, letter: Arrival) -> Iterator[Keep]:
        """Count a dead letter that was sent again and taken as what it was before."""
        stream, epoch = self._epoch(letter)
        if stream is not None and epoch is not None and epoch.redeem(letter):
            yield Keep(f"{stream.key}/{epoch.epoch}", epoch)

    def _epoch(self, letter: Arrival) -> tuple[Stream | None, Epoch | None]:
        stream = self._streams.get((letter.host, letter.emitter, letter.stream))
        return stream, None if stream is None else stream.epoch(letter.epoch)

    def drop(self, stream: Stream, now: float) -> Iterator[Keep]:
        """Forget a stream. Should it come back, nobody knows what was missed of its epochs so far."""
        del self._streams[stream.name]
        for epoch in stream.epochs:
            yield Keep(f"{stream.key}/{epoch.epoch}", None)
        yield Keep(f"{stream.key}/{_PAST}", None)
        if stream.newest > self._horizon:
            # A source whose clock is far ahead must not hide what is missing of all others for ever.
            yield from self._raise_horizon(min(stream.newest, int(now * 1000)))

    def _raise_horizon(self, horizon: int) -> Iterator[Keep]:
        self._horizon = max(self._horizon, horizon)
        yield Keep(_HORIZON, self._horizon)

    @property
    def surplus(self) -> Stream | None:
        """The stream that was silent longest, where there are too many."""
        return next(iter(self._streams.values())) if len(self._streams) > MOST_STREAMS else None

    def get(self, name: Name) -> Stream | None:
        return self._streams.get(name)

    def streams(self) -> list[Stream]:
        """Return every stream with its epochs."""
        return list(self._streams.values())

    def table(self, in_flight: InFlight) -> list[dict[str, Any]]:
        """Return the sums per host and emitter, in order; `in_flight` tells which gaps of a host may yet close.

        `last` is the time of the newest batch, by its source's clock; `last_heard` when the last one came, by ours.
        """
        sums: dict[tuple[str, str], _Sum] = {}
        for stream in self._streams.values():
            one = sums.setdefault((stream.host, stream.emitter), _Sum())
            one.add(stream, in_flight)
        return [{"host": host, "emitter": emitter, **one.told()} for (host, emitter), one in sorted(sums.items())]


class _Sum:
    """The streams of one emitter together."""

    def __init__(self) -> None:
        self._counts = Counts()
        self._in_flight = self._missing = 0
        self._last = self._last_heard = 0.0

    def add(self, stream: Stream, in_flight: InFlight) -> None:
        self._counts.add(stream.total())
        for gap in stream.gaps():
            if in_flight(stream.host, gap):
                self._in_flight += count((gap,))
            else:
                self._missing += count((gap,))
        self._last = max(self._last, *(epoch.last_time for epoch in stream.epochs))
        self._last_heard = max(self._last_heard, stream.last.last_received)

    def told(self) -> dict[str, Any]:
        counts = self._counts
        return {
            "received": counts.received,
            "duplicates": counts.duplicates,
            "dead": counts.dead,
            "given_up": counts.given_up,
            "in_flight": self._in_flight,
            "missing": counts.missing + self._missing,
            "records": counts.records,
            "dropped": sum(counts.dropped.values()),
            "reasons": {reason: dropped for reason, dropped in sorted(counts.dropped.items()) if dropped},
            "last": self._last,
            "last_heard": self._last_heard,
        }
