"""Services of a supervisord in the helper's hands: started, ended, restarted and reloaded by asking it."""

import asyncio
import contextlib
import os
import signal
import tempfile
import xmlrpc.client
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from agents.channel import frame
from agents.journal import Answer
from agents.supervised import SupervisedService
from emitters.service import Entry, Services, emit
from exhaust.clock import VirtualClock
from exhaust.plugins import Record
from exhaust.processes import Process, find, spawn
from exhaust.supervisord import EXITED, RUNNING, STARTING, STOPPED
from tests.system.helper_host import SHOP, Host, until
from tests.system.supervisord_host import PATIENCE, Supervision, supervised

POLICY = "{service.start: {}, service.stop: {}, service.restart: {}, service.reload: {}}"
STUBBORN = "/bin/sh -c 'trap \"\" TERM; echo up >> ./told; while :; do sleep 0.1; done'"
HEEDFUL = "/bin/sh -c 'trap \"echo reloaded >> ./told\" HUP; echo up >> ./told; while :; do sleep 0.01; done'"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    found.allow(POLICY)
    yield found
    found.end_services()


def worker(supervision: Supervision) -> SupervisedService:
    return SupervisedService("worker", supervision.socket)


async def do(host: Host, action: str, **params: Any) -> Answer:
    return await host.ask(host.command(f"service.{action}", {"service": "worker"} | params))


async def test_a_restart_replaces_the_process_and_announces_the_new_one(host: Host) -> None:
    with supervised(worker={}) as supervision, host.news() as following:
        before = await supervision.running("worker")
        async with host.helper(worker(supervision)):
            answer = await do(host, "restart")
            news = await following()
        after = await supervision.running("worker")
    assert (answer.state, answer.changed) == ("succeeded", True)
    assert answer.output == {"pid": after.pid, "previous": before.pid}
    assert (news.name, news.pid, news.started, news.wanted) == ("worker", after.pid, after.started, True)
    assert before != after


async def test_a_restart_of_what_is_down_starts_it(host: Host) -> None:
    with supervised(worker={"autostart": "false"}) as supervision:
        await supervision.asked_until_answered()
        async with host.helper(worker(supervision)):
            answer = await do(host, "restart")
        assert answer.output == {"pid": (await supervision.running("worker")).pid, "previous": None}


@pytest.mark.parametrize("restarts", ["false", "true"])
async def test_a_restart_right_after_a_death_is_not_misled_by_what_supervisord_has_yet_to_notice(
    host: Host, restarts: str
) -> None:
    with supervised(worker={"autorestart": restarts}) as supervision:
        async with host.helper(worker(supervision)):
            for _ in range(5):
                before = await supervision.running("worker")
                os.kill(before.pid, signal.SIGKILL)
                answer = await do(host, "restart", stop_timeout="300ms")
                after = await supervision.running("worker")
                assert (answer.state, answer.output["pid"]) == ("succeeded", after.pid)
                assert before != after


async def test_a_stop_is_no_fault_and_a_start_makes_it_wanted_again(host: Host) -> None:
    with supervised(worker={"autorestart": "true"}) as supervision, host.news() as following:
        before = await supervision.running("worker")
        async with host.helper(worker(supervision)):
            stopped = await do(host, "stop")
            assert (await following()).wanted is False
            assert (await supervision.info("worker")).state == STOPPED
            again = await do(host, "stop")
            started = await do(host, "start")
            assert (await following(), (await following()).wanted)[1] is True
            once_more = await do(host, "start")
    assert (stopped.output, stopped.changed, again.changed) == ({"previous": before.pid}, True, False)
    assert (started.changed, once_more.changed, once_more.output) == (True, False, started.output)


async def test_what_was_stopped_stays_unwanted_for_the_next_helper(host: Host) -> None:
    with supervised(worker={}) as supervision:
        await supervision.running("worker")
        async with host.helper(worker(supervision)):
            await do(host, "stop")
        async with host.helper(worker(supervision)) as helper:
            assert helper.status()["services"]["worker"] == {"provider": "supervisord", "wanted": False}


async def test_a_service_that_ignores_its_stop_is_killed_after_its_time(host: Host) -> None:
    with supervised(worker={"command": STUBBORN, "stopwaitsecs": 60, "directory": str(host.state)}) as supervision:
        before = await supervision.running("worker")
        await until((host.state / "told").exists)
        async with host.helper(worker(supervision)):
            refused = await do(host, "restart", stop_timeout="100ms", kill=False)
            answer = await do(host, "restart", stop_timeout="100ms")
    assert (refused.state, refused.reason) == (
        "failed", "service 'worker' did not stop within 0.1 s, and 'kill' is false",
    )  # fmt: skip
    assert (answer.state, answer.output["previous"]) == ("succeeded", before.pid)


