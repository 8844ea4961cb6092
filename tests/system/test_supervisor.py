"""The supervisor on real children: who dies or hangs is started again, and a stop ends all of them."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from exhaust.clock import SystemClock
from exhaust.lifecycle.supervisor import Child, Limits, Supervisor, children
from exhaust.processes import find

WITHIN = 20.0
HASTY = Limits(ask_every=0.05, hung_after=0.5, starts_within=1.5, stop_within=5.0)
CHILD = """
import os, signal, socket, sys, time
how, path = sys.argv[1:]
def end_slowly(*_):
    begun = time.monotonic()
    time.sleep(0.2)
    with open(os.path.join(os.path.dirname(path), "ends"), "a") as ends:
        ends.write(f"{os.path.basename(path)} {begun} {time.monotonic()}\\n")
    sys.exit(0)
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif how == "slow":
    signal.signal(signal.SIGTERM, end_slowly)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with open(path, "a") as lives:
    lives.write(f"{os.getpid()} {os.environ['EXHAUST_RESTARTS']}\\n")
if how == "short":
    sys.exit(3)
if how in ("well", "sick"):
    told = open(path + ".told", "a", buffering=1)
    time.sleep(0.1)
    signal.signal(signal.SIGHUP, lambda *_: told.write("SIGHUP\\n"))
    listener = socket.socket(socket.AF_UNIX)
    if os.path.exists(path + ".sock"):
        os.unlink(path + ".sock")
    listener.bind(path + ".sock")
    listener.listen()
    said = 0
    while True:
        asking, _ = listener.accept()
        asking.recv(1000)
        said += 1
        asking.send(b"HTTP/1.0 " + (b"200 OK" if how == "well" or said == 1 else b"503 No") + b"\\r\\n\\r\\nsick")
        asking.close()
while True:
    time.sleep(60)
"""


class Household:
    """Children and what they wrote of their lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.until = asyncio.Event()

    def child(self, name: str, how: str = "good", *, asked: bool = False) -> Child:
        argv = (sys.executable, "-c", CHILD, how, str(self._folder / name))
        return Child(name, argv, self._folder / f"{name}.sock" if asked else None)

    def lives(self, name: str) -> list[tuple[int, int]]:
        """Return pid and number of each life of a child."""
        path = self._folder / name
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(pid), int(number)) for pid, number in map(str.split, lines)]

    def told(self, name: str) -> list[str]:
        """Return what a child was told while it ran."""
        path = self._folder / f"{name}.told"
        return path.read_text().split() if path.exists() else []

    def row(self, name: str) -> dict[str, Any]:
        """Return what the supervisor tells of a child."""
        row: dict[str, Any] = self.supervisor.status()["children"][name]
        return row

    @contextlib.asynccontextmanager
    async def kept(self, *kept: Child, limits: Limits = HASTY) -> AsyncIterator[asyncio.Task[None]]:
        self.supervisor = Supervisor(kept, SystemClock(), limits)
        task = asyncio.create_task(self.supervisor.run(self.until))
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


async def test_each_child_is_told_to_stop_once_the_one_before_it_has_ended(
    household: Household, tmp_path: Path
) -> None:
    limits = Limits(stop_within=600.0)
    async with household.kept(*(household.child(name, "slow") for name in "cab"), limits=limits) as task:
        await eventually(lambda: all(household.lives(name) for name in "abc"))
        household.until.set()
        async with asyncio.timeout(WITHIN):
            await task
    ends = [line.split() for line in (tmp_path / "ends").read_text().splitlines()]
    assert [name for name, _, _ in ends] == ["c", "a", "b"]
    assert all(float(ended) <= float(begun) for (_, _, ended), (_, begun, _) in itertools.pairwise(ends))


async def test_who_does_not_stop_holds_up_the_others_only_so_long(household: Household) -> None:
    limits = Limits(stop_within=3.0)
    async with household.kept(household.child("a", "stubborn"), household.child("b", "slow"), limits=limits) as task:
        await eventually(lambda: all(household.lives(name) for name in "ab"))
        household.until.set()
        async with asyncio.timeout(WITHIN):
            await task
        assert household.row("a")["last_exit"] == -signal.SIGKILL
        assert household.row("b")["last_exit"] == 0


