"""Who leads: one at a time, the next as soon as the store is free, and who is told to stop waits no longer."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exhaust.errors import LockedError
from exhaust.lifecycle.leading import Led, leading
from exhaust.store import Store

WITHIN = 5.0


class Work:
    """A service that says when it runs."""

    name = "work"

    def __init__(self, store: Store) -> None:
        self.epoch = store.epoch
        self.running = asyncio.Event()

    async def run(self, until: asyncio.Event) -> None:
        self.running.set()
        await until.wait()

    def status(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def stuck(self) -> str:
        return "it hangs"


class Instance:
    """One installation's component, started."""

    def __init__(self, path: Path) -> None:
        self.until = asyncio.Event()
        self.made: asyncio.Queue[Work] = asyncio.Queue()
        self.led = Led("work", path, self._make)
        self.task = asyncio.create_task(self.led.run(self.until))

    def _make(self, store: Store) -> Work:
        self.made.put_nowait(work := Work(store))
        return work

    async def leads(self) -> Work:
        work = await self.made.get()
        await work.running.wait()
        return work

    async def stop(self) -> None:
        self.until.set()
        await self.task


async def test_one_leads_and_the_other_follows_with_a_higher_epoch(tmp_path: Path) -> None:
    async with asyncio.timeout(WITHIN):
        first = Instance(tmp_path / "x.db")
        assert (await first.leads()).epoch == 1
        second = Instance(tmp_path / "x.db")
        await asyncio.sleep(0)
        assert first.led.status() == {"state": "leading", "epoch": 1}
        assert second.led.status() == {"state": "standby"}
        await first.stop()
        assert (await second.leads()).epoch == 2
        assert first.led.status() == {"state": "standby"}
        await second.stop()


async def test_who_leads_tells_whether_its_service_hangs(tmp_path: Path) -> None:
    async with asyncio.timeout(WITHIN):
        instance = Instance(tmp_path / "x.db")
        assert instance.led.stuck() == ""
        await instance.leads()
        assert instance.led.stuck() == "it hangs"
        await instance.stop()


async def test_a_leader_that_fails_makes_room(tmp_path: Path) -> None:
    async with asyncio.timeout(WITHIN):
        first = Instance(tmp_path / "x.db")
        await first.leads()
        second = Instance(tmp_path / "x.db")
        first.task.cancel()
        await asyncio.wait([first.task])
        assert (await second.leads()).epoch == 2
        await second.stop()


async def test_a_standby_that_is_told_to_stop_waits_no_longer(tmp_path: Path) -> None:
    with Store(tmp_path / "x.db") as held:
        async with asyncio.timeout(WITHIN):
            waiting = Instance(tmp_path / "x.db")
            await asyncio.sleep(0)
            await waiting.stop()
        assert waiting.made.empty()
        assert held.epoch == 1


async def test_nobody_leads_after_the_order_to_stop(tmp_path: Path) -> None:
    until = asyncio.Event()
    until.set()
    async with leading(tmp_path / "x.db", until) as store:
        assert store is None


async def test_what_is_led_may_be_anything_that_only_one_may_have(tmp_path: Path) -> None:
    held = asyncio.Lock()
    made: asyncio.Queue[str] = asyncio.Queue()

    @contextlib.contextmanager
    def opening() -> Iterator[str]:
        if held.locked():
            raise LockedError("somebody else has it")
        yield "mine"

    def make(opened: str) -> Work:
        made.put_nowait(opened)
        return Work(Store(tmp_path / "x.db"))

    async with asyncio.timeout(WITHIN):
        await held.acquire()
        until = asyncio.Event()
        led = Led("work", opening, make)
        task = asyncio.create_task(led.run(until))
        await asyncio.sleep(0)
        assert led.status() == {"state": "standby"}
        held.release()
        assert await made.get() == "mine"
        until.set()
        await task
