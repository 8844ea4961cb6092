"""The emitter of services on real processes: what is told when they end, are started anew, or change hands."""

import asyncio
import json
import os
import signal
import socket
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from emitters.service import STATE, Entry, Services, emit
from exhaust.clock import Clock, SystemClock, VirtualClock
from exhaust.plugins import Record
from exhaust.processes import Process, find, spawn


class Host:
    """A state directory as the helper writes it, and the processes that a test starts."""

    def __init__(self, state: Path) -> None:
        self.state = state
        (state / "services").mkdir()
        self._started: list[Process] = []

    def start(self, seconds: float = 300) -> Process:
        process = spawn(["/bin/sleep", str(seconds)], env={})
        self._started.append(process)
        return process

    def end(self, process: Process, *, reap: bool = True) -> None:
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if reap:
            os.waitpid(process.pid, 0)
            self._started.remove(process)

    def close(self) -> None:
        for process in self._started:
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)

    def told(self, process: Process | None, **more: Any) -> bytes:
        known: dict[str, Any] = {"name": "shop", "argv": ["x"], "cwd": None, "env": {}, "wanted": True, "exit": None}
        known |= {"pid": process and process.pid, "started": process and process.started}
        return json.dumps(known | more).encode()

    def write(self, process: Process | None, **more: Any) -> None:
        (self.state / "services" / "shop.json").write_bytes(self.told(process, **more))

    def announce(self, text: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text, str(self.state / "run" / "service.news"))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    it = Host(tmp_path)
    yield it
    it.close()


KEPT = Entry(name="shop", provider="kept", argv=("/bin/sleep", "300"))


class Records:
    """What the emitter yields, one at a time, in time."""

    def __init__(self, records: AsyncGenerator[Record]) -> None:
        self._records = records

    async def next(self) -> Record:
        async with asyncio.timeout(5):
            record = await anext(self._records)
        assert set(record.fields) <= set(STATE)
        return record

    async def state(self) -> str | None:
        found: str | None = (await self.next()).fields.get("state")
        return found


@asynccontextmanager
async def observed(state: Path, *entries: Entry, clock: Clock | None = None) -> AsyncIterator[Records]:
    settings = Services(services=entries, state=str(state), every=10.0)
    async with aclosing(cast("AsyncGenerator[Record]", emit(settings, clock or VirtualClock(), {}))) as records:
        yield Records(records)


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def test_a_death_is_told_at_once_and_urgently(host: Host) -> None:
    late = []
    for _ in range(20):
        process = host.start()
        host.write(process)
        async with observed(host.state, KEPT, clock=SystemClock()) as records:
            first = await records.next()
            assert (first.fields["state"], first.fields["pid"], first.urgent) == ("running", process.pid, False)
            assert abs(first.fields["since"] - time.time()) < 2
            assert first.fields["memory_bytes"] > 0
            killed = time.time()
            host.end(process, reap=False)
            death = await records.next()
            late.append(death.time - killed)
        assert (death.fields["state"], death.fields["pid"], death.urgent) == ("gone", process.pid, True)
        assert death.fields["since"] == death.time
    assert sorted(late)[10] < 0.05


async def test_a_restart_that_is_announced_is_told_at_once_and_watched(host: Host) -> None:
    first, second = host.start(), host.start()
    host.write(first)
    async with observed(host.state, KEPT) as records:
        await records.next()
        host.end(first)
        assert await records.state() == "gone"
        host.announce(host.told(second))
        restarted = await records.next()
        assert (restarted.fields["state"], restarted.fields["pid"], restarted.urgent) == ("running", second.pid, True)
        assert restarted.fields["restarts"] == 1
        host.end(second)
        assert await records.state() == "gone"


async def test_the_end_of_a_process_that_was_replaced_is_not_the_end_of_the_service(host: Host) -> None:
    first, second, third = host.start(), host.start(), host.start()
    host.write(first)
    async with observed(host.state, KEPT) as records:
        await records.next()
        host.announce(host.told(second))
        host.end(first)
        replaced = await records.next()
        if replaced.fields["state"] == "gone":  # the end was there first; then the announcement follows
            replaced = await records.next()
        assert (replaced.fields["state"], replaced.fields["pid"]) == ("running", second.pid)
        host.announce(host.told(third))
        again = await records.next()
        assert (again.fields["state"], again.fields["pid"]) == ("running", third.pid)
        host.end(second)
        host.announce(host.told(third, wanted=False))
        assert (await records.next()).fields["wanted"] is False


async def test_a_restart_whose_process_is_dead_already_is_told_as_that(host: Host) -> None:
    first, second = host.start(), host.start()
    host.write(first)
    async with observed(host.state, KEPT) as records:
        await records.next()
        host.end(first)
        assert await records.state() == "gone"
        host.end(second, reap=False)  # a zombie counts as dead
        host.announce(host.told(second))
        told = await records.next()
        assert (told.fields["state"], told.fields["pid"], told.fields["restarts"]) == ("gone", second.pid, 1)


