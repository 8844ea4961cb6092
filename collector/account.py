"""What has come of the numbers of one stream: each is delivered, dead, given up, in flight or missing."""

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec

from collector.arrival import Arrival
from collector.stretches import Stretch, joined, without
from exhaust.received import Gap, Received

MOST_EPOCHS = 8
MOST_STRETCHES = 1000
MOST_AWAITED = 32
MOST_AT_ONCE = 1 << 24
"""So many numbers one stretch may give up: no log holds as many."""
_MOST_REASONS = 16
_OTHER = "other"
_PREFIX = "account/"
NEVER = -1.0
"""Before all readings of the ledger's time."""

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
    not, and none live that belies it. `begun` is when the first came, by that reading.
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
            self._refute(arrival.seq)
        floor, oldest = self.came.floor, self.came.gaps[:1]
        if arrival.seq <= floor or not self.came.take(arrival.seq, reading):
            self.counts.duplicates += 1
            return False
        if self.came.floor != floor:
            self.counts.missing += count(self._wanted(oldest))
            self.counts.given_up += self._given_up(oldest)
        if self._stretch(arrival.seq) is None:
            self._deliver(arrival, 1)
            self.counts.drop(arrival.dropped)
        return True

    def _refute(self, seq: int) -> None:
        """Believe nothing that was forgone from the gap on in which a number comes live: its emitter was not over."""
        gap = self._gap(seq)
        if seq > self.came.highest:
            begin = self.came.highest + 1
        elif gap is not None and any(first <= seq <= last for first, last in self.forgone):
            begin = gap.first
        else:
            return
        self.forgone = [(first, min(last, begin - 1)) for first, last in self.forgone if first < begin]

    def bury(self, letter: Arrival, *, certain: bool) -> bool:
        """Count a batch that lies among the dead letters; return whether that is new.

        One that did not come counts only where it is `certain` that there was such a batch.
        """
        seq, has_come = letter.seq, self._has_come(letter.seq)
        if seq <= self.came.floor or self._stretch(seq) is not None or len(self.dead) >= MOST_STRETCHES:
            return False
        if not has_come and not certain:
            return False
        self.dead = joined([*self.dead, (seq, seq)])
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

    def forgo(self, first: int, last: int) -> bool:
        """Note that these numbers will never come, as far as they have not; return whether there was room for that."""
        forgone = joined([*self.forgone, (first, last)])
        if len(forgone) > MOST_STRETCHES:
            return False
        self.forgone = forgone
        return True

    def gaps(self) -> list[Gap]:
        """Return what neither came nor is dead, and is not given up."""
        return list(self._wanted(self.came.gaps))

    @property
    def given_up(self) -> int:
        """How many of the numbers that did not come are given up, also of those beyond what came."""
        if not self.forgone:
            return 0
        return self._given_up([*self.came.gaps, Gap(self.came.highest + 1, self.forgone[-1][1], 0.0)])

    def _given_up(self, gaps: Sequence[Gap]) -> int:
        absent = list(self._absent(gaps))
        return count(absent) - count(left for gap in absent for left in without(gap, self.forgone))

    def _deliver(self, arrival: Arrival, sign: int) -> None:
        self.counts.received += sign
        self.counts.records = max(0, self.counts.records + sign * arrival.count)

    def _wanted(self, gaps: Sequence[Gap]) -> Iterator[Gap]:
        for gap in self._absent(gaps):
            if gap.last >= self.start:
                yield from without(gap, self.forgone) if self.forgone else (gap,)

    def _absent(self, gaps: Sequence[Gap]) -> Iterator[Gap]:
        """Yield what neither came nor is dead."""
        for gap in gaps:
            if gap.first <= gap.last:
                yield from without(gap, self.dead) if self.dead else (gap,)

    def _has_come(self, seq: int) -> bool:
        return seq <= self.came.highest and self._gap(seq) is None

    def _gap(self, seq: int) -> Gap | None:
        """Return the gap that a number is in."""
        place = bisect.bisect_right(self.came.gaps, seq, key=lambda gap: gap.first) - 1
        return self.came.gaps[place] if place >= 0 and self.came.gaps[place].last >= seq else None

    def _stretch(self, seq: int) -> Stretch | None:
        place = bisect.bisect_right(self.dead, seq, key=lambda stretch: stretch[0]) - 1
        return self.dead[place] if place >= 0 and self.dead[place][1] >= seq else None


