"""What has come of the numbers of one stream: each is delivered, dead, given up, in flight or missing."""

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec

from collector.arrival import Arrival
from exhaust.received import Gap, Received

MOST_EPOCHS = 8
MOST_STRETCHES = 1000
_MOST_AWAITED = 32
_MOST_REASONS = 16
_OTHER = "other"
_PREFIX = "account/"
NEVER = -1.0
"""Before all readings of the ledger's time."""

Stretch = tuple[int, int]
Name = tuple[str, str, str]


class Counts(msgspec.Struct, array_like=True):
    """Batches that were delivered, came twice, are dead, are missing for good; records delivered, and dropped.

    `given_up` are batches of which their emitter says that they will never come.
    """

    received: int = 0
    duplicates: int = 0
    dead: int = 0
    missing: int = 0
    records: int = 0
    dropped: dict[str, int] = {}
    given_up: int = 0

    def add(self, other: "Counts") -> None:
        self.received += other.received
        self.duplicates += other.duplicates
        self.dead += other.dead
        self.missing += other.missing
        self.records += other.records
        self.given_up += other.given_up
        self.drop(other.dropped)

    def drop(self, reasons: Mapping[str, int], sign: int = 1) -> None:
        for reason, dropped in reasons.items():
            known = reason if reason in self.dropped or len(self.dropped) < _MOST_REASONS else _OTHER
            self.dropped[known] = max(0, self.dropped.get(known, 0) + sign * dropped)


class Epoch(msgspec.Struct, array_like=True):
    """One life of a stream's emitter, which counts from 0.

    Of the numbers below `start` nobody knows: they are from before the ledger began, or before it forgot the epoch.
    `came` are those that came, with when a gap was noticed by the ledger's own reading of time; `dead` those that lie,
    or lay, among the dead letters; `forgone` those of which the emitter says that they will never come: where they did
    not. `begun` is when the first came, by that reading.
    What is older than all that `came` remembers stays in the class that it was in. By that reading something of it was
    last `heard`, and last came `live`: never, where that is below 0.
    """

    epoch: int
    start: int = 0
    came: Received = msgspec.field(default_factory=Received)
    dead: list[Stretch] = []
    counts: Counts = msgspec.field(default_factory=Counts)
    last_time: float = 0.0
    last_received: float = 0.0
    last_id: str = ""
    heard: float = 0.0
    live: float = NEVER
    forgone: list[Stretch] = []
    begun: float = 0.0

    def add(self, arrival: Arrival, reading: float, received: float) -> bool:
        """Count a batch that came; return whether it is new."""
        self.last_time = max(self.last_time, arrival.time)
        self.last_received, self.last_id, self.heard = received, arrival.id, reading
        if arrival.live:
            self.live = reading
        floor, oldest = self.came.floor, self.came.gaps[:1]
        if arrival.seq <= floor or not self.came.take(arrival.seq, reading):
            self.counts.duplicates += 1
            return False
        if self.came.floor != floor:
            wanted = count(self._wanted(oldest))
            self.counts.missing += wanted
            self.counts.given_up += count(self._absent(oldest)) - wanted
        if self._stretch(arrival.seq) is None:
            self._deliver(arrival, 1)
            self.counts.drop(arrival.dropped)
        return True

    def bury(self, letter: Arrival, *, certain: bool) -> bool:
        """Count a batch that lies among the dead letters; return whether that is new.

        One that did not come counts only where it is `certain` that there was such a batch.
        """
        seq, has_come = letter.seq, self._has_come(letter.seq)
        if seq <= self.came.floor or self._stretch(seq) is not None or len(self.dead) >= MOST_STRETCHES:
            return False
        if not has_come and not certain:
            return False
        self.dead = _joined([*self.dead, (seq, seq)])
        self.counts.dead += 1
        if has_come:
            self._deliver(letter, -1)
        else:
            self.counts.drop(letter.dropped)
        return True

    def redeem(self, letter: Arrival) -> bool:
        """Count a dead letter no more: it was sent again, and taken."""
        stretch = self._stretch(letter.seq)
        if stretch is None:
            return False
        first, last = stretch
        rest = [(first, letter.seq - 1), (letter.seq + 1, last)]
        self.dead = sorted([one for one in self.dead if one != stretch] + [one for one in rest if one[0] <= one[1]])
        self.counts.dead -= 1
        if self._has_come(letter.seq):
            self._deliver(letter, 1)
        else:
            self.counts.drop(letter.dropped, -1)
        return True

    def forgo(self, first: int, last: int) -> None:
        """Note that these numbers will never come, as far as they have not."""
        if len(self.forgone) < MOST_STRETCHES:
            self.forgone = _joined([*self.forgone, (first, last)])

    def gaps(self) -> list[Gap]:
        """Return what neither came nor is dead, and is not given up."""
        return list(self._wanted(self.came.gaps))

    @property
    def given_up(self) -> int:
        """How many of the numbers that did not come are given up."""
        return count(self._absent(self.came.gaps)) - count(self.gaps()) if self.forgone else 0

    def _deliver(self, arrival: Arrival, sign: int) -> None:
        self.counts.received += sign
        self.counts.records = max(0, self.counts.records + sign * arrival.count)

    def _wanted(self, gaps: Sequence[Gap]) -> Iterator[Gap]:
        for gap in self._absent(gaps):
            yield from _without(gap, self.forgone) if self.forgone else (gap,)

    def _absent(self, gaps: Sequence[Gap]) -> Iterator[Gap]:
        """Yield what neither came nor is dead."""
        for gap in gaps:
            if gap.last >= self.start:
                yield from _without(gap, self.dead) if self.dead else (gap,)

    def _has_come(self, seq: int) -> bool:
        place = bisect.bisect_right(self.came.gaps, seq, key=lambda gap: gap.first) - 1
        return seq <= self.came.highest and (place < 0 or self.came.gaps[place].last < seq)

    def _stretch(self, seq: int) -> Stretch | None:
        place = bisect.bisect_right(self.dead, seq, key=lambda stretch: stretch[0]) - 1
        return self.dead[place] if place >= 0 and self.dead[place][1] >= seq else None


