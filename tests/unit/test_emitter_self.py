"""What the emitters say of themselves: rates and costs from status, and of emitters at work."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any, cast

import psutil

from emitters.runner import Emitters
from emitters.self import EMITTER, EMITTERS, PROCESS, Itself, Look, seeing
from emitters.spool.opening import opened_log
from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import Publication
from exhaust.clock import Clock, VirtualClock
from exhaust.lifecycle.service import Station
from exhaust.messages import Batch, Codec
from exhaust.plugins import Emitter, Lost, Record, Settings
from exhaust.signing import Keys

WITHIN = 10.0
ONE = {
    "running": True,
    "records": 100,
    "batches": 7,
    "last_time": 95.0,
    "restarts": 1,
    "last_error": "",
    "dropped": {"kernel": 3},
    "cpu_seconds": 1.5,
    "sources": {},
}
SPOOL = {"unsent": 4, "bytes": 1000, "disk": 9000, "oldest": 2.5, "dropped": {"kernel": 3}}


def test_rates_are_of_the_time_since_the_last_look() -> None:
    with ExitStack() as opened:
        look = Look(opened)
        (first,) = look.emitters({"one": ONE}, 100.0)
        look.process(SPOOL, 100.0)
        after = ONE | {"records": 150, "dropped": {"kernel": 4, "too_big": 1}, "cpu_seconds": 1.52}
        (second,) = look.emitters({"one": after}, 110.0)
    assert first["lag_seconds"] == 5.0
    assert "records_per_second" not in first
    assert (second["records_per_second"], second["dropped_per_second"], second["cpu_percent"]) == (5.0, 0.2, 0.2)
    assert (second["emitter"], second["dropped"]) == ("one", {"kernel": 4, "too_big": 1})
    assert set(second) == set(EMITTERS)


def test_the_process_is_told_of_as_psutil_does_and_its_spool() -> None:
    with ExitStack() as opened:
        look = Look(opened)
        look.process(SPOOL, 100.0)
        told = look.process(SPOOL, 110.0)
    seen = psutil.Process()
    assert (told["pid"], told["threads"]) == (os.getpid(), seen.num_threads())
    assert abs(told["memory_bytes"] - seen.memory_info().rss) < 32 << 20
    assert (told["spool_batches"], told["spool_bytes"], told["spool_disk_bytes"]) == (4, 1000, 9000)
    assert set(told) == set(PROCESS)


async def test_alone_it_tells_of_its_process_only() -> None:
    records = cast("AsyncGenerator[Record]", EMITTER.emit(Itself(), VirtualClock(), {}))
    async with aclosing(records):
        record = await anext(records)
    assert record.stream == "process"
    assert set(record.fields) == {"pid", "memory_bytes", "threads"}


def test_only_this_emitter_is_given_to_see_the_others() -> None:
    other = Emitter("other", Settings, busy, {})
    assert seeing(other, dict) is other
    assert seeing(EMITTER, dict).name == "self"


async def busy(settings: Settings, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record | Lost]:
    yield Lost("kernel", 2, "a")
    async for now in clock.every(10.0):
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        yield Record(now, {"n": 1}, "a")


class Recording(Embedded):
    """A broker that keeps the records of `self.emitter`."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Mapping[str, Any]] = []

    def publish(self, publication: Publication) -> asyncio.Future[None]:
        message = Codec.decode(publication.body)
        if isinstance(message, Batch) and (message.emitter, message.stream) == ("self", "emitter"):
            self.told += message.records
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        confirmed.set_result(None)
        return confirmed


async def test_emitters_at_work_are_told_of_with_what_they_cost(tmp_path: Path) -> None:
    clock, broker, until = VirtualClock(), Recording(), asyncio.Event()
    pairs: list[tuple[Emitter[Any], Settings]] = [
        (Emitter("busy", Settings, busy, {"a": {}}), Settings()),
        (EMITTER, Itself(every=10.0)),
    ]
    with opened_log(tmp_path / "spool", most=16 << 20) as log:
        running = Emitters(Station("web.1", tmp_path, clock, broker, Keys(tmp_path / "keys")), pairs, log)
        task = asyncio.create_task(running.run(until))
        async with asyncio.timeout(WITHIN):
            while len([one for one in broker.told if one["emitter"] == "busy"]) < 4:
                await asyncio.sleep(0.01)
                clock.advance(1.0)
        until.set()
        await task
    last = [one for one in broker.told if one["emitter"] == "busy"][-1]
    assert (last["running"], last["dropped"], last["records_per_second"]) == (True, {"kernel": 2}, 0.1)
    assert 0.4 < last["cpu_percent"] < 2
    assert {one["emitter"] for one in broker.told} == {"busy", "self"}
