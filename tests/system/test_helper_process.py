"""Signals to processes of this host by a signed command: to whom they go, and to whom they never do."""

import asyncio
import json
import os
import pwd
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.channel import frame
from agents.journal import Answer
from exhaust.processes import Process, find, spawn
from tests.system.helper_host import Host, until

OWN = pwd.getpwuid(os.getuid()).pw_name
STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open(sys.argv[1], 'w'); time.sleep(1000)"
)
HEEDFUL = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: open(sys.argv[2], "w"))
open(sys.argv[1], "w")
while True:
    time.sleep(1000)
"""


class Victims:
    """Processes that a test starts and means to signal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Process] = []

    def sleeping(self) -> Process:
        return self._keep(spawn(["/usr/bin/sleep", "1000"], env={}))

    async def python(self, program: str, name: str = "program.py") -> Process:
        """Return one that has begun: it opens its first argument for writing once it is ready."""
        path, ready = self._folder / name, self._folder / f"{name}.ready"
        path.write_text(program)
        process = self._keep(spawn([sys.executable, str(path), str(ready), str(self._folder / "told")], env={}))
        await until(ready.exists)
        return process

    def _keep(self, process: Process) -> Process:
        self._started.append(process)
        return process

    def collect(self, process: Process) -> int:
        self._started.remove(process)
        return os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])

    def close(self) -> None:
        for process in list(self._started):
            os.kill(process.pid, signal.SIGKILL)
            self.collect(process)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    found = Host(tmp_path)
    allow(found, signal=["TERM", "KILL", "USR1", "STOP"])
    return found


@pytest.fixture
def victims(tmp_path: Path) -> Iterator[Victims]:
    found = Victims(tmp_path)
    yield found
    found.close()


def allow(host: Host, **limits: Any) -> None:
    host.allow(json.dumps({"process.signal": {"user": [OWN]} | limits}))


def command(host: Host, process: Process, name: str = "TERM", **more: Any) -> Any:
    return host.command("process.signal", {"process": f"{process.pid}@{process.started}", "signal": name} | more)


async def do(host: Host, process: Process, name: str = "TERM", **more: Any) -> Answer:
    async with host.helper():
        return await host.ask(command(host, process, name, **more))


async def test_a_process_that_is_told_to_end_ends(host: Host, victims: Victims) -> None:
    process = victims.sleeping()
    answer = await do(host, process)
    assert (answer.state, answer.changed, answer.output) == ("succeeded", True, {"pid": process.pid, "ended": True})
    assert victims.collect(process) == -signal.SIGTERM


async def test_one_that_stays_is_not_said_to_have_ended(host: Host, victims: Victims) -> None:
    process = await victims.python(STUBBORN)
    answer = await do(host, process)
    assert (answer.state, answer.output) == ("succeeded", {"pid": process.pid, "ended": False})
    assert process.alive


async def test_one_that_stays_is_killed_after_its_time_if_that_was_asked_for(host: Host, victims: Victims) -> None:
    process = await victims.python(STUBBORN)
    answer = await do(host, process, kill_after="100ms")
    assert answer.output == {"pid": process.pid, "ended": True}
    assert victims.collect(process) == -signal.SIGKILL


async def test_other_signals_reach_it_and_it_lives_on(host: Host, victims: Victims) -> None:
    process = await victims.python(HEEDFUL)
    answer = await do(host, process, "USR1")
    await until((host.state / "told").exists)
    assert (answer.changed, answer.output) == (True, {"pid": process.pid, "ended": False})


async def test_a_later_process_of_that_pid_is_left_alone(host: Host, victims: Victims) -> None:
    process = victims.sleeping()
    earlier = Process(process.pid, process.started - 1)
    async with host.helper():
        ended = await host.ask(command(host, earlier, "TERM"))
        unreached = await host.ask(command(host, earlier, "USR1"))
    assert (ended.state, ended.changed, ended.output) == ("succeeded", False, {"pid": process.pid, "ended": True})
    assert (unreached.state, unreached.reason) == ("failed", f"process '{process.pid}@{earlier.started}' has ended")
    assert process.alive


async def test_what_exhaust_itself_needs_is_never_signalled(host: Host, victims: Victims) -> None:
    component = await victims.python("import sys, time; open(sys.argv[1], 'w'); time.sleep(1000)", "exhaust")
    allow(host, signal=["USR1"], user=[OWN, "root"])
    async with host.helper():
        for process in (find(1), find(os.getpid()), find(os.getppid()), component):
            assert process is not None
            answer = await host.ask(command(host, process, "USR1"))
            assert answer.state == "failed"
            assert " is not signalled: it is " in answer.reason
    assert component.alive


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"user": ["nobody-at-all"]}, f"belongs to {OWN}, whom this host's policy does not allow"),
        ({"name": ["ffmpeg"]}, "is called 'sleep', which this host's policy does not allow"),
    ],
)
async def test_whom_the_policy_does_not_name_is_not_signalled(
    host: Host, victims: Victims, limits: dict[str, Any], reason: str
) -> None:
    process = victims.sleeping()
    allow(host, **limits)
    answer = await do(host, process)
    assert (answer.state, answer.changed) == ("failed", False)
    assert answer.reason.endswith(reason)
    assert process.alive


async def test_a_name_longer_than_the_kernel_keeps_is_found(host: Host, victims: Victims, tmp_path: Path) -> None:
    program = tmp_path / "sleeps-for-a-long-time"
    program.symlink_to("/usr/bin/sleep")
    process = victims._keep(spawn([str(program), "1000"], env={}))
    allow(host, name=[program.name])
    assert (await do(host, process)).output["ended"]


async def test_a_signal_that_the_policy_does_not_list_is_refused(host: Host, victims: Victims) -> None:
    process = victims.sleeping()
    allow(host)
    async with host.helper():
        for answer in [
            await host.ask(command(host, process, "KILL")),
            await host.ask(command(host, process, "TERM", kill_after="1s")),
        ]:
            assert (answer.state, answer.reason) == ("refused", "policy")
    assert process.alive


@pytest.mark.parametrize(("name", "state"), [("TERM", "succeeded"), ("USR1", "indeterminate")])
async def test_a_helper_that_dies_in_the_middle_settles_it_by_whether_the_process_is_gone(
    host: Host, victims: Victims, name: str, state: str
) -> None:
    process = victims.sleeping()
    asked = command(host, process, name)
    with host.helper_process(crash="before"):
        _, writer = await host.connect()
        writer.write(frame(host.seal(asked)))
        await until(lambda: b"key-1" in (host.state / "helper.db-wal").read_bytes())
    writer.close()
    os.kill(process.pid, signal.SIGKILL)
    victims.collect(process)
    async with host.helper():
        answer = await host.ask(asked)
    assert answer.state == state


async def test_nobody_waits_for_another_while_it_waits_for_an_end(host: Host, victims: Victims) -> None:
    stubborn, other = await victims.python(STUBBORN), victims.sleeping()
    async with host.helper():
        waiting = asyncio.create_task(
            host.ask(
                command(
                    host,
                    stubborn,
                    kill_after="1000s",
                )
            )
        )
        assert (await host.ask(command(host, other))).output["ended"]
        assert not waiting.done()
        os.kill(stubborn.pid, signal.SIGKILL)
        assert (await waiting).output["ended"]
