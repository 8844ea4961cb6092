"""The spool against everything that disk and broker can do to it: nothing durable is lost, and no number used twice."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from emitters.spool.group import Group
from emitters.spool.parcels import Parcel
from emitters.spool.segments import Log
from emitters.spool.spool import Spool
from tests.faulty_disk import FaultyDisk, FaultyFile
from tests.spooling import ANSWERS, ERRORS, World

SETTINGS = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def history(**parts: Any) -> type[RuleBasedStateMachine]:
    """Return the machine that makes up histories of a spool of these parts."""

    class History(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.world: World | None = None
            self.seed = 0

        @property
        def at(self) -> World:
            if self.world is None:
                self.world = World(self.seed, **parts)
            return self.world

        @rule(counts=st.tuples(st.integers(0, 3), st.integers(0, 3)))
        def tail(self, counts: tuple[int, int]) -> None:
            self.at.tail(counts)

        @rule(count=st.integers(0, 3))
        def meter(self, count: int) -> None:
            self.at.meter(count)

        @rule(steps=st.integers(1, 4))
        def work(self, steps: int) -> None:
            self.at.work(steps)

        @rule(place=st.integers(0, 7), answer=st.sampled_from([*ANSWERS, "confirmed", "confirmed"]))
        def answer(self, place: int, answer: str) -> None:
            if self.at.broker.asked:
                self.at.broker.answer(place, answer)
            self.at.turn()

        @rule(seconds=st.sampled_from([0.01, 0.3, 1.1]))
        def wait(self, seconds: float) -> None:
            self.at.turn(seconds)

        @rule(seed=st.integers(0, 1000))
        def crash(self, seed: int) -> None:
            self.at.random.seed(seed)
            self.at.crash()

        @rule()
        def restart(self) -> None:
            self.at.restart()

        @rule(error=st.sampled_from([0, 0, *ERRORS]))
        def disk(self, error: int) -> None:
            self.at.disk.failing = error

        @rule(seed=st.integers(0, 1000))
        def garble(self, seed: int) -> None:
            self.at.random.seed(seed)
            self.at.garble()

        def teardown(self) -> None:
            if self.world is not None:
                try:
                    self.world.settle()
                    self.world.check()
                finally:
                    self.world.close()

    return History


def test_nothing_durable_is_lost_and_no_number_used_twice() -> None:
    run_state_machine_as_test(history(), settings=SETTINGS)


class Forgetful(FaultyDisk):
    """Every third sync of a file does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.syncs = 0

    def open(self, name: str) -> FaultyFile:
        file = super().open(name)
        whole = file.sync

        def sync() -> None:
            self.syncs += 1
            if self.syncs % 3:
                whole()

        file.sync = sync  # type: ignore[method-assign]
        return file


class Dropping(Log):
    """The first batch of each group counts as sent once it is stored."""

    def accept(self, group: Group, *, synced: bool = True) -> list[Any]:
        free = super().accept(group, synced=synced)
        return [*free, *(self.confirm(group.batches[0]) if group.batches else ())]


class Hasty(Spool):
    """What is sent counts as confirmed."""

    def _stored(self, placed: Any, publication: Any) -> None:
        super()._stored(placed, publication)
        self._confirmed(placed)


class Ahead(Spool):
    """Positions are stored before the records."""

    def put(self, parcels: Any, moved: Any = None) -> None:
        super().put([Parcel(("tail", "a"), (), waits=True)], moved)
        super().put(parcels)


@pytest.mark.parametrize(
    "parts",
    [{"disk": Forgetful}, {"log": Dropping}, {"spool": Hasty}, {"spool": Ahead}],
    ids=["a sync is skipped", "a batch is dropped", "confirmed too early", "position ahead"],
)
def test_a_fault_of_the_spool_would_be_noticed(parts: dict[str, Callable[..., Any]]) -> None:
    hunt = settings(SETTINGS, max_examples=2000, phases=[Phase.generate], derandomize=True, database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(history(**parts), settings=hunt)
