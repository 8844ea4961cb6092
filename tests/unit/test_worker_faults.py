"""What a worker does where no message is to blame: it must neither end by it nor do anything twice, nor ever spin."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import ACKNOWLEDGE, Delivery, Disposition
from exhaust.clock import VirtualClock
from exhaust.errors import StoreError
from exhaust.messages import Sighting
from exhaust.routing import EXCHANGES, QUEUES
from exhaust.store import Store
from exhaust.worker import Effect, Keep, Perform, Rows, Worker

WITHIN = 10.0
START = 1000.0
HEARING = QUEUES["orchestrator"][1]


def sighting(name: str, host: str = "h") -> Sighting:
    return Sighting(id=name, time=1.0, execution=name, host=host, holds="true", samples=1)


class Memory:
    """A decider that fails where it is told to; `moments` are when it was asked to tick."""

    def __init__(self) -> None:
        self.due = math.inf
        self.failing = False
        self.resumed: list[Effect] = []
        self.moments: list[float] = []
        self.outcomes: list[Any] = []
        self.recalled = 0

    def recall(self, rows: Rows) -> None:
        self.recalled += 1

    def resume(self, now: float) -> Iterable[Effect]:
        return self.resumed

    def handle(self, message: Any, received: float) -> Iterable[Effect]:
        return ()

    def tick(self, now: float) -> Iterable[Effect]:
        self.moments.append(now)
        yield Keep("before", 1)
        if self.failing:
            raise ZeroDivisionError("a bug")
        yield sighting("far", host="h" * 300)
        yield sighting("near")
        yield Keep("after", 1)
        self.due = math.inf

    def status(self) -> dict[str, Any]:
        return {}

    def performed(self, work: Any, outcome: Any, now: float) -> Iterable[Effect]:
        if isinstance(outcome, Exception):
            outcome = str(outcome)
        self.outcomes.append((work, outcome))
        yield Keep(f"did/{work}", outcome)
        yield sighting(f"{work}")


class Disk(Store):
    """A store whose disk can be full."""

    full = False

    def commit(self, **what: Any) -> list[int]:
        if self.full:
            raise StoreError("the disk is full")
        return super().commit(**what)


class Bench:
    """A worker with work under way, to which the test gives the outcomes."""

    def __init__(self, store: Disk, broker: Embedded) -> None:
        self.store = store
        self.clock = VirtualClock(START)
        self.seconds = 0.0
        self.decider = Memory()
        self.until = asyncio.Event()
        self.doing: dict[str, asyncio.Future[Any]] = {}
        about: dict[str, Any] = {"perform": self._perform, "monotonic": lambda: self.seconds}
        self.worker = Worker("test", self.decider, store, broker, self.clock, (), **about)

    async def _perform(self, work: Any) -> Any:
        self.doing[work] = asyncio.get_running_loop().create_future()
        return await self.doing[work]

    @property
    def kept(self) -> list[str]:
        return [key for key, _ in self.store.rows()]

    async def pass_time(self, seconds: float, steps: int) -> None:
        """Let time pass in steps, with all that the worker has to do in between."""
        for _ in range(steps):
            self.seconds += seconds
            self.clock.advance(seconds)
            for _ in range(20):
                await asyncio.sleep(0)


async def _hear(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
    return [ACKNOWLEDGE] * len(deliveries)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    with Disk(tmp_path / "x.db") as store:
        async with Embedded() as broker:
            await broker.declare(EXCHANGES, [HEARING])
            async with broker.consume(HEARING, _hear):
                yield Bench(store, broker)


@contextlib.asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(bench.worker.run(bench.until))
    try:
        await eventually(lambda: bench.worker._timing or task.done())
        yield task
    finally:
        bench.until.set()
        async with asyncio.timeout(WITHIN):
            await asyncio.wait([task])


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110  what is waited for has no event of its own
            await asyncio.sleep(0.001)


async def test_a_message_of_a_tick_that_cannot_be_sent_is_left_out_of_it(bench: Bench) -> None:
    bench.decider.due = START
    async with running(bench) as task:
        await eventually(lambda: bench.kept == ["after", "before"])
        await bench.pass_time(10.0, 10)
        assert (bench.decider.moments, bench.decider.recalled) == ([START], 1)
        assert bench.worker.refused == {"unsent": 1}
        assert bench.worker.counts["sent"] == 1
    assert task.exception() is None


async def test_a_tick_that_fails_leaves_no_trace_and_is_asked_again_ever_later(bench: Bench) -> None:
    bench.decider.due, bench.decider.failing = START, True
    async with running(bench) as task:
        await bench.pass_time(0.5, 500)
        waits = [
            later - moment for moment, later in zip(bench.decider.moments, bench.decider.moments[1:], strict=False)
        ]
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert bench.kept == []
        assert bench.decider.recalled == 1 + bench.worker.refused["tick"] == 1 + len(bench.decider.moments)
        assert bench.worker.stuck() == ""
    assert task.exception() is None


async def test_once_it_succeeds_the_next_is_asked_in_time(bench: Bench) -> None:
    bench.decider.due, bench.decider.failing = START, True
    async with running(bench):
        await bench.pass_time(1.0, 10)
        bench.decider.failing = False
        await bench.pass_time(1.0, 10)
        assert bench.decider.moments == [START, START + 1, START + 3, START + 7, START + 15]
        assert bench.kept == ["after", "before"]
        bench.decider.due = bench.clock.now()
        bench.worker.put([Keep("wakes", 1)])
        await eventually(lambda: bench.decider.moments[-1] == START + 20)


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
async def test_a_clock_that_is_set_changes_nothing_of_how_long_it_is_put_off(bench: Bench, jump: float) -> None:
    bench.decider.due, bench.decider.failing = START, True
    async with running(bench):
        await eventually(lambda: bench.decider.moments == [START])
        bench.clock.advance(jump)
        bench.decider.due = START + min(jump, 0.0)
        bench.worker.put([Keep("wakes", 1)])
        await bench.pass_time(0.25, 3)
        assert bench.decider.moments == [START]
        await bench.pass_time(0.25, 1)
        assert bench.decider.moments == [START, START + jump + 1]


@pytest.mark.parametrize("effect", [sighting("far", host="h" * 300), Keep("odd", object())])
async def test_what_cannot_be_taken_up_again_does_not_keep_a_start_from_going_on(bench: Bench, effect: Effect) -> None:
    bench.decider.resumed, bench.decider.due = [Keep("taken", 1), effect], START + 10
    async with running(bench) as task:
        await bench.pass_time(5.0, 2)
        assert bench.decider.moments == [START + 10]
        assert ("taken" in bench.kept) == (bench.worker.refused["resume"] == 0)
        assert bench.worker.refused.total() == 2  # one of them the tick's
    assert task.exception() is None


async def test_of_outcomes_at_one_moment_a_bad_one_costs_only_its_own_work(bench: Bench) -> None:
    bench.decider.resumed = [Perform(work) for work in "abc"]
    async with running(bench) as task:
        await eventually(lambda: len(bench.doing) == 3)
        for work, outcome in (("a", 1), ("b", object()), ("c", 3)):
            bench.doing[work].set_result(outcome)
        await eventually(lambda: bench.kept == ["did/a", "did/b", "did/c"])
    assert task.exception() is None
    assert (bench.store.get("did/a"), bench.store.get("did/c")) == (b"1", b"3")
    assert b"Encoding objects of type object is unsupported" in (bench.store.get("did/b") or b"")
    assert bench.worker.counts["sent"] == 3


async def test_an_outcome_whose_messages_cannot_be_sent_is_taken_all_the_same(bench: Bench) -> None:
    bench.decider.resumed = [Perform("a")]
    far = "h" * 300
    bench.decider.performed = lambda *_: [Keep("did", 1), sighting("far", host=far)]  # type: ignore[method-assign]
    async with running(bench) as task:
        await eventually(lambda: "a" in bench.doing)
        bench.doing["a"].set_result(None)
        await eventually(lambda: bench.kept == ["did"])
    assert (task.exception(), bench.worker.refused) == (None, {"unsent": 1})


@pytest.mark.parametrize("what", ["tick", "outcome"])
async def test_a_store_that_fails_meanwhile_ends_the_component(bench: Bench, what: str) -> None:
    bench.decider.resumed = [Perform("a")]
    async with running(bench) as task:
        await eventually(lambda: "a" in bench.doing)
        bench.store.full = True
        if what == "outcome":
            bench.doing["a"].set_result(None)
        else:
            bench.decider.due = START
            bench.worker._rescheduled.set()
        async with asyncio.timeout(WITHIN):
            await asyncio.wait([task])
        bench.store.full = False
    error = task.exception()
    assert isinstance(error, ExceptionGroup)
    assert error.subgroup(StoreError) is not None
