"""Whatever dies, breaks or comes twice, at any step: each message has its effect once, and says what it says in order.

A machine of hypothesis takes the steps, and holds what is stored and what arrived against a model of what is promised.
The same machine finds the faults of workers that break a promise.
"""

import asyncio
import logging
import tempfile
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from exhaust.broker.interface import ACKNOWLEDGE, Delivery, Disposition, Publication
from exhaust.messages import Codec, Fact, Sighting
from exhaust.outbox import Outbox
from exhaust.turn import Turn
from exhaust.worker import Worker
from tests.inboxes import HOSTS, KINDS, MEMORY, MOMENTS, Bench, Disk, Moment, counting

EXAMPLES, STEPS = 200, 30
SOME = st.lists(st.sampled_from(KINDS), min_size=1, max_size=6)
MOST = st.integers(1, 8)
SOON = st.sampled_from((0.0, 0.05, 0.3, 1.0, 3.0))


class Model:
    """What is promised, told of messages and effects alone."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self.kinds = kinds
        self.later: set[str] = set()  # acknowledged since the last crash, their effect to be written at leisure

    def check_effects(self, acknowledged: set[str], refused: set[str], stored: Mapping[str, int]) -> None:
        done = {key.partition("/")[2] for key in stored if key.startswith("did/")}
        assert all(stored[f"did/{name}"] == 1 for name in done), "an effect twice"
        assert {name for name in acknowledged if self._counts(name)} <= done, "acknowledged before it was stored"
        assert all(self._counts(name) for name in done), "an effect of what has none"
        assert refused <= {name for name, kind in self.kinds.items() if kind == "poison"}, "refused without need"

    def check_said(self, host: str, arrived: Sequence[tuple[int, str, str]], *, all_of_it: bool) -> None:
        """Check what arrived for one address, as number, id and cause of each."""
        first: dict[int, tuple[str, str]] = {}
        for number, own, cause in arrived:
            assert first.setdefault(number, (own, cause)) == (own, cause), "sent again under another id"
        assert list(first) == list(range(1, len(first) + 1)), "out of order, or with a gap"
        told = sorted(cause for _, cause in first.values())
        if all_of_it:
            assert told == sorted(name for name, kind in self.kinds.items() for to in kind.split(".") if to == host), (
                "lost"
            )

    def check_news(self, arrived: Sequence[int], last: int, *, all_of_it: bool) -> None:
        """Check the numbers of what only matters until there is newer: some may never arrive."""
        first = list(dict.fromkeys(arrived))
        assert first == sorted(first), "older news after newer"
        if all_of_it:
            assert max(first, default=0) == last, "the newest is lost"

    def check_over(self, acknowledged: set[str], stored: Mapping[str, int]) -> None:
        assert {name for name, kind in self.kinds.items() if kind != "poison"} == acknowledged, "not as it ought to be"
        self.check_effects(acknowledged, set(), stored)

    def check_written(self, stored: Mapping[str, int]) -> None:
        assert {f"wait/{name}" for name in self.later} <= stored.keys(), "not written at an orderly end"

    def _counts(self, name: str) -> bool:
        return self.kinds[name] not in ("idle", "wait", "poison")


class Inbox(RuleBasedStateMachine):
    """One worker after another, and everything that may happen to them."""

    worker: ClassVar[type[Worker]] = Worker
    disk: ClassVar[type[Disk]] = Disk

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="inbox", dir=MEMORY)
        self.bench = Bench(Path(self.folder.name), partial(counting, worker=self.worker), self.disk)
        self.model = Model(self.bench.kinds)

    def teardown(self) -> None:
        try:
            self.bench.settle()
            self.check(all_of_it=True)
            self.model.check_over(self.bench.acknowledged, self.bench.disk.stored())
        finally:
            self.bench.close()
            self.folder.cleanup()

    def check(self, *, all_of_it: bool = False) -> None:
        """Bury the dead, then hold all that is to be seen against the model."""
        bench = self.bench
        if bench.disk.left is not None:
            self.model.later.clear()
            bench.crash()
        bench.disk.dies = None
        bench.turn()
        stored = bench.disk.stored()
        self.model.check_effects(bench.acknowledged, bench.refused, stored)
        for host in HOSTS:
            self.model.check_said(host, _said(bench.post.arrived, host), all_of_it=all_of_it)
        self.model.check_news(_news(bench.post.arrived), stored.get("said/news", 0), all_of_it=all_of_it)

    # Messages

    @rule(kinds=SOME)
    def messages_come(self, kinds: list[str]) -> None:
        for kind in kinds:
            self.bench.give(kind)

    @precondition(lambda self: self.bench.kinds)
    @rule(data=st.data())
    def a_message_comes_again(self, data: st.DataObject) -> None:
        self.bench.give_again(data.draw(st.sampled_from(sorted(self.bench.kinds))))

    @rule(kinds=SOME, most=MOST)
    def messages_are_handed_over(self, kinds: list[str], most: int) -> None:
        self.messages_come(kinds)
        before = set(self.bench.acknowledged)
        self.bench.deliver(most)
        self.model.later |= {n for n in self.bench.acknowledged - before if self.bench.kinds[n] == "wait"}
        self.check()

    @rule(kinds=SOME, most=MOST, dies=st.sampled_from(MOMENTS), torn=st.floats(0, 1))
    def it_dies_while_it_writes(self, kinds: list[str], most: int, dies: Moment, torn: float) -> None:
        self.messages_come(kinds)
        self.bench.disk.dies, self.bench.disk.torn = dies, torn
        self.bench.deliver(most)
        self.check()

    @rule(kinds=SOME, most=MOST, arrive=st.integers(0, 4))
    def it_dies_before_it_can_acknowledge(self, kinds: list[str], most: int, arrive: int) -> None:
        self.messages_come(kinds)
        self.bench.deliver(most, and_die=True)
        self.bench.line.arrive(arrive)
        self.check()

    # What it says

    @precondition(lambda self: self.bench.line.flying)
    @rule(most=st.integers(1, 6))
    def publications_arrive(self, most: int) -> None:
        self.bench.line.arrive(most)
        self.check()

    @precondition(lambda self: self.bench.line.flying)
    @rule(start=st.integers(0, 3), most=st.integers(1, 6), dies=st.booleans())
    def confirms_come(self, start: int, most: int, dies: bool) -> None:
        self.bench.line.confirm(slice(start, start + most))
        self.bench.turn()
        if dies:
            self.bench.disk.die()
        self.check()

    @rule(dies=st.sampled_from((None, *MOMENTS)), torn=st.floats(0, 1), seconds=SOON)
    def time_passes(self, dies: Moment | None, torn: float, seconds: float) -> None:
        self.bench.disk.dies, self.bench.disk.torn = dies, torn
        self.bench.wait(seconds)
        self.check()

    # What happens to it

    @rule()
    def it_dies(self) -> None:
        self.bench.disk.die()
        self.check()

    @rule()
    def it_is_stopped(self) -> None:
        self.bench.stop()
        self.model.check_written(self.bench.disk.stored())
        self.check()

    @rule(arrive=st.integers(0, 3))
    def the_connection_breaks(self, arrive: int) -> None:
        self.bench.line.arrive(arrive)
        self.bench.line.cut()
        self.check()

    @rule()
    def the_broker_is_back(self) -> None:
        self.bench.post.away = False

    @rule(host=st.sampled_from(HOSTS))
    def a_queue_is_bound_or_is_not(self, host: str) -> None:
        self.bench.post.unbound ^= {f"sighting.{host}"}

    @rule()
    def nobody_wants_news_or_somebody_does(self) -> None:
        self.bench.post.unbound ^= {"fact.h.news"}


def _said(arrived: Sequence[Publication], host: str) -> list[tuple[int, str, str]]:
    mine = [Codec.decode(one.body) for one in arrived if one.key == f"sighting.{host}"]
    return [(one.samples, one.id, one.execution) for one in mine if isinstance(one, Sighting)]


def _news(arrived: Sequence[Publication]) -> list[int]:
    news = [Codec.decode(one.body) for one in arrived if one.key == "fact.h.news"]
    return [int(one.value) for one in news if isinstance(one, Fact)]


def played(machine: type[RuleBasedStateMachine], **how: Any) -> None:
    given = {"max_examples": EXAMPLES, "stateful_step_count": STEPS, "deadline": None, "database": None}
    run_state_machine_as_test(machine, settings=settings(**given, **how))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong here is meant to: its log would only take time."""
    caplog.set_level(logging.CRITICAL, "exhaust")


