"""The worker: one transaction a batch, every message's effect once, and nothing in flight lost when it stops."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import ACKNOWLEDGE, Delivery, Disposition, Redeliver, Reject
from exhaust.clock import VirtualClock
from exhaust.errors import MessageError, StoreError
from exhaust.messages import Fact, Sighting
from exhaust.routing import EXCHANGES, KNOWLEDGE, QUEUES
from exhaust.store import Store
from exhaust.wire import pack
from exhaust.worker import Effect, Keep, Perform, Rows, Worker

WITHIN = 10.0
QUEUE = QUEUES["activator"][0]


def fact(name: str) -> Fact:
    about: dict[str, Any] = {"host": "h", "labels": {}, "episode": name, "state": "open", "reason": "asserted"}
    return Fact(id=name, time=1.0, name=name, severity="info", since=1.0, valid_until=2.0, **about)


def sighting(name: str) -> Sighting:
    return Sighting(id=f"of-{name}", time=1.0, execution=name, host="h", holds="true", samples=1)


def delivery(name: str, **fields: Any) -> Delivery:
    sent = pack(fact(name))
    about = {"body": sent.body, "key": sent.key} | fields
    return Delivery(sent.exchange, about["key"], sent.id, sent.type, about["body"], 1.0, {}, QUEUE.name, 1)


def marks(*names: str) -> set[str]:
    return {f"{KNOWLEDGE}/{name}" for name in names}


class Memory:
    """A decider that keeps the names that it was told, answers each, and does what some names ask for."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.due = math.inf
        self.ticks: list[float] = []
        self.resumed: list[Effect] = []
        self.outcomes: list[tuple[Any, Any]] = []

    def recall(self, rows: Rows) -> None:
        self.names = [key.partition("/")[2] for key, _ in rows("name/")]

    def resume(self, now: float) -> Iterable[Effect]:
        return self.resumed

    def handle(self, message: Any, received: float) -> Iterable[Effect]:
        name = message.name
        self.names.append(name)
        yield Keep(f"name/{name}", received)
        if name.startswith("poison"):
            raise MessageError("not for me") if name == "poison-message" else ZeroDivisionError("a bug")
        if name == "unencodable":
            yield Keep("odd", object())
        if name == "work":
            yield Perform(name)
        yield sighting(name)

    def tick(self, now: float) -> Iterable[Effect]:
        self.ticks.append(now)
        self.due = math.inf
        yield Keep("tick", now)

    def status(self) -> dict[str, Any]:
        return {}

    def performed(self, work: Any, outcome: Any, now: float) -> Iterable[Effect]:
        self.outcomes.append((work, outcome))
        yield Keep(f"did/{work}", outcome)


class Disk(Store):
    """A store whose disk can be full."""

    full = False

    def commit(self, **what: Any) -> list[int]:
        if self.full:
            raise StoreError("the disk is full")
        return super().commit(**what)


class Bench:
    """A worker with all that it needs; what it sends arrives in `answers`."""

    def __init__(self, store: Disk, broker: Embedded) -> None:
        self.store = store
        self.broker = broker
        self.clock = VirtualClock(100.0)
        self.decider = Memory()
        self.answers: list[str] = []
        self.until = asyncio.Event()
        self.doing: asyncio.Queue[asyncio.Future[Any]] = asyncio.Queue()
        self.worker = Worker("test", self.decider, store, broker, self.clock, [QUEUE], perform=self._perform)

    async def _perform(self, work: Any) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.doing.put_nowait(future)
        return await future

    def handle(self, *deliveries: Delivery) -> Sequence[Disposition]:
        """Give it a batch without a broker in between."""
        steps = self.worker.handle(deliveries).__await__()
        with pytest.raises(StopIteration) as ended:
            next(steps)
        answers: Sequence[Disposition] = ended.value.value
        return answers

    @property
    def sent(self) -> list[str]:
        """What its store has yet to send."""
        return [publication.id for _, publication in self.store.unsent(0, 1000)]

    @property
    def kept(self) -> list[str]:
        return [key for key, _ in self.store.rows("name/")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path / "x.db") as opened:
        yield opened


@pytest.fixture
async def broker() -> AsyncIterator[Embedded]:
    async with Embedded() as opened:
        await opened.declare(EXCHANGES, [QUEUE, QUEUES["orchestrator"][1]])
        yield opened


