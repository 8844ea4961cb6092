"""Lines go on their way once, through the spool, however often the component is stopped and started."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from emitters.file import EMITTER, Changes, File
from emitters.runner import Emitters
from emitters.spool.opening import opened_log
from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import Publication
from exhaust.clock import SystemClock
from exhaust.lifecycle.service import Station
from exhaust.messages import Batch, Codec
from exhaust.signing import Keys


class Recording(Embedded):
    """A broker that confirms at once and keeps each batch once, as the collector does."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: dict[str, Batch] = {}

    def publish(self, publication: Publication) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        message = Codec.decode(publication.body)
        assert isinstance(message, Batch)
        self.batches[publication.id] = message
        return future

    def of(self, stream: str, field: str) -> list[Any]:
        return [one[field] for batch in self.batches.values() if batch.stream == stream for one in batch.records]

    async def have(self, count: int, stream: str) -> None:
        async with asyncio.timeout(20):
            while len(self.of(stream, "path")) < count:  # noqa: ASYNC110  a list has no event
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(state: Path, settings: File, broker: Recording) -> AsyncIterator[None]:
    with opened_log(state / "spool", most=16 << 20) as log:
        until = asyncio.Event()
        station = Station("web.1", state, SystemClock(), broker, Keys(state / "keys"))
        task = asyncio.create_task(Emitters(station, [(EMITTER, settings)], log).run(until))
        try:
            yield
        finally:
            until.set()
            async with asyncio.timeout(20):
                await task


def write(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


async def test_lines_that_are_safe_do_not_come_again_and_others_do(tmp_path: Path) -> None:
    log, broker, expected = tmp_path / "app.log", Recording(), []
    settings = File(paths=(str(log),), from_="begin", state=str(tmp_path / "state"))
    for number in range(4):
        lines = [f"line {number} {n}" for n in range(700)]
        expected += lines
        write(log, *lines[:300])
        async with running(tmp_path / "state", settings, broker):
            write(log, *lines[300:])
            if number % 2:
                log.rename(log.with_name(f"app.log.{9 - number}"))
                log.touch()
            await broker.have(len(expected) - 350 * (number % 2), "line")
    async with running(tmp_path / "state", settings, broker):
        await broker.have(len(expected), "line")
    assert broker.of("line", "line") == expected


async def test_changes_that_are_safe_are_not_told_again(tmp_path: Path) -> None:
    path, broker = tmp_path / "a.conf", Recording()
    settings = File(changes=(Changes(files=(str(path),)),), state=str(tmp_path / "state"))
    write(path, "one")
    async with running(tmp_path / "state", settings, broker), asyncio.timeout(20):
        while not (tmp_path / "state" / "catalogue" / "patterns.json").exists():  # noqa: ASYNC110  a file has no event
            await asyncio.sleep(0.01)
        write(path, "two")
        await broker.have(1, "change")
        write(path, "three")
        await broker.have(2, "change")
    write(path, "four")
    async with running(tmp_path / "state", settings, broker):
        await broker.have(3, "change")
    sums = broker.of("change", "sha256")
    assert broker.of("change", "previous_sha256")[1:] == sums[:2]
    assert len(set(sums)) == 3
