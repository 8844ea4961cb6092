"""The life of a service: told to stop, crashed, hung, crashed while draining, cancelled from outside."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

from exhaust.lifecycle.service import serve

WITHIN = 5.0


class Fake:
    """A service whose work and drain a test writes."""

    def __init__(self, name: str, drain: Callable[[], Awaitable[None]] | None = None) -> None:
        self.name = name
        self.events: list[str] = []
        self._drain = drain
        self.fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, until: asyncio.Event) -> None:
        told: asyncio.Future[Any] = asyncio.ensure_future(until.wait())
        try:
            await asyncio.wait((told, self.fault), return_when=asyncio.FIRST_COMPLETED)
            if self.fault.done():
                self.fault.result()
                return
            self.events.append("draining")
            if self._drain:
                await self._drain()
            self.events.append("drained")
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        finally:
            told.cancel()

    def status(self) -> dict[str, Any]:
        return {}


async def hang() -> None:
    await asyncio.Event().wait()


async def crash() -> None:
    raise ValueError("while draining")


@pytest.fixture
def until() -> asyncio.Event:
    return asyncio.Event()


async def test_told_to_stop_all_drain_and_serve_returns(until: asyncio.Event) -> None:
    one, other = Fake("one"), Fake("other")
    async with asyncio.timeout(WITHIN):
        serving = asyncio.create_task(serve([one, other], until))
        await asyncio.sleep(0)
        assert one.events == other.events == []
        until.set()
        await serving
    assert one.events == other.events == ["draining", "drained"]


async def test_each_is_told_to_stop_once_the_one_before_it_has_drained(until: asyncio.Event) -> None:
    told = [asyncio.Event() for _ in range(3)]
    go = [asyncio.Event() for _ in range(3)]

    def drain(number: int) -> Callable[[], Awaitable[None]]:
        async def drained() -> None:
            told[number].set()
            await go[number].wait()

        return drained

    fakes = [Fake(f"fake-{number}", drain(number)) for number in range(3)]
    async with asyncio.timeout(WITHIN):
        serving = asyncio.create_task(serve(fakes, until, drain_within=600.0))
        await asyncio.sleep(0)
        until.set()
        for number in range(3):
            await told[number].wait()
            assert [event.is_set() for event in told] == [n <= number for n in range(3)]
            go[number].set()
        await serving


async def test_one_that_takes_long_to_stop_holds_up_the_others_only_so_long(until: asyncio.Event) -> None:
    slow, others = Fake("slow", hang), [Fake(f"other-{n}") for n in range(3)]
    until.set()
    async with asyncio.timeout(WITHIN):
        with pytest.raises(TimeoutError, match=r"^slow did not stop"):
            await serve([slow, *others], until, drain_within=1.0)
    assert [other.events for other in others] == [["draining", "drained"]] * 3


async def test_a_crash_stops_the_others_in_order_and_is_raised(until: asyncio.Event) -> None:
    one, other = Fake("one"), Fake("other")
    one.fault.set_exception(ValueError("crashed"))
    async with asyncio.timeout(WITHIN):
        with pytest.raises(ValueError, match="crashed"):
            await serve([other, one], until)
    assert other.events == ["draining", "drained"]
    assert until.is_set()


async def test_one_that_ends_by_itself_ends_all(until: asyncio.Event) -> None:
    one, other = Fake("one"), Fake("other")
    one.fault.set_result(None)
    async with asyncio.timeout(WITHIN):
        await serve([one, other], until)
    assert other.events == ["draining", "drained"]


async def test_hung_drain_is_cut_off_at_the_deadline(until: asyncio.Event) -> None:
    one, other = Fake("one", hang), Fake("other")
    until.set()
    began = time.monotonic()
    async with asyncio.timeout(WITHIN):
        with pytest.raises(TimeoutError, match=r"one did not stop within 0\.05 s"):
            await serve([one, other], until, drain_within=0.05)
    assert 0.05 <= time.monotonic() - began < 4.0
    assert one.events == ["draining", "cancelled"]
    assert other.events == ["draining", "drained"]


async def test_a_crash_while_draining_is_raised_and_the_others_drain(until: asyncio.Event) -> None:
    one, other = Fake("one", crash), Fake("other")
    until.set()
    async with asyncio.timeout(WITHIN):
        with pytest.raises(ValueError, match="while draining"):
            await serve([one, other], until)
    assert other.events == ["draining", "drained"]


async def test_what_failed_first_is_what_is_raised(until: asyncio.Event, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(20):
        first, others = Fake("first"), [Fake(f"other-{n}", crash) for n in range(3)]
        first.fault.set_exception(ValueError("first of all"))
        async with asyncio.timeout(WITHIN):
            with pytest.raises(ValueError, match="first of all"):
                await serve([*others, first], asyncio.Event())
    assert caplog.messages == ["failed while stopping"] * 60


async def test_a_crash_says_more_than_a_hang_that_follows(until: asyncio.Event) -> None:
    one, other = Fake("one"), Fake("other", hang)
    one.fault.set_exception(ValueError("crashed"))
    async with asyncio.timeout(WITHIN):
        with pytest.raises(ValueError, match="crashed"):
            await serve([one, other], until, drain_within=0.05)
    assert other.events == ["draining", "cancelled"]


async def test_cancelled_from_outside_it_cancels_all(until: asyncio.Event) -> None:
    one, other = Fake("one"), Fake("other")
    async with asyncio.timeout(WITHIN):
        serving = asyncio.create_task(serve([one, other], until))
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
    assert one.events == other.events == ["cancelled"]


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("return 7", 7, ""),
        ("raise StoreError('the disk is full')", 1, "stopped by a fault error=the disk is full"),
        ("raise ValueError('a bug')", 70, "ValueError: a bug"),
        ("asyncio.current_task().cancel(); await asyncio.sleep(1)", 70, "cancelled"),
        ("asyncio.create_task(stubborn()); await asyncio.sleep(0); return 0", 0, ""),
    ],
)
def test_a_process_leaves_with_its_code_whatever_still_runs(body: str, code: int, said: str) -> None:
    script = f"""