async def test_a_child_that_does_not_stop_is_killed(household: Household) -> None:
    async with household.kept(household.child("a", "stubborn"), limits=Limits(stop_within=0.2)) as task:
        await eventually(lambda: bool(household.lives("a")))
        household.until.set()
        async with asyncio.timeout(WITHIN):
            await task
        assert len(household.lives("a")) == 1


async def test_in_a_hurry_who_does_not_stop_is_killed_at_once(household: Household) -> None:
    async with household.kept(household.child("a", "stubborn"), limits=Limits(stop_within=600.0)) as task:
        await eventually(lambda: bool(household.lives("a")))
        household.until.set()
        household.supervisor.at_once.set()
        async with asyncio.timeout(WITHIN):
            await task
        assert len(household.lives("a")) == 1


async def test_a_stopped_child_is_killed_and_started_again(household: Household) -> None:
    async with household.kept(household.child("a", "well", asked=True)):
        await eventually(lambda: household.row("a")["state"] == "running")
        os.kill(household.row("a")["pid"], signal.SIGSTOP)
        await eventually(lambda: household.row("a")["restarts"] == 1 and household.row("a")["state"] == "running")
        row = household.row("a")
        assert (row["pid"], row["last_exit"]) == (household.lives("a")[1][0], -signal.SIGKILL)
        assert row["last_error"].startswith("killed, since it hung: does not answer, for ")


async def test_a_child_that_says_it_is_not_well_is_killed_though_it_answers(household: Household) -> None:
    async with household.kept(household.child("a", "sick", asked=True)):
        await eventually(lambda: len(household.lives("a")) == 2)
        assert household.row("a")["last_error"].startswith("killed, since it hung: is not well: sick, for ")


async def test_a_child_that_never_answers_is_killed_after_its_start(household: Household) -> None:
    async with household.kept(household.child("a", "good", asked=True)):
        await eventually(lambda: bool(household.lives("a")))
        assert household.row("a")["state"] == "starting"
        await eventually(lambda: len(household.lives("a")) == 2)
        assert household.row("a")["last_error"].startswith("killed, since it hung: cannot be asked: ")
        assert not household.supervisor.complete.is_set()


async def test_a_child_that_is_starting_is_told_to_reload_once_it_listens(household: Household) -> None:
    async with household.kept(household.child("a", "well", asked=True)):
        household.supervisor.reload()  # nobody runs yet
        await eventually(lambda: household.row("a")["state"] == "starting")
        household.supervisor.reload()
        await eventually(lambda: household.told("a") == ["SIGHUP"])
        await eventually(lambda: household.supervisor.complete.is_set())
        household.supervisor.reload()
        await eventually(lambda: household.told("a") == ["SIGHUP", "SIGHUP"])
        assert len(household.lives("a")) == 1


async def test_a_child_that_keeps_ending_is_told_of_once(
    household: Household, caplog: pytest.LogCaptureFixture
) -> None:
    async with household.kept(household.child("a", "short"), household.child("b")):
        await eventually(lambda: household.row("a")["state"] == "crashing")
        row = household.row("a")
        assert (row["state"], row["last_exit"], row["last_error"]) == ("crashing", 3, "ended with exit code 3")
        assert household.supervisor.ready() == {"a": False, "b": True}
    assert [text for text in caplog.messages if "keeps ending" in text] == ["child keeps ending: see what it logged"]


async def test_a_program_that_is_not_there_is_tried_again(household: Household) -> None:
    async with household.kept(Child("a", ("/nowhere/at-all",))):
        await eventually(lambda: household.row("a")["restarts"] == 3)
        assert household.row("a")["last_error"].startswith("cannot be started: ")


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
    (only,) = children(["a", "b"], "/etc/x", embedded=True, sockets=Path("/run"))
    assert (only.name, only.socket) == ("all", Path("/run/all.sock"))
    assert only.argv[1:] == ("-m", "exhaust.main", "run", "a", "b", "--config", "/etc/x")
    each = children(["a", "b"], "/etc/x", embedded=False)
    assert [child.name for child in each] == ["a", "b"]
    assert each[1].argv[1:] == ("-m", "exhaust.main", "run", "b", "--config", "/etc/x")
