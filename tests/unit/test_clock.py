"""Clocks: the virtual one wakes in order, the system's goes on when the wall clock is set."""

import asyncio
import time
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exhaust.clock import SystemClock, VirtualClock

WITHIN = 5.0


class Wall:
    """A wall clock that can be set; `reads` names what is to be added from which reading on."""

    def __init__(self, *jumps: tuple[int, float]) -> None:
        self._jumps = dict(jumps)
        self._offset = 0.0
        self._reads = 0

    def __call__(self) -> float:
        self._offset += self._jumps.get(self._reads, 0.0)
        self._reads += 1
        return time.time() + self._offset


def test_the_system_clock_tells_microseconds() -> None:
    before = time.time()
    now = SystemClock().now()
    assert before - 1e-6 <= now <= time.time() + 1e-6
    assert round(now, 6) == now


async def test_a_moment_that_has_passed_is_not_waited_for() -> None:
    async with asyncio.timeout(WITHIN):
        await SystemClock().until(0.0)
        await VirtualClock(10.0).until(10.0)


async def test_the_system_clock_waits_until_the_moment() -> None:
    clock = SystemClock()
    async with asyncio.timeout(WITHIN):
        await clock.until(clock.now() + 0.03)


@pytest.mark.parametrize("read", [1, 2, 3])
async def test_a_clock_set_back_makes_no_wait_longer_than_it_was(read: int) -> None:
    clock = SystemClock(Wall((read, -3600.0)))
    began = time.monotonic()
    async with asyncio.timeout(WITHIN):
        await clock.until(time.time() + 0.05)
    assert time.monotonic() - began < 4.0


async def test_a_clock_set_forward_ends_a_wait() -> None:
    clock = SystemClock(Wall((2, 3600.0)))
    async with asyncio.timeout(WITHIN):
        await clock.until(time.time() + 0.05)


@pytest.mark.parametrize("read", range(1, 9))
async def test_beats_go_on_when_the_clock_is_set_back(read: int) -> None:
    async with asyncio.timeout(WITHIN), aclosing(SystemClock(Wall((read, -3600.0))).every(0.02)) as beats:  # type: ignore[type-var]
        for _ in range(6):
            await anext(beats)


async def test_virtual_waiters_wake_in_the_order_of_their_moments() -> None:
    clock, woken = VirtualClock(0.0), list[float]()

    async def wait(moment: float) -> None:
        await clock.until(moment)
        woken.append(moment)

    async with asyncio.TaskGroup() as tasks:
        for moment in (3.0, 1.0, 2.0, 9.0):
            tasks.create_task(wait(moment))
        await asyncio.sleep(0)
        clock.advance(3.0)
        for _ in range(3):
            await asyncio.sleep(0)
        assert woken == [1.0, 2.0, 3.0]
        clock.advance(6.0)


async def test_a_waiter_that_was_cancelled_does_not_hinder_others() -> None:
    clock = VirtualClock(0.0)
    gone, other = (asyncio.create_task(clock.until(1.0)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    clock.advance(1.0)
    async with asyncio.timeout(WITHIN):
        await other


async def test_missed_beats_are_skipped_and_the_rhythm_is_kept() -> None:
    clock, seen = VirtualClock(100.0), list[float]()
    beats = clock.every(10.0)
    for missed in (0.0, 10.0, 25.0, 5.0, 10.0):
        clock.advance(missed)
        async with asyncio.timeout(WITHIN):
            seen.append(await anext(beats))
    assert seen == [100.0, 110.0, 135.0, 140.0, 150.0]


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_virtual_time_stays_to_the_microsecond(steps: list[float]) -> None:
    clock = VirtualClock(0.0)
    for step in steps:
        clock.advance(step)
        assert round(clock.now(), 6) == clock.now()