@pytest.fixture
async def bench(store: Disk, broker: Embedded) -> Bench:
    return Bench(store, broker)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[asyncio.Task[None]]:
    """Run it until told, with somebody who reads what it sends."""

    async def read(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        bench.answers += [one.id for one in deliveries if one.id.startswith("of-")]
        return [ACKNOWLEDGE] * len(deliveries)

    async with bench.broker.consume(QUEUES["orchestrator"][1], read):
        task = asyncio.create_task(bench.worker.run(bench.until))
        try:
            yield task
        finally:
            bench.until.set()
            async with asyncio.timeout(WITHIN):
                await asyncio.wait([task])
        if task.exception() is None:
            assert not bench.store.backlog()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110  what is waited for has no event of its own
            await asyncio.sleep(0.001)


async def test_a_batch_is_one_transaction_of_marks_state_and_messages(bench: Bench) -> None:
    assert bench.handle(delivery("a"), delivery("b")) == [ACKNOWLEDGE] * 2
    assert bench.store.seen(marks("a", "b", "c")) == marks("a", "b")
    assert bench.kept == ["name/a", "name/b"]
    assert bench.sent == ["of-a", "of-b"]
    assert msgspec.json.decode(bench.store.get("name/a") or b"") == 100.0


async def test_a_crash_after_the_commit_makes_the_redelivery_a_duplicate(bench: Bench, broker: Embedded) -> None:
    bench.handle(delivery("a"))  # and here the process dies, before the acknowledgement
    again = Bench(bench.store, broker)
    assert again.handle(delivery("a"), delivery("b")) == [ACKNOWLEDGE] * 2
    assert again.worker.counts["duplicate"] == 1
    assert again.decider.names == ["b"]
    assert again.sent == ["of-a", "of-b"]


async def test_a_duplicate_within_a_batch_is_handled_once(bench: Bench) -> None:
    assert bench.handle(delivery("a"), delivery("b"), delivery("a")) == [ACKNOWLEDGE] * 3
    assert bench.decider.names == ["a", "b"]
    assert bench.sent == ["of-a", "of-b"]


@pytest.mark.parametrize("broken", [{"body": b"{}"}, {"key": "fact.other.b"}])
async def test_what_cannot_be_unpacked_is_rejected_and_its_neighbours_are_kept(
    bench: Bench, broken: dict[str, Any]
) -> None:
    first, second, third = bench.handle(delivery("a"), delivery("b", **broken), delivery("c"))
    assert isinstance(second, Reject)
    assert second.reason.startswith("unusable: ")
    assert (first, third) == (ACKNOWLEDGE, ACKNOWLEDGE)
    assert bench.sent == ["of-a", "of-c"]
    assert bench.worker.refused == {"unusable": 1}
    assert bench.store.seen(marks("a", "b", "c")) == marks("a", "c")


async def test_a_duplicate_behind_one_that_cannot_be_handled_is_handled_once(bench: Bench) -> None:
    bench.handle(delivery("a"), delivery("poison"), delivery("a"))
    assert bench.decider.names == ["a"]
    assert bench.sent == ["of-a"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("poison", "failed: a bug"), ("poison-message", "unusable: not for me"), ("unencodable", "failed: ")],
)
async def test_a_message_that_the_decider_fails_on_leaves_no_trace(bench: Bench, name: str, reason: str) -> None:
    first, second, third = bench.handle(delivery("a"), delivery(name), delivery("c"))
    assert isinstance(second, Reject)
    assert second.reason.startswith(reason)
    assert (first, third) == (ACKNOWLEDGE, ACKNOWLEDGE)
    assert bench.decider.names == ["a", "c"]  # recalled from what was kept before it
    assert bench.kept == ["name/a", "name/c"]
    assert bench.sent == ["of-a", "of-c"]
    assert bench.store.seen(marks(name)) == set()


async def test_a_message_comes_through_the_broker_and_its_answer_goes_out(bench: Bench) -> None:
    async with running(bench):
        async with asyncio.timeout(WITHIN):
            await bench.broker.publish(pack(fact("a")))
        await eventually(lambda: bench.answers == ["of-a"])
        status = bench.worker.status()
    assert status["counts"] == {"handled": 1, "sent": 1}
    assert status["epoch"] == 1
    assert bench.decider.names == ["a"]