def test_each_message_has_its_effect_once_and_is_followed_in_order_by_what_it_leads_to() -> None:
    played(Inbox, suppress_health_check=[HealthCheck.too_slow])


class AcknowledgesFirst(Worker):
    """Stores a moment after it has acknowledged."""

    def _commit(self, turn: Turn) -> None:
        asyncio.get_running_loop().call_later(0.01, super()._commit, turn)


class LosesMessages(Disk):
    """Takes the last message out of its outbox before there is a confirm."""

    def commit(self, **what: Any) -> list[int]:
        numbers = super().commit(**what)
        if numbers:
            super().commit(sent=numbers[-1:])
        return numbers


class DeletesTooMuch(Disk):
    """Takes with what was confirmed what comes after it."""

    def commit(self, *, sent: Sequence[int] = (), **what: Any) -> list[int]:
        return super().commit(sent=[*sent, *(number + 1 for number in sent)], **what)


class MarksFirst(Disk):
    """Marks as seen in a transaction, and writes the effect in another."""

    def commit(self, *, seen: Mapping[str, float] | None = None, **what: Any) -> list[int]:
        if seen:
            super().commit(seen=seen)
        return super().commit(**what)


class MarksLast(Disk):
    """Writes the effect in a transaction, and the marks in another."""

    def commit(self, *, seen: Mapping[str, float] | None = None, **what: Any) -> list[int]:
        numbers = super().commit(**what)
        if seen:
            super().commit(seen=seen)
        return numbers


