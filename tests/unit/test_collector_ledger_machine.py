"""The ledger against a model that remembers every number: whatever comes, in whatever order, and crashes among it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from collector.account import MOST_EPOCHS
from collector.arrival import Arrival
from collector.letters import Letter
from tests.unit.collector_listening import EPOCH, Listening, arrival

Name = tuple[str, str]
SOURCES: tuple[Name, ...] = (("web-01", "service"), ("web-01", "load"), ("web-02", "service"))
IN_FLIGHT, SILENT = 60, 30
RECORDS = 10

sources = st.sampled_from(SOURCES)
epochs = st.sampled_from((0, 0, 1, 1)).map(EPOCH.__add__) | st.integers(EPOCH, EPOCH + 11)
numbers = st.integers(0, 12)
stretches = st.lists(st.tuples(epochs, numbers, st.integers(0, 3)), max_size=2).map(
    lambda drawn: tuple((epoch, first, first + more) for epoch, first, more in drawn)
)
FORGED = 1 << 53
NEVER = -1.0


def dropped(epoch: int, number: int) -> int:
    """Return how many records the emitter gave up before this batch."""
    return (epoch + number) % 3


@dataclass
class Life:
    """One epoch: the numbers that came, those that are dead, and when each from `start` was first missed.

    `heard` is when it was heard of last, `live` when it last came live. What is among `forgone` came, is dead, or was
    given up, beyond all that came as well.
    """

    epoch: int
    start: int = 0
    heard: float = 0.0
    live: float = NEVER
    came: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    missed: dict[int, float] = field(default_factory=dict)
    forgone: set[int] = field(default_factory=set)

    def come(self, number: int, now: float) -> None:
        self.came.add(number)
        for one in set(range(self.start, max(self.came))) - self.came:
            self.missed.setdefault(one, now)

    def refute(self, number: int) -> None:
        """What comes live belies that it, and what is missing around it, was given up."""
        if number not in self.came and (number in self.forgone or number > max(self.came, default=-1)):
            begin = max((one for one in self.came if one < number), default=-1) + 1
            self.forgone = {one for one in self.forgone if one < begin}

    @property
    def given_up(self) -> int:
        return len(self.forgone - self.came - self.dead)

    @property
    def gaps(self) -> set[int]:
        return self.absent - self.forgone

    @property
    def absent(self) -> set[int]:
        return set(range(self.start, max(self.came, default=0))) - self.came - self.dead

    @property
    def dropped(self) -> int:
        return sum(dropped(self.epoch, number) for number in self.came | self.dead)


@dataclass
class Source:
    """One emitter with one stream: its epochs, and those that are forgotten."""

    heard: float
    lives: dict[int, Life] = field(default_factory=dict)
    over: list[Life] = field(default_factory=list)
    twice: int = 0
    forgotten: int = -1
    gap: bool = False
    silent: bool = False
    awaited: dict[int, set[int]] = field(default_factory=dict)

    @property
    def present(self) -> tuple[float, int]:
        return max((life.live, life.epoch) for life in self.lives.values())

    def take(self, one: Arrival, letters: Mapping[int, bool], now: float, received: float) -> None:
        start = one.seq if one.epoch <= self.forgotten else 0
        if one.epoch not in self.lives:
            dead = {number for number, by_broker in letters.items() if by_broker}
            self.lives[one.epoch] = Life(one.epoch, start, dead=dead)
            self.lives[one.epoch].forgone = self.awaited.pop(one.epoch, set())
        life = self.lives[one.epoch]
        if one.live:
            life.refute(one.seq)
        life.heard, life.live = now, now if one.live else life.live
        if one.seq in life.came:
            self.twice += 1
        else:
            life.come(one.seq, now)
            life.dead |= {one.seq} & letters.keys()
            self._make_room(one, received)
            self._forgo([(epoch, first, last) for epoch, first, last in one.forgone if epoch < one.epoch])
            own = [(first, last) for epoch, first, last in one.forgone if epoch == one.epoch]
            self._forgo([(one.epoch, first, min(last, one.seq - 1)) for first, last in own if first < one.seq])

    def _forgo(self, stretches: Sequence[tuple[int, int, int]]) -> None:
        for epoch, first, last in stretches:
            known = self.lives[epoch].forgone if epoch in self.lives else self.awaited.setdefault(epoch, set())
            known |= set(range(first, last + 1))

    def _make_room(self, one: Arrival, received: float) -> None:
        if len(self.lives) > MOST_EPOCHS:
            kept = (one.epoch, self.present[1])
            _, oldest = min((life.heard, epoch) for epoch, life in self.lives.items() if epoch not in kept)
            self.over.append(self.lives.pop(oldest))
            self.forgotten = max(self.forgotten, min(oldest, int(received * 1000)))

    def missed(self) -> list[float]:
        return [life.missed[number] for life in self.lives.values() for number in life.gaps]

    def settle(self, now: float) -> None:
        """A fact of a gap is over when all that is missing for long has come."""
        self.gap = self.gap and any(now - missed >= IN_FLIGHT for missed in self.missed())


@dataclass
class Host:
    heard: float
    changed: float
    present: tuple[float, int] = (NEVER, -1)
    backlog: float = -1e9
    silent: bool = False


class LedgerMachine(RuleBasedStateMachine):
    """Probes come back at once, every 5 seconds; what happens between two of them happens right after the first."""

    def __init__(self) -> None:
        super().__init__()
        self.listening = Listening()
        self.listening.settle()
        self.sources: dict[Name, Source] = {}
        self.hosts: dict[str, Host] = {}
        self.letters: dict[tuple[Name, int, int], bool] = {}  # and whether they are the broker's doing
        self.clock = self.since = 0.0

    # What happens

    @rule(name=sources, epoch=epochs, number=numbers, backlog=st.booleans(), forgone=stretches)
    def arrive(
        self, name: Name, epoch: int, number: int, backlog: bool, forgone: tuple[tuple[int, int, int], ...] = ()
    ) -> None:
        batch = self._batch(name, epoch, number, live=not backlog, backlog=backlog, forgone=forgone)
        self.listening.tell(batch)
        host = self.hosts.setdefault(name[0], Host(self.clock, self.clock))
        source = self.sources.setdefault(name, Source(self.clock))
        self._hear(name, host, source, backlog=backlog)
        letters = {n: by_broker for (one, e, n), by_broker in self.letters.items() if (one, e) == (name, epoch)}
        source.take(batch, letters, self.clock, self.listening.here)
        source.settle(self.clock)
        before, host.present = host.present, max(source.present for source in self._of(name[0]))
        if host.present[1] != before[1]:
            host.changed = self.clock

    @rule(name=sources, count=st.integers(1, 6))
    def go_on(self, name: Name, count: int) -> None:
        for _ in range(count):
            source = self.sources.get(name)
            epoch = source.present[1] if source else EPOCH
            came = source.lives[epoch].came if source else set()
            self.arrive(name, epoch, max(came, default=-1) + 1, backlog=False)

    @rule(name=sources, count=st.integers(1, MOST_EPOCHS + 1), number=numbers, backlog=st.booleans())
    def forge(self, name: Name, count: int, number: int, backlog: bool) -> None:
        for forged in range(count):
            self.arrive(name, FORGED - forged, number, backlog)

    @rule(name=sources, epoch=epochs, number=numbers, by_broker=st.booleans())
    def refuse(self, name: Name, epoch: int, number: int, by_broker: bool) -> None:
        self.listening.dead(self._batch(name, epoch, number), "delivery_limit" if by_broker else "unusable")
        self.letters[name, epoch, number] = by_broker
        source = self.sources.get(name)
        if source is not None:
            if epoch in source.lives and (by_broker or number in source.lives[epoch].came):
                source.lives[epoch].dead.add(number)
            source.settle(self.clock)

    @precondition(lambda self: self.letters)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        name, epoch, number = chosen = data.draw(st.sampled_from(sorted(self.letters)))
        del self.letters[chosen]
        kept = (msgspec.json.decode(row, type=Letter) for _, row in self.listening.rows("letter/"))
        self.listening.send_again(next(one for one in kept if one.message == self._batch(name, epoch, number).id))
        if name in self.sources and epoch in self.sources[name].lives:
            self.sources[name].lives[epoch].dead.discard(number)

    @rule(probes=st.sampled_from((1, 2, 7, 13)))
    def pass_time(self, probes: int) -> None:
        for _ in range(probes):
            self.listening.advance(5)
            self.clock += 5
            self._judge()

    @rule(seconds=st.integers(20, 200))
    def be_without_the_broker(self, seconds: int) -> None:
        self.listening.away = True
        self.listening.advance(seconds)
        assert len(self.listening.waiting) <= 1 + len(self.listening.opened), "a probe, and what was due at once"
        self.listening.away = False
        self.listening.settle()
        self.clock += 15  # no more of it is time in which anybody could have been heard
        self.since = self.clock

    @rule(whole=st.booleans())
    def crash(self, whole: bool) -> None:
        if whole:
            self.listening.start()
        else:  # a fault in the middle of something: it goes on with what was kept
            self.listening.model.recall(self.listening.rows)
        self.listening.settle()
        self.since = self.clock
        for host in self.hosts.values():
            host.heard = host.changed = self.clock
            host.backlog = -1e9
        for source in self.sources.values():
            source.heard = self.clock

    def _batch(self, name: Name, epoch: int, number: int, **more: Any) -> Arrival:
        given = {"reason": lost} if (lost := dropped(epoch, number)) else {}
        host, emitter = name
        about = {"host": host, "count": RECORDS, "time": self.listening.now, "dropped": given}
        return arrival(number, epoch, emitter, **about, **more)

    def _hear(self, name: Name, host: Host, source: Source, *, backlog: bool) -> None:
        if host.silent:
            for one in self._of(name[0]):
                one.heard = self.clock
        host.heard, host.silent = self.clock, False
        if backlog:
            host.backlog = self.clock
        else:
            source.heard, source.silent = self.clock, False

    # What follows

    def _of(self, host: str) -> list[Source]:
        return [source for (name, _), source in self.sources.items() if name == host]

    def _judge(self) -> None:
        for name, host in self.hosts.items():
            host.silent = host.silent or self.clock - max(host.heard, self.since) > SILENT
            for source in self._of(name):
                source.silent = not host.silent and self._is_silent(host, source)
                source.gap = source.gap or any(not self._in_flight(host, missed) for missed in source.missed())

    def _is_silent(self, host: Host, source: Source) -> bool:
        if self.clock - max(source.heard, self.since) <= SILENT:
            return source.silent
        if source.present[1] == host.present[1]:
            return True
        return source.silent and self.clock - max(host.changed, self.since) <= SILENT

    def _in_flight(self, host: Host, missed: float) -> bool:
        return self.clock - max(missed, host.backlog, self.since) < IN_FLIGHT

    @invariant()
    def every_number_is_in_exactly_one_class(self) -> None:
        for name, source in self.sources.items():
            lives = [*source.lives.values(), *source.over]
            in_flight = [self._in_flight(self.hosts[name[0]], missed) for missed in source.missed()]
            delivered = sum(len(life.came - life.dead) for life in lives)
            row = self.listening.row(name[1], name[0])
            assert {key: row[key] for key in row if key not in ("host", "emitter", "last", "last_heard", "open")} == {
                "received": delivered,
                "duplicates": source.twice,
                "dead": sum(len(life.dead) for life in lives),
                "given_up": (given_up := sum(life.given_up for life in lives) + sum(map(len, source.awaited.values()))),
                "in_flight": sum(in_flight),
                "missing": len(in_flight) - sum(in_flight) + sum(len(life.gaps) for life in source.over),
                "records": RECORDS * delivered,
                "dropped": sum(life.dropped for life in lives),
                "reasons": {"reason": lost} if (lost := sum(life.dropped for life in lives)) else {},
            }
            used = [set(range(life.start, max(life.came) + 1)) | life.came | life.dead | life.forgone for life in lives]
            of_all = sum(map(len, [*used, *source.awaited.values()]))
            assert row["received"] + row["dead"] + given_up + row["in_flight"] + row["missing"] == of_all

    @invariant()
    def what_is_found_is_told(self) -> None:
        hosts = {("host.silent", name) for name, host in self.hosts.items() if host.silent}
        emitters = {("emitter.silent", *name) for name, source in self.sources.items() if source.silent}
        gaps = {("telemetry.gap", *name, "state") for name, source in self.sources.items() if source.gap}
        assert self.listening.opened == hosts | emitters | gaps


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