async def test_a_poison_message_is_a_dead_letter_with_its_reason(bench: Bench) -> None:
    async with running(bench):
        for name in ("poison", "a"):
            bench.broker.publish(pack(fact(name)))
        await eventually(lambda: bench.answers == ["of-a"])
    dead = list(bench.broker._queues["exhaust.dead"].ready)
    assert [one.publication.headers["x-reason"] for one in dead] == ["failed: a bug"]


async def test_work_is_done_outside_and_its_outcome_decided(bench: Bench) -> None:
    async with running(bench):
        bench.broker.publish(pack(fact("work")))
        async with asyncio.timeout(WITHIN):
            done = await bench.doing.get()
        assert bench.kept == ["name/work"]
        done.set_result({"exit": 0})
        await eventually(lambda: bench.decider.outcomes == [("work", {"exit": 0})])
        assert bench.store.get("did/work") == b'{"exit":0}'


async def test_what_was_under_way_is_taken_up_again(bench: Bench) -> None:
    bench.decider.resumed = [Perform("left"), sighting("left")]
    async with running(bench):
        async with asyncio.timeout(WITHIN):
            (await bench.doing.get()).set_result(None)
        await eventually(lambda: bench.answers == ["of-left"])
    assert bench.decider.outcomes == [("left", None)]


async def test_time_is_told_when_it_is_due(bench: Bench) -> None:
    bench.decider.due = 110.0
    async with running(bench):
        await eventually(lambda: bench.worker._alarm == 110.0)
        bench.clock.advance(9.0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert bench.decider.ticks == []
        bench.clock.advance(1.0)
        await eventually(lambda: bench.decider.ticks == [110.0])
        assert bench.store.get("tick") == b"110.0"


async def test_what_becomes_due_earlier_is_told_earlier(bench: Bench) -> None:
    bench.decider.due = 1000.0
    async with running(bench):
        await eventually(lambda: bench.worker._alarm == 1000.0)
        bench.decider.due = 105.0
        bench.broker.publish(pack(fact("a")))
        await eventually(lambda: bench.worker._alarm == 105.0)
        bench.clock.advance(5.0)
        await eventually(lambda: bench.decider.ticks == [105.0])


async def test_nothing_in_flight_is_lost_when_it_is_told_to_stop(bench: Bench) -> None:
    async with running(bench) as task:
        for n in range(50):
            bench.broker.publish(pack(fact(f"f{n:02}")))
        bench.broker.publish(pack(fact("work")))
        async with asyncio.timeout(WITHIN):
            done = await bench.doing.get()
        bench.until.set()
        await asyncio.sleep(0.01)
        assert not task.done()
        done.set_result("at last")
    assert task.exception() is None
    assert bench.store.get("did/work") == b'"at last"'
    assert sorted(bench.answers) == sorted([*(f"of-f{n:02}" for n in range(50)), "of-work"])
    assert not bench.store.backlog()


async def test_a_stop_waits_only_so_long_for_confirms_and_the_next_run_sends(bench: Bench, broker: Embedded) -> None:
    task = asyncio.create_task(bench.worker.run(bench.until))  # and nobody reads what it sends
    broker.publish(pack(fact("a")))
    await eventually(lambda: bench.sent == ["of-a"])
    began = asyncio.get_running_loop().time()
    bench.until.set()
    async with asyncio.timeout(WITHIN):
        await task
    assert asyncio.get_running_loop().time() - began < 4.0
    assert bench.sent == ["of-a"]


async def test_a_store_that_fails_stops_the_service(bench: Bench) -> None:
    async with running(bench) as task:
        await eventually(lambda: bench.worker._timing)
        bench.store.full = True
        bench.broker.publish(pack(fact("a")))
        async with asyncio.timeout(WITHIN):
            await asyncio.wait([task])
        bench.store.full = False
        error = task.exception()
        assert isinstance(error, ExceptionGroup)
        assert error.subgroup(StoreError) is not None
    assert bench.store.seen(marks("a")) == set()


async def test_after_such_a_failure_nothing_more_is_taken(bench: Bench) -> None:
    bench.worker._fault = asyncio.get_running_loop().create_future()
    bench.store._db.close()
    with pytest.raises(StoreError):
        await bench.worker.handle([delivery("a")])
    assert await bench.worker.handle([delivery("a"), delivery("b")]) == [Redeliver()] * 2
    with contextlib.suppress(StoreError):
        await bench.worker._fault