class MarksWithoutEffect(Disk):
    """Now and then marks as seen, sends, and forgets the effect."""

    def commit(self, *, keep: Mapping[str, bytes | None] | None = None, **what: Any) -> list[int]:
        return super().commit(keep=dict(list((keep or {}).items())[:2]), **what)


class DoesTwice(Disk):
    """Does not know what it has seen."""

    def seen(self, ids: Collection[str]) -> set[str]:
        return set()


class AcknowledgesPoison(Worker):
    """Says that it is done with what it could not handle."""

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        await super().handle(deliveries)
        return [ACKNOWLEDGE] * len(deliveries)


class Pushing(Outbox):
    """Sends what is new at once, though older messages wait in the store."""

    def post(self, numbers: Sequence[int], publications: Sequence[Publication]) -> None:
        for number, publication in zip(numbers, publications, strict=True):
            self._send(number, publication)


class Overtakes(Worker):
    """Says what is new before what is old."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self._outbox = Pushing(self._store, self._broker)


FAULTY: tuple[type[Worker | Disk], ...] = (
    AcknowledgesFirst, LosesMessages, DeletesTooMuch, MarksFirst, MarksLast, MarksWithoutEffect, DoesTwice,
    AcknowledgesPoison, Overtakes,
)  # fmt: skip


@pytest.mark.parametrize("faulty", FAULTY)
def test_a_worker_that_breaks_a_promise_is_found_out(faulty: type[Worker | Disk]) -> None:
    part = {"worker": faulty} if issubclass(faulty, Worker) else {"disk": faulty}
    machine = type(faulty.__name__, (Inbox,), part)
    with pytest.raises(AssertionError):
        played(machine, phases=[Phase.generate], derandomize=True, report_multiple_bugs=False)
