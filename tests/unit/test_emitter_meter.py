"""What is measured of an emitter's tasks, and that nothing else of them changes."""

import asyncio
import time

import pytest

from emitters.meter import Meter, metering

BURNED = 0.1


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def work() -> str:
    burn(BURNED)
    await asyncio.sleep(0.2)  # takes time, but none of a processor's
    burn(BURNED)
    return "done"


async def test_steps_of_a_task_are_measured_and_waiting_is_not() -> None:
    meter = Meter()
    with metering():
        assert await asyncio.create_task(work(), context=meter.context()) == "done"
    assert 2 * BURNED <= meter.seconds < 2 * BURNED + 0.15


async def test_tasks_that_a_task_starts_are_measured_and_those_of_others_are_not() -> None:
    async def parent() -> None:
        await asyncio.gather(work(), work())

    async def others() -> float:
        meter, other = Meter(), Meter()
        with metering():
            ours = asyncio.create_task(parent(), context=meter.context())
            theirs = asyncio.create_task(asyncio.sleep(0.01), context=other.context())
            await asyncio.gather(ours, theirs, asyncio.create_task(work()))
        assert meter.seconds >= 4 * BURNED
        return other.seconds

    # Now and then the processor is taken from a short step for long, but hardly so often.
    assert any([await others() < BURNED for _ in range(3)])


async def test_a_task_that_is_measured_fails_and_is_cancelled_as_any_other() -> None:
    cleaned = []

    async def fail() -> None:
        raise ValueError("no such device")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with metering():
        failing = asyncio.create_task(fail(), context=Meter().context())
        waiting = asyncio.create_task(wait(), name="waits", context=Meter().context())
        with pytest.raises(ValueError, match="no such device"):
            await failing
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert (waiting.get_name(), cleaned) == ("waits", [True])


async def test_afterwards_tasks_are_made_as_before() -> None:
    loop = asyncio.get_running_loop()
    former = loop.get_task_factory()
    with metering():
        assert loop.get_task_factory() is not former
    assert loop.get_task_factory() is former
