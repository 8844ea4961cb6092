"""Processes: started in sessions of their own, and told apart from later ones with their pid."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from exhaust.processes import Process, ended, find, has_ended, reap, send, spawn

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
WITHIN = 10.0


def output(argv: list[str], **rest: object) -> str:
    """Run to the end and return what was said."""
    reading, writing = os.pipe()
    process = spawn(argv, env=ENVIRONMENT, stdout=writing, **rest)  # type: ignore[arg-type]
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    os.waitpid(process.pid, 0)
    return text


@pytest.fixture
def sleeping() -> Iterator[tuple[Process, int]]:
    process = spawn(["/usr/bin/sleep", "1000"], env=ENVIRONMENT)
    pidfd = os.pidfd_open(process.pid)
    yield process, pidfd
    send(pidfd, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def test_a_process_leads_a_session_of_its_own(sleeping: tuple[Process, int]) -> None:
    pid = sleeping[0].pid
    assert os.getsid(pid) == os.getpgid(pid) == pid


def test_a_process_gets_only_the_environment_that_is_given() -> None:
    assert output(["/usr/bin/env"]) == "PATH=/usr/bin:/bin\n"


def test_a_process_runs_in_the_directory_that_is_given() -> None:
    assert output(["/usr/bin/pwd"], cwd="/usr/lib") == "/usr/lib\n"


def test_a_process_inherits_nothing_but_what_it_is_given() -> None:
    reading, writing = os.pipe()
    show = ["/usr/bin/readlink", *(f"/proc/self/fd/{fd}" for fd in (reading, writing))]
    assert output(show) == ""
    assert output(show, keep=[writing]).startswith("pipe:")
    os.close(reading)
    os.close(writing)


def test_what_is_not_given_is_the_null_device() -> None:
    said = output(["/usr/bin/readlink", "/proc/self/fd/0", "/proc/self/fd/2"])
    assert said == "/dev/null\n/dev/null\n"


def test_a_process_blocks_and_ignores_no_signal() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        status = output(["/usr/bin/cat", "/proc/self/status"])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    reserved = 0b11 << 31  # of the C library: signals 32 and 33
    assert int(masks["SigBlk"], 16) == int(masks["SigIgn"], 16) & ~reserved == 0


def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        spawn(["/nonexistent"], env={})


def test_a_process_is_found_by_its_pid_and_known_by_its_start(sleeping: tuple[Process, int]) -> None:
    process, _ = sleeping
    assert find(process.pid) == process
    assert process.alive
    assert not Process(process.pid, process.started + 1).alive


def test_another_process_of_that_pid_is_not_opened(sleeping: tuple[Process, int]) -> None:
    process, _ = sleeping
    assert Process(process.pid, process.started - 1).open() is None
    fd = process.open()
    assert fd is not None
    os.close(fd)


def test_a_zombie_is_not_alive() -> None:
    process = spawn(["/usr/bin/true"], env={})
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not process.alive
    assert find(process.pid) is None
    assert process.open() is None
    os.waitpid(process.pid, 0)


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", -15)])
async def test_the_end_is_told_and_its_status_collected(script: str, status: int) -> None:
    process = spawn(["/bin/sh", "-c", script], env={})
    pidfd = os.pidfd_open(process.pid)
    async with asyncio.timeout(WITHIN):
        await ended(pidfd)
    assert has_ended(pidfd)
    assert reap(pidfd) == status
    assert reap(pidfd) is None
    os.close(pidfd)


async def test_the_end_is_not_told_before_it_comes(sleeping: tuple[Process, int]) -> None:
    process, pidfd = sleeping
    waiting = asyncio.create_task(ended(pidfd))
    await asyncio.sleep(0)
    assert not has_ended(pidfd)
    assert reap(pidfd) is None
    assert send(pidfd, signal.SIGTERM)
    async with asyncio.timeout(WITHIN):
        await waiting
    assert not process.alive


def test_a_signal_to_a_process_that_has_ended_reaches_nobody(sleeping: tuple[Process, int]) -> None:
    _, pidfd = sleeping
    send(pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert not send(pidfd, signal.SIGTERM)


def test_a_name_with_spaces_and_parentheses_hides_nothing(tmp_path: Path) -> None:
    odd = tmp_path / ") S 1 (x"
    odd.symlink_to("/usr/bin/sleep")
    process = spawn([str(odd), "1000"], env={})
    assert find(process.pid) == process
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)