async def test_that_it_is_not_killed_is_not_promised_where_supervisord_would(host: Host) -> None:
    with supervised(worker={"stopwaitsecs": 5}) as supervision:
        before = await supervision.running("worker")
        async with host.helper(worker(supervision)):
            answer = await do(host, "restart", stop_timeout="60s", kill=False)
        assert before.alive
    assert (answer.state, answer.changed) == ("failed", False)
    assert answer.reason.endswith("'stopwaitsecs' must not be less than 'stop_timeout'")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/nonexistent", "NO_FILE: can't find command '/nonexistent'"),
        ("/etc/passwd", "NOT_EXECUTABLE: command at '/etc/passwd' is not executable"),
    ],
)
async def test_what_cannot_be_started_fails_in_supervisords_words(host: Host, command: str, reason: str) -> None:
    with supervised(worker={"autostart": "false", "command": command}) as supervision:
        await supervision.asked_until_answered()
        async with host.helper(worker(supervision)):
            answer = await do(host, "start")
    assert answer.state == "failed"
    assert answer.reason == f"service 'worker': supervisord at '{supervision.socket}' says '{reason}'"


async def test_a_program_that_ends_at_once_is_not_said_to_run(host: Host) -> None:
    program = {"autostart": "false", "command": "/bin/false", "startsecs": 1, "startretries": 0}
    with supervised(worker=program) as supervision:
        await supervision.asked_until_answered()
        async with host.helper(worker(supervision)):
            answers = [await do(host, "start") for _ in range(10)]
    reasons = {answer.reason for answer in answers if answer.state != "succeeded"}
    # One that lives for as long as it takes to ask was started: that it ends then is for the loop to see.
    ended = "service 'worker' ended as soon as it was started; supervisord says 'Exited too quickly"
    assert all(reason.startswith(ended) or reason.endswith("says 'SPAWN_ERROR: worker'") for reason in reasons)
    assert {answer.state for answer in answers} <= {"succeeded", "failed"}


async def test_a_start_of_what_waits_to_be_tried_again_does_not_wait(host: Host) -> None:
    program = {"command": "/bin/sh -c 'test -e ./ok && exec sleep 1000'", "startsecs": 1, "startretries": 100}
    with supervised(worker={**program, "directory": str(host.state)}) as supervision:
        await supervision.asked_until_answered()
        async with host.helper(worker(supervision)):
            (host.state / "ok").touch()
            answer = await do(host, "start")
            info = await supervision.info("worker")
    assert (answer.state, answer.output["pid"]) == ("succeeded", info.pid)


async def test_without_supervisord_an_action_fails_and_says_so(host: Host) -> None:
    async with host.helper(SupervisedService("worker", "/tmp/xs-nobody")):
        answer = await do(host, "restart")
    assert (answer.state, answer.reason) == (
        "failed",
        "service 'worker': supervisord at '/tmp/xs-nobody' cannot be reached: No such file or directory",
    )


async def test_a_name_that_supervisord_does_not_know_fails(host: Host) -> None:
    with supervised(other={}) as supervision:
        await supervision.running("other")
        async with host.helper(worker(supervision)):
            answer = await do(host, "stop")
    assert answer.reason.endswith("says 'BAD_NAME: worker'")


async def test_a_service_that_nobody_knows_is_named_with_those_that_are_known(host: Host) -> None:
    async with host.helper(SHOP, SupervisedService("a:b", "/tmp/xs-nobody")):
        answer = await do(host, "restart")
    assert answer.reason == "unknown service 'worker': kept ones are shop; supervisord's ones are a:b"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_helper_that_dies_in_the_middle_settles_the_restart_by_asking(host: Host, when: str) -> None:
    command = host.command("service.restart", {"service": "worker"})
    with supervised(worker={}) as supervision:
        before = await supervision.running("worker")
        with host.helper_process(worker(supervision), crash=when):
            _, writer = await host.connect()
            writer.write(frame(host.seal(command)))
            if when == "after":
                await supervision.running("worker", other_than=before.pid)
            else:
                await until(lambda: b"key-1" in (host.state / "helper.db-wal").read_bytes())
        writer.close()
        async with host.helper(worker(supervision)):
            answer = await host.ask(command)
        now = (await supervision.info("worker")).pid
    if when == "after":
        assert (answer.state, answer.output) == ("succeeded", {"pid": now, "previous": before.pid})
    else:
        assert (answer.state, answer.reason, now) == ("indeterminate", "interrupted", before.pid)


async def test_what_could_not_be_looked_at_before_is_not_settled_by_looking_after(host: Host) -> None:
    command = host.command("service.restart", {"service": "worker"})
    with supervised(worker={}) as supervision:
        await supervision.running("worker")
        supervision.kill()
        with host.helper_process(worker(supervision), crash="before"):
            _, writer = await host.connect()
            writer.write(frame(host.seal(command)))
            await until(lambda: b"key-1" in (host.state / "helper.db-wal").read_bytes())
        writer.close()
        supervision.start()
        await supervision.running("worker")
        async with host.helper(worker(supervision)):
            answer = await host.ask(command)
    assert (answer.state, answer.reason) == ("indeterminate", "interrupted")


@pytest.fixture
def sleeping() -> Iterator[Process]:
    process = spawn(["/usr/bin/sleep", "1000"], env={})
    yield process
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)


