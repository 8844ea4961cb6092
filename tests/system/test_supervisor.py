"""The supervisor on real children: who dies is started again, and a stop ends all of them."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from exhaust.clock import SystemClock
from exhaust.processes import find
from exhaust.supervisor import Child, children, supervise

WITHIN = 20.0
CHILD = """
import os, signal, sys, time
how, path = sys.argv[1:]
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with open(path, "a") as lives:
    lives.write(f"{os.getpid()} {os.environ['EXHAUST_RESTARTS']}\\n")
if how == "short":
    sys.exit(3)
while True:
    time.sleep(60)
"""


class Household:
    """Children and what they wrote of their lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.until = asyncio.Event()

    def child(self, name: str, how: str = "good") -> Child:
        return Child(name, (sys.executable, "-c", CHILD, how, str(self._folder / name)))

    def lives(self, name: str) -> list[tuple[int, int]]:
        """Return pid and number of each life of a child."""
        path = self._folder / name
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(pid), int(number)) for pid, number in map(str.split, lines)]

    @contextlib.asynccontextmanager
    async def kept(self, *kept: Child, stop_within: float = 5.0) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(supervise(kept, self.until, SystemClock(), stop_within=stop_within))
        try:
            yield task
        finally:
            self.until.set()
            async with asyncio.timeout(WITHIN):
                await asyncio.wait([task])
        names = [child.name for child in kept]
        await eventually(lambda: not [name for name in names for pid, _ in self.lives(name) if find(pid)])


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110  another process tells through a file
            await asyncio.sleep(0.01)


@pytest.fixture
async def household(tmp_path: Path) -> Household:
    return Household(tmp_path)


async def test_a_child_that_dies_is_started_again_and_told_how_often(household: Household) -> None:
    async with household.kept(household.child("a"), household.child("b")):
        for number in range(3):
            await eventually(lambda number=number: len(household.lives("a")) == number + 1)  # type: ignore[misc]
            os.kill(household.lives("a")[-1][0], signal.SIGKILL)
        await eventually(lambda: len(household.lives("a")) == 4)
        assert [number for _, number in household.lives("a")] == [0, 1, 2, 3]
        await eventually(lambda: len(household.lives("b")) == 1)


async def test_a_child_that_ends_by_itself_is_started_again_after_a_growing_pause(household: Household) -> None:
    began = asyncio.get_running_loop().time()
    async with household.kept(household.child("a", "short")):
        await eventually(lambda: len(household.lives("a")) == 4)
    assert asyncio.get_running_loop().time() - began > 0.1 + 0.2 + 0.5


async def test_a_stop_ends_every_child_and_starts_none(household: Household) -> None:
    async with household.kept(*(household.child(name) for name in "abc")) as task:
        await eventually(lambda: all(household.lives(name) for name in "abc"))
        household.until.set()
        async with asyncio.timeout(WITHIN):
            await task
        for name in "abc":
            ((pid, _),) = household.lives(name)
            assert find(pid) is None


async def test_a_child_that_does_not_stop_is_killed(household: Household) -> None:
    async with household.kept(household.child("a", "stubborn"), stop_within=0.2) as task:
        await eventually(lambda: bool(household.lives("a")))
        household.until.set()
        async with asyncio.timeout(WITHIN):
            await task
        assert len(household.lives("a")) == 1


async def test_a_supervisor_that_is_cut_off_tells_its_children(household: Household) -> None:
    async with household.kept(household.child("a")) as task:
        await eventually(lambda: bool(household.lives("a")))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        pid = household.lives("a")[0][0]
        # It ends, and nobody else collects it.
        await asyncio.to_thread(os.waitpid, pid, 0)


async def test_no_descriptor_is_left_open(household: Household) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208  the names alone
    async with household.kept(household.child("a", "short")):
        await eventually(lambda: len(household.lives("a")) == 3)
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


def test_with_an_embedded_broker_there_is_one_child_else_one_a_component() -> None:
    (only,) = children(["a", "b"], "/etc/x", embedded=True)
    assert only.argv[1:] == ("-m", "exhaust.main", "run", "a", "b", "--config", "/etc/x")
    each = children(["a", "b"], "/etc/x", embedded=False)
    assert [child.name for child in each] == ["a", "b"]
    assert each[1].argv[1:] == ("-m", "exhaust.main", "run", "b", "--config", "/etc/x")