class Past(msgspec.Struct, array_like=True):
    """The sum of the epochs that are forgotten. Up to `newest` one that is not known may be one of them.

    `forgone` are the last stretches of numbers that were given up in epochs of which nothing has come yet.
    """

    newest: int = -1
    counts: Counts = msgspec.field(default_factory=Counts)
    forgone: list[tuple[int, int, int]] = []


class Noted(NamedTuple):
    """What a batch was: new or not, the first of its epoch, above a gap; a `forgotten` epoch has made room for it."""

    new: bool
    first: bool = False
    above_gap: bool = False
    forgotten: Epoch | None = None


class Stream:
    """One stream of one emitter of one host: the epochs that were heard of last, and the sum of all others.

    Anybody may send a high number, and a clock may have been years ahead: which epoch is the present one, and which is
    forgotten, goes by when it was heard of. What comes of a forgotten one is counted anew, though it may come twice.
    """

    def __init__(self, name: Name) -> None:
        self.name = name
        self.host, self.emitter, self.stream = name
        self.key = _PREFIX + "/".join(quote(part, safe="") for part in name)
        self.epochs: list[Epoch] = []
        self.past = Past()

    @property
    def newest(self) -> int:
        return max(self.past.newest, self.epochs[-1].epoch) if self.epochs else self.past.newest

    @property
    def present(self) -> Epoch:
        """The epoch that came live last."""
        return max(self.epochs, key=lambda epoch: (epoch.live, epoch.epoch))

    @property
    def last(self) -> Epoch:
        """The epoch that was heard of last."""
        return max(self.epochs, key=lambda epoch: epoch.last_received)

    @property
    def heard(self) -> float:
        """The reading at which anything of it was heard last."""
        return max(epoch.heard for epoch in self.epochs)

    def add(self, arrival: Arrival, reading: float, received: float, horizon: int) -> Noted:
        """Count a batch. An epoch up to `horizon` may have begun before the ledger did."""
        epoch = self.epoch(arrival.epoch)
        if first := epoch is None:
            known_since = max(horizon, self.past.newest)
            epoch = Epoch(arrival.epoch, arrival.seq if arrival.epoch <= known_since else 0, begun=reading)
            for number, *stretch in self.past.forgone:
                if number == arrival.epoch:
                    epoch.forgo(*stretch)
            bisect.insort(self.epochs, epoch, key=lambda one: one.epoch)
        above_gap = arrival.seq > max(epoch.came.highest + 1, epoch.start)
        new = epoch.add(arrival, reading, received)
        forgotten = self._forget(epoch, received) if len(self.epochs) > MOST_EPOCHS else None
        return Noted(new, first, above_gap, forgotten)

    def epoch(self, number: int) -> Epoch | None:
        """Return one of the epochs that are remembered."""
        if self.epochs and self.epochs[-1].epoch == number:
            return self.epochs[-1]
        place = bisect.bisect_left(self.epochs, number, key=lambda epoch: epoch.epoch)
        return self.epochs[place] if place < len(self.epochs) and self.epochs[place].epoch == number else None

    def forgo(self, epoch: int, first: int, last: int) -> Epoch | None:
        """Note that these numbers will never come; return their epoch, None where nothing of that has come yet."""
        found = self.epoch(epoch)
        if found is not None:
            found.forgo(first, last)
        else:
            self.past.forgone = [*self.past.forgone, (epoch, first, last)][-_MOST_AWAITED:]
        return found

    def _forget(self, last: Epoch, received: float) -> Epoch:
        """Forget what was heard of longest ago, neither the last nor what is the present one."""
        kept = (last.epoch, self.present.epoch)
        others = (epoch for epoch in self.epochs if epoch.epoch not in kept)
        forgotten = min(others, key=lambda epoch: (epoch.heard, epoch.epoch))
        self.epochs.remove(forgotten)
        self.past.counts.add(forgotten.counts)
        self.past.counts.missing += count(forgotten.gaps())
        self.past.counts.given_up += forgotten.given_up
        # One of the future must not hide what is missing of all that begin from now on.
        self.past.newest = max(self.past.newest, min(forgotten.epoch, int(received * 1000)))
        return forgotten

    def gaps(self) -> Iterator[Gap]:
        """Yield every gap that is remembered."""
        for epoch in self.epochs:
            yield from epoch.gaps()

    def total(self) -> Counts:
        """Return the sums, of gaps only those that are not remembered."""
        total = Counts(given_up=sum(epoch.given_up for epoch in self.epochs))
        for counts in (self.past.counts, *(epoch.counts for epoch in self.epochs)):
            total.add(counts)
        return total


def name_of(key: str) -> tuple[Name, str]:
    """Return whose row has this key, and which one it is: the number of an epoch, or `past`."""
    host, emitter, stream, row = map(unquote, key.removeprefix(_PREFIX).split("/"))
    return (host, emitter, stream), row


def count(gaps: Iterable[Gap]) -> int:
    """Return how many numbers lie in gaps."""
    return sum(gap.last - gap.first + 1 for gap in gaps)


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for first, last in sorted(stretches):
        if joined and joined[-1][1] >= first - 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def _without(gap: Gap, stretches: Sequence[Stretch]) -> Iterator[Gap]:
    """Yield what is left of a gap beside stretches of numbers."""
    first = gap.first
    place = bisect.bisect_left(stretches, first, key=lambda stretch: stretch[1])
    while place < len(stretches) and stretches[place][0] <= gap.last:
        begin, end = stretches[place]
        if begin > first:
            yield Gap(first, begin - 1, gap.noticed)
        first = end + 1
        place += 1
    if first <= gap.last:
        yield Gap(first, gap.last, gap.noticed)
