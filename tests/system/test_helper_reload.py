"""The action service.reload: SIGHUP to a service that handles it, whoever keeps it, and to nothing else."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.journal import Answer
from agents.kept import KeptService
from agents.pidfiles import PidfileService
from exhaust.processes import Process, spawn
from tests.system.helper_host import SHOP, Host, until

PROGRAM = """
import os, signal, sys, time

def reload(*_):
    with open(sys.argv[1], "a") as out:
        print("reloaded", file=out)
    if "fragile" in sys.argv:
        os._exit(1)

signal.signal(signal.SIGHUP, reload)
with open(sys.argv[1], "a") as out:
    print("up", file=out)
while True:
    time.sleep(1000)
"""
READS_SIGNALS = """
import signal, sys, threading, time

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
for word in ("up", "reloaded"):
    with open(sys.argv[1], "a") as out:
        print(word, file=out)
    signal.sigwait([signal.SIGHUP])
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    found.allow("service.reload: {}\nservice.restart: {}\nservice.stop: {}\n")
    yield found
    found.end_services()


def argv(host: Host, program: str, *more: str) -> tuple[str, ...]:
    path = host.state / "program.py"
    path.write_text(program)
    return (sys.executable, str(path), str(host.state / "told"), *more)


def told(host: Host) -> str:
    path = host.state / "told"
    return path.read_text() if path.exists() else ""


async def do(host: Host, action: str = "reload", service: str = "shop") -> Answer:
    return await host.ask(host.command(f"service.{action}", {"service": service}))


@pytest.mark.parametrize("program", [PROGRAM, READS_SIGNALS])
async def test_a_kept_service_reads_its_configuration_again_and_goes_on(host: Host, program: str) -> None:
    async with host.helper(KeptService("shop", argv(host, program))):
        await until(lambda: told(host) == "up\n")
        before = host.record()
        answer = await do(host)
        await until(lambda: told(host) == "up\nreloaded\n")
        assert host.record() == before
    assert (answer.state, answer.changed, answer.output) == ("succeeded", True, {"pid": before.pid})


async def test_a_service_that_ends_by_it_has_not_reloaded(host: Host) -> None:
    async with host.helper(KeptService("shop", argv(host, PROGRAM, "fragile"))):
        await until(lambda: told(host) == "up\n")
        answer = await do(host)
    assert (answer.state, answer.reason) == ("failed", "service 'shop' ended when it was told to reload")
    assert answer.output == {"pid": host.record().pid}


async def test_a_service_that_would_end_by_it_is_left_alone(host: Host) -> None:
    async with host.helper(SHOP):
        answer = await do(host)
        assert host.running()
    pid = host.record().pid
    assert answer.reason == f"service 'shop' does not handle SIGHUP: its process {pid} would end by it"


async def test_a_service_that_is_down_cannot_be_reloaded(host: Host) -> None:
    async with host.helper(KeptService("shop", SHOP.argv, wanted=False)):
        answer = await do(host)
    assert (answer.state, answer.reason) == ("failed", "service 'shop' does not run")


async def test_which_signal_it_is_is_not_for_the_command_to_say(host: Host) -> None:
    async with host.helper(SHOP):
        answer = await host.ask(host.command("service.reload", {"service": "shop", "signal": "KILL"}))
    assert (answer.state, answer.reason) == ("refused", "params")


class Daemon:
    """A service that somebody else started, with its pidfile."""

    def __init__(self, host: Host) -> None:
        self.path = host.state / "shop.pid"
        self.process = spawn(argv(host, PROGRAM), env={})
        self.service = PidfileService("shop", str(self.path))

    def write(self, process: Process) -> None:
        self.path.write_text(f"{process.pid}\n")
        self.path.chmod(0o644)

    def close(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        os.waitpid(self.process.pid, 0)


@pytest.fixture
def daemon(host: Host) -> Iterator[Daemon]:
    found = Daemon(host)
    yield found
    found.close()


async def test_a_service_is_found_by_its_pidfile_and_reloaded(host: Host, daemon: Daemon) -> None:
    daemon.write(daemon.process)
    await until(lambda: told(host) == "up\n")
    async with host.helper(daemon.service):
        answer = await do(host)
    await until(lambda: told(host) == "up\nreloaded\n")
    assert (answer.state, answer.output) == ("succeeded", {"pid": daemon.process.pid})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "service 'shop' does not run"),
        (lambda path: path.write_text("4194305\n"), "service 'shop' does not run"),
        (lambda path: path.write_text("shop"), "does not hold a pid"),
        (lambda path: path.chmod(0o666), "others may write the file: chmod go-w it"),
        (lambda path: os.utime(path, (1e9, 1e9)), "that was started after the file was written, and so is another's"),
    ],
)
async def test_a_pidfile_that_is_not_to_be_relied_on_leads_to_nobody(
    host: Host, daemon: Daemon, spoil: Any, reason: str
) -> None:
    await until(lambda: told(host) == "up\n")
    daemon.write(daemon.process)
    spoil(daemon.path)
    async with host.helper(daemon.service):
        answer = await do(host)
    assert answer.state == "failed"
    assert answer.reason.endswith(reason) or reason in answer.reason
    assert told(host) == "up\n"


@pytest.mark.parametrize("action", ["restart", "stop"])
async def test_a_pidfile_does_not_say_how_a_service_is_started_or_ended(
    host: Host, daemon: Daemon, action: str
) -> None:
    daemon.write(daemon.process)
    async with host.helper(daemon.service):
        answer = await do(host, action)
    assert answer.reason == "service 'shop' can only be reloaded: a pidfile does not say how it is started"
    assert daemon.process.alive