class Past(msgspec.Struct, array_like=True):
    """The sum of the epochs that are forgotten. Up to `newest` one that is not known may be one of them.

    `forgone` are the last stretches of numbers that were given up in epochs of which nothing has come yet, the epoch
    first.
    """

    newest: int = -1
    counts: Counts = msgspec.field(default_factory=Counts)
    forgone: list[tuple[int, int, int]] = []


class Noted(NamedTuple):
    """What a batch was: new or not, the first of its epoch, above a gap; a `forgotten` epoch has made room for it.

    Of its epoch something was given up before: it was `awaited`.
    """

    new: bool
    first: bool = False
    above_gap: bool = False
    forgotten: Epoch | None = None
    awaited: bool = False


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
        awaited = False
        if first := epoch is None:
            known_since = max(horizon, self.past.newest)
            epoch = Epoch(arrival.epoch, arrival.seq if arrival.epoch <= known_since else 0, begun=reading)
            awaited = self._await_no_more(epoch)
            bisect.insort(self.epochs, epoch, key=lambda one: one.epoch)
        above_gap = arrival.seq > max(epoch.came.highest + 1, epoch.start)
        new = epoch.add(arrival, reading, received)
        forgotten = self._forget(epoch, received) if len(self.epochs) > MOST_EPOCHS else None
        return Noted(new, first, above_gap, forgotten, awaited)

    def epoch(self, number: int) -> Epoch | None:
        """Return one of the epochs that are remembered."""
        if self.epochs and self.epochs[-1].epoch == number:
            return self.epochs[-1]
        place = bisect.bisect_left(self.epochs, number, key=lambda epoch: epoch.epoch)
        return self.epochs[place] if place < len(self.epochs) and self.epochs[place].epoch == number else None

    def forgo(self, epoch: int, first: int, last: int) -> bool:
        """Note that these numbers will never come; return whether there was room for that."""
        found = self.epoch(epoch)
        if found is not None:
            return found.forgo(first, last)
        rest = [one for one in self.past.forgone if one[0] != epoch]
        mine = joined([*(one[1:] for one in self.past.forgone if one[0] == epoch), (first, last)])
        awaited = [*rest, *((epoch, *stretch) for stretch in mine)]
        for _, begin, end in awaited[:-MOST_AWAITED]:
            self.past.counts.given_up += end - begin + 1
        self.past.forgone = awaited[-MOST_AWAITED:]
        return True

    def _await_no_more(self, epoch: Epoch) -> bool:
        """Let an epoch that begins have what was given up of it before; return whether that is anything."""
        mine = [one for one in self.past.forgone if one[0] == epoch.epoch]
        for _, first, last in mine:
            epoch.forgo(first, last)
        self.past.forgone = [one for one in self.past.forgone if one[0] != epoch.epoch]
        return bool(mine)

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
        awaited = sum(last - first + 1 for _, first, last in self.past.forgone)
        total = Counts(given_up=awaited + sum(epoch.given_up for epoch in self.epochs))
        for counts in (self.past.counts, *(epoch.counts for epoch in self.epochs)):
            total.add(counts)
        return total


def believed(arrival: Arrival) -> Iterator[tuple[int, int, int]]:
    """Yield what a new batch says will never come, as far as it can know that: of nothing after itself.

    Anybody may have written it: a number that is called forgone before it was used would never be missed.
    """
    for epoch, first, last in arrival.forgone:
        last = min(last, first + MOST_AT_ONCE - 1, arrival.seq - 1 if epoch == arrival.epoch else last)
        if epoch <= arrival.epoch and first <= last:
            yield epoch, first, last


def name_of(key: str) -> tuple[Name, str]:
    """Return whose row has this key, and which one it is: the number of an epoch, or `past`."""
    host, emitter, stream, row = map(unquote, key.removeprefix(_PREFIX).split("/"))
    return (host, emitter, stream), row


def count(gaps: Iterable[Gap]) -> int:
    """Return how many numbers lie in gaps."""
    return sum(gap.last - gap.first + 1 for gap in gaps)