import asyncio
from exhaust import logs
from exhaust.errors import StoreError
from exhaust.lifecycle.service import run_to_exit

async def stubborn():
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass

async def main():
    {body}

logs.configure()
print("kept", end="")
run_to_exit(main())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=20)
    assert (ran.returncode, ran.stdout) == (code, "kept")
    assert said in ran.stderr


DRAINS = {
    "in order": "await until.wait()",
    "hurried": "await until.wait(); print('told', flush=True); await hurry.wait()",
    "never": "await asyncio.Event().wait()",
    "in a loop": "await until.wait()\n    while True: pass",
    "blocked": "time.sleep(1000)",
}


class Stopping:
    """A process that stops in a way of its own; it listens to signals once this is made."""

    def __init__(self, how: str, *, at_once: bool = False, within: float = 60.0) -> None:
        script = f"""
import asyncio, time
from exhaust import logs
from exhaust.lifecycle.service import stop_on_signals

async def main():
    until, hurry = asyncio.Event(), asyncio.Event()
    stop_on_signals(until, at_once=hurry if {at_once} else None, within={within})
    print("here", flush=True)
    {DRAINS[how]}

logs.configure()
asyncio.run(main())
"""
        self.process = subprocess.Popen([sys.executable, "-c", script], stdout=-1, stderr=-1, text=True)
        assert self.line() == "here\n"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ended(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_process_in_order(number: signal.Signals) -> None:
    stopping = Stopping("in order")
    stopping.process.send_signal(number)
    assert stopping.ended() == (0, "")


@pytest.mark.parametrize("how", ["never", "in a loop", "blocked"])
def test_whatever_hangs_the_process_is_gone_in_time(how: str) -> None:
    stopping = Stopping(how, within=0.3)
    stopping.process.terminate()
    code, said = stopping.ended()
    assert code == 1
    assert "did not stop in time: leaving as it is" in said


@pytest.mark.parametrize("how", ["never", "in a loop"])
def test_a_second_signal_ends_the_process(how: str) -> None:
    stopping = Stopping(how)
    while stopping.process.poll() is None:  # two that come at once may be one
        stopping.process.terminate()
        time.sleep(0.01)
    assert stopping.ended() == (128 + signal.SIGTERM, "")


def test_a_second_signal_hastens_who_must_end_others_first() -> None:
    stopping = Stopping("hurried", at_once=True)
    stopping.process.terminate()
    assert stopping.line() == "told\n"
    stopping.process.terminate()
    assert stopping.ended() == (0, "")


@pytest.mark.parametrize(("hung_up", "heard"), [(False, "asked\n"), (True, "until\n")])
def test_a_hangup_asks_for_a_reload_unless_it_is_the_terminals(hung_up: bool, heard: str) -> None:
    script = """
import asyncio
from exhaust.lifecycle.service import reload_on_hangup

async def main():
    events = {"asked": asyncio.Event(), "until": asyncio.Event()}
    reload_on_hangup(events["asked"], events["until"])
    print("here", flush=True)
    waiting = [asyncio.create_task(event.wait(), name=name) for name, event in events.items()]
    done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    print(done.pop().get_name(), flush=True)
    left.pop().cancel()

asyncio.run(main())
"""
    master, terminal = os.openpty()
    argv = ["/usr/bin/setsid", "--ctty", "--wait", sys.executable, "-c", script]
    with subprocess.Popen(argv, stdin=terminal, stdout=subprocess.PIPE, text=True) as process:
        os.close(terminal)
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        if hung_up:
            os.close(master)
        else:
            (child,) = psutil.Process(process.pid).children() or [psutil.Process(process.pid)]
            child.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == heard
    if not hung_up:
        os.close(master)
