"""How the supervisor judges a child by what it answers, in virtual time."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from exhaust.clock import VirtualClock
from exhaust.lifecycle.supervisor import Child, Health, Keeper, Limits

LIMITS = Limits()
CHILD = Child("analyzers", ("/bin/false",), Path("/nowhere/analyzers.sock"))


def judged(answers: str, every: float = 1.0) -> tuple[float, str] | None:
    """Return when a child is to be killed, and why; its answers are `+` or `-`, one every so many seconds."""
    health = Health(LIMITS, 0.0)
    for number, answer in enumerate(answers):
        now = number * every
        if why := health.take(None if answer == "+" else "does not answer", now):
            return now, why
    return None


def test_who_has_answered_and_answers_no_more_is_hung_after_10_seconds() -> None:
    assert judged("+" + "-" * 9) is None
    assert judged("+" + "-" * 10) == (10.0, "does not answer, for 10 s")
    assert judged("+++++" + "-" * 100) == (14.0, "does not answer, for 10 s")


def test_one_good_answer_makes_up_for_all_bad_ones_before() -> None:
    assert judged("+---------+---------+---------+") is None


def test_who_has_never_answered_has_30_seconds() -> None:
    assert judged("-" * 30) is None
    assert judged("-" * 31) == (30.0, "does not answer, for 30 s")
    assert judged("-" * 29 + "+" + "-" * 9) is None


def test_a_pause_of_our_own_is_not_laid_to_the_child() -> None:
    health = Health(LIMITS, 0.0)
    health.take(None, 1.0)
    assert health.take("does not answer", 3600.0) is None
    assert health.take("does not answer", 3601.0) is None
    assert health.take(None, 3602.0) is None


class Watched:
    """A keeper's watch over a child that answers as a test says; a second passes with each answer."""

    def __init__(self, child: Child = CHILD, limits: Limits = LIMITS) -> None:
        self.clock = VirtualClock(0.0)
        self.asked: list[Path] = []
        self.completed = 0
        self.answers: Iterator[str | None] = iter(())
        self.keeper = Keeper(child, self.clock, limits, self._complete, ask=self._ask, monotonic=self.clock.now)

    async def _ask(self, path: Path, within: float) -> str | None:
        self.asked.append(path)
        asyncio.get_running_loop().call_later(0, self.clock.advance, 1.0)
        return next(self.answers)

    def _complete(self) -> None:
        self.completed += 1


async def test_it_asks_where_the_child_answers_until_that_hangs() -> None:
    watched = Watched()
    watched.answers = iter(["cannot be asked", None, None, *["is not well"] * 20])
    async with asyncio.timeout(5):
        assert await watched.keeper.watch() == "is not well, for 10 s"
    assert watched.asked == [CHILD.socket] * 13
    assert watched.completed >= 1
    assert watched.keeper.answered


async def test_who_never_answers_does_not_count_as_there() -> None:
    watched = Watched()
    watched.answers = iter(["cannot be asked"] * 40)
    async with asyncio.timeout(5):
        assert await watched.keeper.watch() == "cannot be asked, for 30 s"
    assert (watched.completed, watched.keeper.answered) == (0, False)


async def test_a_child_without_a_socket_is_asked_nothing() -> None:
    watched = Watched(Child("plain", ("/bin/true",)))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watched.keeper.watch(), 0.05)
    assert (watched.completed, watched.asked, watched.keeper.state) == (1, [], "running")
