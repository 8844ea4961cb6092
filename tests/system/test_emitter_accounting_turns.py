"""The emitter of accounting where the kernel stops to write its file, and where one of us left it on."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from emitters.accounting import EMITTER, Accounting
from emitters.exits.switch import Switch, account, written
from exhaust.clock import VirtualClock
from exhaust.plugins import Lost, Record
from tests.system.host_state import ROOT, Told, alone, run

FILES = [Path("/var/log/account/pacct"), Path("/var/account/pacct"), Path("/var/log/pacct")]
pytestmark = pytest.mark.skipif(not ROOT, reason="only root turns accounting on and off")


@pytest.fixture
def pacct() -> Iterator[Path]:
    """An empty file of the test's own, to which nothing is written yet, while nobody else turns accounting on."""
    folder = Path(tempfile.mkdtemp(prefix="exhaust-", dir="/var/tmp"))
    with alone():
        found = written(FILES)
        account(None)
        try:
            (folder / "pacct").touch(mode=0o600)
            yield folder / "pacct"
        finally:
            account(found)
            shutil.rmtree(folder)


@asynccontextmanager
async def turning(settings: Accounting) -> AsyncIterator[tuple[Told, VirtualClock]]:
    """Run the emitter by a clock that the test moves on."""
    told, clock = Told(), VirtualClock(round(time.time()))
    found = cast("AsyncGenerator[Record | Lost]", EMITTER.emit(settings, clock, {}))
    task = asyncio.create_task(told.take(found, set(EMITTER.streams["process"])))
    try:
        await asyncio.sleep(0.1)
        yield told, clock
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()):
        raise error


async def test_what_ended_before_it_was_noticed_that_the_file_is_written_no_more_is_told_by_the_statistics(
    pacct: Path,
) -> None:
    account(pacct)
    async with turning(Accounting(file=str(pacct), every=1.0)) as (told, clock):
        first = await run("/bin/true")
        clock.advance(1)
        await told.until(lambda: told.of(pid=first))
        account(None)
        second = await run("/bin/true")
        clock.advance(1)
        await asyncio.sleep(0.1)
        assert not told.of(pid=second)
        clock.advance(61)
        await told.until(lambda: told.of(pid=second))
    assert [one["source"] for one in told.of(pid=first) + told.of(pid=second)] == ["pacct", "taskstats"]


async def test_what_was_left_on_by_one_of_us_that_was_killed_is_turned_off_though_nothing_is_to_be_turned_on(
    pacct: Path,
) -> None:
    Switch(pacct).turn_on([])
    assert written([pacct]) == pacct
    async with turning(Accounting(file=str(pacct), every=1.0)):
        assert written([pacct]) is None
    assert not pacct.with_name("pacct.on").exists()
