"""Whether a worker gets on: what is due must be done, however the clock is set."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from exhaust.broker.embedded import Embedded
from exhaust.clock import VirtualClock
from exhaust.store import Store
from exhaust.worker import Effect, Rows, Worker

START = 1000.0


class Alarm:
    """A decider that has only something due."""

    due = math.inf

    def recall(self, rows: Rows) -> None: ...

    def resume(self, now: float) -> Iterable[Effect]:
        return ()

    def handle(self, message: Any, received: float) -> Iterable[Effect]:
        return ()

    def tick(self, now: float) -> Iterable[Effect]:
        self.due = math.inf
        return ()

    def status(self) -> dict[str, Any]:
        return {}

    def performed(self, work: Any, outcome: Any, now: float) -> Iterable[Effect]:
        return ()


class Bench:
    """A worker whose wall clock does not tell it that time has passed, as one that has lost its alarm."""

    def __init__(self, store: Store, broker: Embedded) -> None:
        self.decider = Alarm()
        self.clock = VirtualClock(START)
        self.seconds = 0.0
        self.until = asyncio.Event()
        self.worker = Worker("test", self.decider, store, broker, self.clock, (), monotonic=lambda: self.seconds)


@contextlib.asynccontextmanager
async def working(folder: Path) -> AsyncIterator[Bench]:
    with Store(folder / "x.db") as store:
        async with Embedded() as broker:
            bench = Bench(store, broker)
            task = asyncio.create_task(bench.worker.run(bench.until))
            for _ in range(5):
                await asyncio.sleep(0)
            yield bench
            bench.until.set()
            await task


async def test_what_is_due_and_never_done_is_a_hang_after_90_seconds(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        bench.decider.due = START - 1.0  # and nobody has set the alarm to it
        assert bench.worker.stuck() == ""
        bench.seconds = 90.0
        assert bench.worker.stuck() == ""
        bench.seconds = 91.0
        assert bench.worker.stuck() == "what is due has not been done for 91 s"


async def test_it_gets_on_as_soon_as_that_is_done(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        bench.decider.due = START - 1.0
        bench.worker.stuck()
        bench.seconds = 100.0
        bench.decider.due = math.inf
        assert bench.worker.stuck() == ""
        bench.decider.due = START
        bench.seconds = 150.0
        assert bench.worker.stuck() == ""


async def test_a_wall_clock_that_is_set_is_no_hang(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        bench.decider.due = START + 10.0
        assert bench.worker.stuck() == ""
        bench.clock.advance(3600.0)
        assert bench.worker.stuck() == ""


async def test_one_that_does_not_run_is_not_stuck(tmp_path: Path) -> None:
    async with working(tmp_path) as bench:
        bench.decider.due = START - 1.0
    bench.worker.stuck()
    bench.seconds = 1000.0
    assert bench.worker.stuck() == ""