async def test_a_file_that_is_older_than_an_announcement_does_not_undo_it(host: Host) -> None:
    clock, first, second = VirtualClock(), host.start(), host.start()
    host.write(first)
    async with observed(host.state, KEPT, clock=clock) as records:
        await records.next()
        host.end(first)
        await records.next()
        host.announce(host.told(second))
        await records.next()
        clock.advance(10)
        beat = await records.next()
        assert (beat.fields["state"], beat.fields["pid"], beat.urgent) == ("running", second.pid, False)


async def test_a_lost_announcement_is_made_up_for_at_the_next_beat(host: Host) -> None:
    clock, first, second = VirtualClock(), host.start(), host.start()
    host.write(first)
    async with observed(host.state, KEPT, clock=clock) as records:
        await records.next()
        host.end(first)
        await records.next()
        host.write(second)
        clock.advance(10)
        beat = await records.next()
        assert (beat.fields["state"], beat.fields["pid"], beat.urgent) == ("running", second.pid, True)


@pytest.mark.parametrize(("more", "state"), [({"exit": 0}, "stopped"), ({"exit": -9}, "failed"), ({}, "gone")])
async def test_how_a_service_ended_is_told_once_the_helper_says_so(host: Host, more: Any, state: str) -> None:
    clock, process = VirtualClock(), host.start()
    host.write(process)
    async with observed(host.state, KEPT, clock=clock) as records:
        await records.next()
        host.end(process)
        assert await records.state() == "gone"
        host.write(process, **more)
        clock.advance(10)
        beat = await records.next()
        assert (beat.fields["state"], beat.fields.get("exit")) == (state, more.get("exit"))


async def test_a_service_that_is_not_wanted_is_stopped(host: Host) -> None:
    process = host.start()
    host.write(process, wanted=False)
    async with observed(host.state, KEPT) as records:
        assert await records.state() == "running"
        host.end(process)
        death = await records.next()
        assert (death.fields["state"], death.fields["wanted"]) == ("stopped", False)


async def test_of_a_kept_service_that_nobody_started_no_state_is_claimed(host: Host) -> None:
    async with observed(host.state, KEPT) as records:
        assert (await records.next()).fields == {
            "service": "shop",
            "provider": "kept",
            "wanted": True,
            "since": 1.7e9,
            "restarts": 0,
        }


async def test_announcements_that_mean_nothing_here_are_passed_over(host: Host) -> None:
    clock, process = VirtualClock(), host.start()
    host.write(process)
    async with observed(host.state, KEPT, clock=clock) as records:
        await records.next()
        host.announce(host.told(host.start(), name="unknown"))
        host.announce(b"{")
        host.announce(host.told(process))
        clock.advance(10)
        beat = await records.next()
        assert (beat.fields["pid"], beat.urgent) == (process.pid, False)


async def test_the_socket_is_the_owners_alone_and_a_stale_one_is_replaced(host: Host) -> None:
    path = host.state / "run" / "service.news"
    for _ in range(2):
        async with observed(host.state, KEPT) as records:
            await records.next()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.exists()


async def test_a_second_emitter_leaves_the_announcements_to_the_first(host: Host) -> None:
    first, second = host.start(), host.start()
    host.write(first)
    async with observed(host.state, KEPT) as ours, observed(host.state, KEPT) as others:
        await ours.next()
        await others.next()
        host.announce(host.told(second))
        assert (await ours.next()).fields["pid"] == second.pid


async def test_closing_the_emitter_closes_everything_it_opened(host: Host) -> None:
    host.write(host.start())
    before = descriptors()
    async with observed(host.state, KEPT) as records:
        await records.next()
        assert len(descriptors()) == len(before) + 2
    assert descriptors() == before


async def test_a_pidfile_is_followed_from_process_to_process(host: Host) -> None:
    clock, first, second, path = VirtualClock(), host.start(), host.start(), host.state / "cron.pid"
    async with observed(host.state, Entry(name="cron", provider="pidfile", pidfile=str(path)), clock=clock) as records:
        assert await records.state() == "stopped"
        for process, restarts in ((first, 0), (second, 1)):
            path.write_text(f"{process.pid}\n")
            clock.advance(10)
            beat = await records.next()
            assert (beat.fields["state"], beat.fields["pid"]) == ("running", process.pid)
            assert beat.fields["restarts"] == restarts
            host.end(process)
            death = await records.next()
            assert (death.fields["state"], death.urgent) == ("gone", True)
        clock.advance(10)
        assert await records.state() == "gone"


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "99999999999999999999", "4194305"])
async def test_a_pidfile_without_a_process_is_a_stopped_service(host: Host, text: str) -> None:
    path = host.state / "cron.pid"
    path.write_text(text)
    async with observed(host.state, Entry(name="cron", provider="pidfile", pidfile=str(path))) as records:
        assert await records.state() == "stopped"


async def test_usage_is_measured_from_beat_to_beat(host: Host) -> None:
    clock = VirtualClock()
    host.write(find(os.getpid()))
    async with observed(host.state, KEPT, clock=clock) as records:
        assert "cpu_percent" not in (await records.next()).fields
        busy = time.process_time() + 0.1
        while time.process_time() < busy:
            pass
        clock.advance(10)
        assert 0.8 <= (await records.next()).fields["cpu_percent"] <= 5
