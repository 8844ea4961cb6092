"""The helper cut off at each boundary of what it writes: an effect is begun at most once, and what is said of it holds.

Such an instant is a copy of the host's state as it was then. Between two of them a write may have got to the disk in
part: it is cut at many places, at last before its last byte.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.helper import Helper
from agents.journal import Answer
from exhaust.messages import Command
from exhaust.plugins import Action, Outcome, Settings, Tools
from tests.system.helper_host import PATIENCE, Host

CUTS = 30
POLICY = "test.step: {}\n"


class Step(Settings, frozen=True, kw_only=True):
    """An effect that is counted."""


class World:
    """A host as it was at an instant, and what is done there from then on; `begun` counts all effects in it.

    In the `first` world the instants of an effect are kept.
    """

    def __init__(self, folder: Path, begun: int = 0, *, first: bool = False) -> None:
        self.host = Host(folder)
        self.begun = begun
        self.instants: dict[str, World] = {}
        self._first = first

    def keep(self, name: str) -> None:
        """Keep this instant."""
        if self._first:
            self.instants[name] = self.copied(self.host.state.with_name(name))

    def copied(self, folder: Path, log: bytes | None = None) -> "World":
        """Return another world like this one, with another write-ahead log if one is given."""
        shutil.copytree(self.host.state, folder, ignore=shutil.ignore_patterns("run", "*-shm", "*.lock"))
        if log is not None:
            (folder / "helper.db-wal").write_bytes(log)
        return World(folder, self.begun)

    def files(self) -> tuple[bytes, bytes]:
        return (self.host.state / "helper.db").read_bytes(), (self.host.state / "helper.db-wal").read_bytes()

    def actions(self, *, settles: bool, faulty: bool) -> dict[str, Action[Any]]:
        def look(params: Step, tools: Tools) -> int:
            if faulty:
                raise ZeroDivisionError
            self.keep("before it is written down")
            return self.begun

        async def act(params: Step, tools: Tools) -> Outcome:
            self.keep("before it begins")
            self.begun += 1
            self.keep("before its end is written down")
            return Outcome(changed=True)

        def probe(params: Step, before: int, tools: Tools) -> Outcome | None:
            if faulty:
                raise ZeroDivisionError
            return Outcome(changed=True) if self.begun > before else None

        return {"test.step": Action("test.step", Step, act, look=look, probe=probe if settles else None)}

    @asynccontextmanager
    async def helper(self, *, settles: bool, faulty: bool = False) -> AsyncIterator[None]:
        until, actions = asyncio.Event(), self.actions(settles=settles, faulty=faulty)
        helper = Helper(self.host.station, self.host.policy, actions=actions)
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(helper.run(until))
            try:
                yield
            finally:
                until.set()

    async def asked(self, *sealed: bytes, settles: bool = False, faulty: bool = False) -> list[Answer]:
        """Return what a helper answers that is started here and asked one after the other."""
        async with self.helper(settles=settles, faulty=faulty):
            return [(await self.host.ask_sealed(one))[0] for one in sealed]


@pytest.fixture
def first() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="hj", dir="/tmp") as folder:
        state = Path(folder) / "first"
        state.mkdir()
        world = World(state, first=True)
        world.host.allow(POLICY)
        yield world


def step(world: World) -> bytes:
    command: Command = world.host.command("test.step", {})
    return world.host.seal(command)


async def lived(first: World, *, settles: bool = False) -> bytes:
    """Let the effect go by undisturbed, with its instants kept; return the command that asked for it."""
    sealed = step(first)
    async with first.helper(settles=settles):
        (answer,) = await first.host.ask_sealed(sealed)
        first.keep("before it is answered")
    assert (answer.state, first.begun) == ("succeeded", 1)
    return sealed


def torn(first: World, start: str, end: str) -> Iterator[World]:
    """Yield the worlds in which what was written between two instants got to the disk in part."""
    (base, before), (same, after) = first.instants[start].files(), first.instants[end].files()
    assert base == same
    differs = [n for n, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    for number, cut in enumerate([*differs[:: len(differs) // CUTS + 1], differs[-1]]):
        world = first.instants[end].copied(first.host.state.with_name(f"{number}"), after[:cut] + before[cut:])
        yield world
        shutil.rmtree(world.host.state)


@pytest.mark.parametrize(
    ("instant", "settles", "state", "effects"),
    [
        ("before it is written down", False, "succeeded", 1),
        ("before it begins", False, "indeterminate", 0),
        ("before it begins", True, "indeterminate", 0),
        ("before its end is written down", False, "indeterminate", 1),
        ("before its end is written down", True, "succeeded", 1),
        ("before it is answered", False, "succeeded", 1),
    ],
)
async def test_a_helper_killed_between_two_writes_says_what_is_so(
    first: World, instant: str, settles: bool, state: str, effects: int
) -> None:
    sealed = await lived(first, settles=settles)
    world = first.instants[instant]
    answer, again, other = await world.asked(sealed, sealed, step(first), settles=settles)
    assert (answer.state, again) == (state, answer)
    assert other.state == "succeeded"
    assert world.begun == effects + 1  # the other one


async def test_a_beginning_that_was_written_in_part_is_begun_once_or_not_known(first: World) -> None:
    sealed = await lived(first)
    states = []
    for world in torn(first, "before it is written down", "before it begins"):
        (answer,) = await world.asked(sealed)
        states.append(answer.state)
        assert world.begun == {"succeeded": 1, "indeterminate": 0}[answer.state]
    assert len(states) > CUTS // 2
    assert set(states[:-1]) == {"succeeded"}, "what was not written whole was never begun"


async def test_an_end_that_was_written_in_part_is_never_begun_again(first: World) -> None:
    sealed = await lived(first)
    states = []
    for world in torn(first, "before its end is written down", "before it is answered"):
        (answer,) = await world.asked(sealed)
        states.append(answer.state)
        assert world.begun == 1
    assert [state for state, _ in itertools.groupby(states)] in (["indeterminate"], ["indeterminate", "succeeded"])


async def test_an_action_that_fails_to_look_or_to_tell_costs_one_command_and_not_the_helper(first: World) -> None:
    sealed = await lived(first, settles=True)
    world = first.instants["before its end is written down"]
    answer, other = await world.asked(sealed, step(first), settles=True, faulty=True)
    assert (answer.state, answer.reason) == ("indeterminate", "interrupted")
    assert other.state == "succeeded", "what its act does counts"
