"""The emitter of services on a real supervisord: what is told when its processes end, and when it is itself away."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from emitters.service import STATE, Entry, Services, emit
from exhaust.clock import Clock, SystemClock, VirtualClock
from exhaust.plugins import Record
from exhaust.processes import Process
from tests.system.supervisord_host import PATIENCE, supervised

STAYS_DOWN = {"command": "/bin/false", "startsecs": 1, "startretries": 0}


class Records:
    """What the emitter yields, in time."""

    def __init__(self, records: AsyncGenerator[Record]) -> None:
        self._records = records

    async def next(self) -> Record:
        async with asyncio.timeout(PATIENCE):
            record = await anext(self._records)
        assert set(record.fields) <= set(STATE)
        return record

    async def until(self, **wanted: Any) -> Record:
        """Return the first record with these fields; those before it are passed over."""
        while True:
            record = await self.next()
            if wanted.items() <= record.fields.items():
                return record


@asynccontextmanager
async def observed(
    socket: str, *names: str, clock: Clock | None = None, every: float = 10.0, **rest: Any
) -> AsyncIterator[Records]:
    entries = tuple(Entry(name=name, provider="supervisord", socket=socket, **rest) for name in names)
    settings = Services(services=entries, every=every)
    async with aclosing(cast("AsyncGenerator[Record]", emit(settings, clock or VirtualClock(), {}))) as records:
        yield Records(records)


def kill(process: Process) -> None:
    os.kill(process.pid, signal.SIGKILL)


async def test_a_service_that_runs_is_told_with_its_process() -> None:
    with supervised(worker={}) as supervision:
        process = await supervision.running("worker")
        async with observed(supervision.socket, "worker") as records:
            first = await records.next()
    told = {name: first.fields[name] for name in ("provider", "state", "wanted", "pid", "started", "restarts")}
    assert told == {
        "provider": "supervisord", "state": "running", "wanted": True, "pid": process.pid,
        "started": process.started, "restarts": 0,
    }  # fmt: skip
    assert first.fields["memory_bytes"] > 0
    assert not first.urgent


async def test_a_death_is_told_at_once_and_how_it_ended_when_supervisord_says_so() -> None:
    clock = VirtualClock()
    with supervised(
        worker={"command": "/bin/sh -c 'trap \"exit 3\" USR1; while :; do sleep 0.01; done'"}
    ) as supervision:
        process = await supervision.running("worker")
        async with observed(supervision.socket, "worker", clock=clock) as records:
            await records.next()
            os.kill(process.pid, signal.SIGUSR1)
            death = await records.next()
            await supervision.info("worker")
            clock.advance(10)
            beat = await records.next()
    assert (death.fields["state"], death.fields["pid"], death.urgent) == ("gone", process.pid, True)
    assert (beat.fields["state"], beat.fields["exit"], beat.fields["reason"]) == ("failed", 3, "Bad exit code 3")


async def test_by_which_signal_it_ended_is_not_guessed() -> None:
    clock = VirtualClock()
    with supervised(worker={}) as supervision:
        process = await supervision.running("worker")
        async with observed(supervision.socket, "worker", clock=clock) as records:
            await records.next()
            kill(process)
            await records.until(state="gone")
            clock.advance(10)
            beat = await records.until(state="failed")
    assert "exit" not in beat.fields


async def test_what_supervisord_starts_again_is_told_without_waiting_for_a_beat() -> None:
    with supervised(worker={"autorestart": "true"}) as supervision:
        process = await supervision.running("worker")
        async with observed(supervision.socket, "worker") as records:
            await records.next()
            kill(process)
            again = await records.until(state="running")
            other = await supervision.running("worker", other_than=process.pid)
    assert (again.fields["pid"], again.fields["restarts"], again.urgent) == (other.pid, 1, True)


@pytest.mark.parametrize(
    ("program", "state", "reason"),
    [
        ({"autostart": "false"}, "stopped", None),
        ({"command": "/bin/true", "exitcodes": 7}, "stopped", "Bad exit code 0"),
        (STAYS_DOWN, "failed", "Exited too quickly (process log may have details)"),
    ],
)
async def test_what_does_not_run_is_told_in_supervisords_words(
    program: dict[str, Any], state: str, reason: str | None
) -> None:
    with supervised(worker=program) as supervision:
        await supervision.asked_until_answered()
        async with observed(supervision.socket, "worker", clock=SystemClock(), every=0.1) as records:
            told = await records.until(state=state)
    assert (told.fields.get("reason"), "pid" in told.fields and "started" not in told.fields) == (reason, False)


async def test_a_process_of_a_group_has_the_groups_name_before_its_own() -> None:
    pool = {"process_name": "%(program_name)s_%(process_num)02d", "numprocs": 2}
    with supervised(pool=pool) as supervision:
        processes = [await supervision.running(f"pool:pool_0{n}") for n in (0, 1)]
        async with observed(supervision.socket, "pool:pool_00", "pool:pool_01") as records:
            told = [(await records.next()).fields for _ in processes]
    assert [fields["pid"] for fields in told] == [process.pid for process in processes]


async def test_a_name_that_supervisord_does_not_know_is_said_and_no_state_is_claimed() -> None:
    with supervised(worker={}) as supervision:
        await supervision.running("worker")
        async with observed(supervision.socket, "worker", "other") as records:
            told = {record.fields["service"]: record.fields for record in [await records.next() for _ in range(2)]}
    assert told["worker"]["state"] == "running"
    assert "state" not in told["other"]
    assert told["other"]["reason"].endswith("says 'BAD_NAME: other'")


async def test_without_a_supervisord_no_state_is_claimed_and_the_reason_is_told() -> None:
    async with observed("/tmp/xs-nobody", "worker", wanted=False) as records:
        told = await records.next()
    assert "state" not in told.fields
    assert told.fields["reason"] == "supervisord at '/tmp/xs-nobody' cannot be reached: No such file or directory"


async def test_while_supervisord_is_away_its_process_is_still_told_of_and_its_end_too() -> None:
    clock = VirtualClock()
    with supervised(worker={}) as supervision:
        process = await supervision.running("worker")
        async with observed(supervision.socket, "worker", clock=clock) as records:
            await records.next()
            supervision.kill()
            clock.advance(10)
            orphaned = await records.next()
            kill(process)
            death = await records.next()
            clock.advance(10)
            after = await records.next()
    assert (orphaned.fields["state"], "cannot be reached" in orphaned.fields["reason"]) == ("running", True)
    assert (death.fields["state"], death.urgent) == ("gone", True)
    assert after.fields["state"] == "gone"


async def test_a_process_that_supervisord_has_let_go_of_is_its_service_no_longer() -> None:
    clock = VirtualClock()
    with supervised(worker={"autostart": "false"}) as supervision:
        await supervision.asked_until_answered()
        await supervision.asked.call("supervisor.startProcess", "worker", False)
        process = await supervision.running("worker")
        async with observed(supervision.socket, "worker", clock=clock) as records:
            await records.next()
            supervision.kill()
            supervision.start()
            await supervision.asked_until_answered()
            clock.advance(10)
            told = await records.next()
            assert process.alive
    assert (told.fields["state"], told.urgent) == ("stopped", True)


async def test_the_helpers_announcement_is_told_at_once_and_only_its_wish_is_believed_later(tmp_path: Path) -> None:
    clock, news = VirtualClock(), {"name": "worker", "wanted": False, "pid": 2**22 - 1, "started": 1}
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "worker.json").write_text(json.dumps(news))
    with supervised(worker={}) as supervision:
        process = await supervision.running("worker")
        entry = Entry(name="worker", provider="supervisord", socket=supervision.socket)
        settings = Services(services=(entry,), state=str(tmp_path))
        async with aclosing(cast("AsyncGenerator[Record]", emit(settings, clock, {}))) as yielded:
            records = Records(yielded)
            first = await records.next()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(json.dumps(news | {"wanted": True}).encode(), str(tmp_path / "run" / "service.news"))
            wanted = await records.next()
    assert (first.fields["pid"], first.fields["wanted"], first.fields["restarts"]) == (process.pid, False, 0)
    assert (wanted.fields["pid"], wanted.fields["wanted"], wanted.urgent) == (process.pid, True, True)


async def test_a_supervisord_that_hangs_holds_up_nobody_else() -> None:
    clock = VirtualClock()
    with supervised(worker={}) as supervision, supervised(other={}) as hanging:
        await supervision.running("worker")
        await hanging.running("other")
        entries = [
            Entry(name=name, provider="supervisord", socket=one.socket)
            for name, one in (("other", hanging), ("worker", supervision))
        ]
        with hanging.stopped():
            settings = Services(services=tuple(entries))
            async with aclosing(cast("AsyncGenerator[Record]", emit(settings, clock, {}))) as yielded:
                records = Records(yielded)
                assert (await records.next()).fields["service"] == "worker"
                told = await records.next()
    assert ("state" in told.fields, told.fields["reason"].endswith("does not answer within 5 s")) == (False, True)


async def test_closing_the_emitter_closes_everything_it_opened() -> None:
    def descriptors() -> set[str]:
        return {path.name for path in Path("/proc/self/fd").iterdir()}

    with supervised(worker={}) as supervision:
        await supervision.running("worker")
        await asyncio.sleep(0)  # transports close their sockets one turn later
        before = descriptors()
        async with observed(supervision.socket, "worker") as records:
            await records.next()
        await asyncio.sleep(0)
        assert descriptors() == before