async def test_what_supervisord_has_yet_to_notice_is_asked_for_again(host: Host, sleeping: Process) -> None:
    dead = told(RUNNING, "RUNNING", 2**22)
    before, after = told(EXITED, "EXITED"), told(STARTING, "STARTING", sleeping.pid)
    async with (
        scripted(dead, dead, dead, before, True, after) as (path, asked),
        host.helper(SupervisedService("worker", path)),
    ):
        answer = await do(host, "start")
    assert (answer.state, answer.output) == ("succeeded", {"pid": sleeping.pid})
    assert asked[-2:] == ["supervisor.startProcess", "supervisor.getProcessInfo"]


async def test_one_that_is_just_about_to_be_started_again_is_stopped_too(host: Host, sleeping: Process) -> None:
    exited, again = told(EXITED, "EXITED"), told(STARTING, "STARTING", sleeping.pid)
    async with (
        scripted(exited, exited, again, True, told(STOPPED, "STOPPED")) as (path, asked),
        host.helper(SupervisedService("worker", path)),
    ):
        answer = await do(host, "stop")
    assert (answer.state, answer.output) == ("succeeded", {"previous": sleeping.pid})
    assert asked[-2:] == ["supervisor.stopProcess", "supervisor.getProcessInfo"]


def told(state: int, name: str, pid: int = 0) -> dict[str, Any]:
    return {"state": state, "statename": name, "pid": pid, "start": 1, "exitstatus": 0, "spawnerr": ""}


@contextlib.asynccontextmanager
async def scripted(*answers: Any) -> AsyncIterator[tuple[str, list[str]]]:
    """Answer call after call as a supervisord would at moments that no test can wait for; tell what was called."""
    asked: list[str] = []
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = (await reader.readuntil(b"</methodCall>")).partition(b"\r\n\r\n")[2]
        asked.append(str(xmlrpc.client.loads(body)[1]))
        text = xmlrpc.client.dumps((left.pop(0),), methodresponse=True)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + text.encode())
        writer.close()

    with tempfile.TemporaryDirectory(dir="/tmp", prefix="xs-") as folder:
        async with await asyncio.start_unix_server(answer, f"{folder}/s"):
            yield f"{folder}/s", asked


async def test_a_reload_reaches_the_process_which_goes_on(host: Host) -> None:
    with supervised(worker={"command": HEEDFUL, "directory": str(host.state)}) as supervision:
        process = await supervision.running("worker")
        file = host.state / "told"
        await until(lambda: file.exists() and file.read_text() == "up\n")
        async with host.helper(worker(supervision)):
            answer = await do(host, "reload")
        await until(lambda: file.read_text() == "up\nreloaded\n")
    assert (answer.state, answer.changed, answer.output) == ("succeeded", True, {"pid": process.pid})


async def test_a_reload_of_what_would_end_by_it_is_not_tried(host: Host) -> None:
    with supervised(worker={}) as supervision:
        process = await supervision.running("worker")
        async with host.helper(worker(supervision)):
            answer = await do(host, "reload")
        assert process.alive
    assert answer.reason == f"service 'worker' does not handle SIGHUP: its process {process.pid} would end by it"


async def test_the_emitter_hears_of_a_restart_before_its_result_is_out(host: Host) -> None:
    """No beat comes: its clock stands still. So the record can only be due to the helper, or to the process's end."""
    with supervised(worker={}) as supervision:
        before = await supervision.running("worker")
        entry = Entry(name="worker", provider="supervisord", socket=supervision.socket)
        settings = Services(services=(entry,), state=str(host.state))
        async with (
            aclosing(cast("AsyncGenerator[Record]", emit(settings, VirtualClock(), {}))) as records,
            host.helper(worker(supervision)),
            asyncio.timeout(PATIENCE),
        ):
            assert (await anext(records)).fields["pid"] == before.pid
            answer = await do(host, "restart")
            seen = [await anext(records), await anext(records)]
    assert [(record.fields["state"], record.urgent) for record in seen] == [("gone", True), ("running", True)]
    assert seen[1].fields["pid"] == answer.output["pid"]
    assert find(before.pid) is None


async def test_commands_for_one_service_come_one_after_the_other(host: Host) -> None:
    with supervised(worker={}) as supervision:
        await supervision.running("worker")
        async with host.helper(worker(supervision)):
            answers = await asyncio.gather(*(do(host, "restart") for _ in range(5)))
        info = await supervision.info("worker")
    pids = {answer.output["pid"] for answer in answers}
    assert (len(pids), info.state, info.pid in pids) == (5, RUNNING, True)


async def test_commands_that_look_at_once_do_not_get_past_the_rate(host: Host) -> None:
    host.allow("service.restart: {rate: 2/h}")
    with supervised(worker={}) as supervision:
        await supervision.running("worker")
        async with host.helper(worker(supervision)):
            answers = await asyncio.gather(*(do(host, "restart") for _ in range(5)))
    assert sorted(answer.state for answer in answers) == ["refused"] * 3 + ["succeeded"] * 2
