"""What a caller beside the queues has a worker do: durable when it returns, and on its way; or nothing of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import ACKNOWLEDGE, Delivery, Disposition
from exhaust.clock import VirtualClock
from exhaust.errors import MessageError, StoreError
from exhaust.messages import Sighting
from exhaust.routing import EXCHANGES, QUEUES
from exhaust.store import Store
from exhaust.worker import Effect, Keep, Rows, Worker

HEARING = QUEUES["orchestrator"][1]


class Memory:
    """A decider that knows how many keys it was told to keep."""

    due = 1e18

    def __init__(self) -> None:
        self.known = 0

    def recall(self, rows: Rows) -> None:
        self.known = sum(1 for _ in rows("name/"))

    def remember(self, *names: str) -> Iterable[Effect]:
        for name in names:
            self.known += 1
            yield Keep(f"name/{name}", 1)

    def resume(self, now: float) -> Iterable[Effect]:
        return ()

    def handle(self, message: Any, received: float) -> Iterable[Effect]:
        return ()

    def tick(self, now: float) -> Iterable[Effect]:
        return ()

    def performed(self, work: Any, outcome: Any, now: float) -> Iterable[Effect]:
        return ()

    def status(self) -> dict[str, Any]:
        return {}


class Disk(Store):
    """A store whose disk can be full."""

    full = False

    def commit(self, **what: Any) -> list[int]:
        if self.full:
            raise StoreError("the disk is full")
        return super().commit(**what)


class Bench:
    """A worker at work, and what others hear of it."""

    def __init__(self, store: Disk, broker: Embedded) -> None:
        self.store = store
        self.decider = Memory()
        self.worker = Worker("test", self.decider, store, broker, VirtualClock(1.0), [])
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.until = asyncio.Event()

    async def hear(self, deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        for delivery in deliveries:
            self.heard.put_nowait(delivery.id)
        return [ACKNOWLEDGE] * len(deliveries)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    with Disk(tmp_path / "x.db") as store:
        async with Embedded() as broker:
            await broker.declare(EXCHANGES, [HEARING])
            bench = Bench(store, broker)
            async with broker.consume(HEARING, bench.hear):
                task = asyncio.create_task(bench.worker.run(bench.until))
                await asyncio.sleep(0)
                yield bench
                bench.until.set()
                with contextlib.suppress(ExceptionGroup):
                    await asyncio.wait_for(task, 5)


def sighting(name: str) -> Sighting:
    return Sighting(id=name, time=1.0, execution=name, host="h", holds="true", samples=1)


async def test_what_is_put_is_on_disk_at_once_and_arrives(bench: Bench) -> None:
    bench.worker.put([sighting("s1"), *bench.decider.remember("a")])
    assert [key for key, _ in bench.store.rows("name/")] == ["name/a"]
    assert [publication.id for _, publication in bench.store.unsent(0, 10)] == ["s1"]
    assert await asyncio.wait_for(bench.heard.get(), 5) == "s1"


async def test_what_cannot_be_sent_leaves_no_trace(bench: Bench) -> None:
    far = Sighting(id="s1", time=1.0, execution="x", host="h" * 300, holds="true", samples=1)
    with pytest.raises(MessageError):
        bench.worker.put([*bench.decider.remember("a", "b"), far])
    assert (bench.decider.known, list(bench.store.rows("name/"))) == (0, [])
    bench.worker.put([sighting("s2")])
    assert await asyncio.wait_for(bench.heard.get(), 5) == "s2"


async def test_a_disk_that_takes_nothing_is_told_and_stops_the_service(bench: Bench) -> None:
    bench.store.full = True
    with pytest.raises(StoreError, match="disk is full"):
        bench.worker.put([sighting("s1")])
    with pytest.raises(StoreError, match="the test takes nothing"):
        bench.worker.put([sighting("s2")])


async def test_nothing_is_taken_before_it_runs(tmp_path: Path) -> None:
    with Disk(tmp_path / "y.db") as store:
        with pytest.raises(StoreError, match="takes nothing"):
            Bench(store, Embedded()).worker.put([sighting("s1")])
        assert store.backlog() == 0
