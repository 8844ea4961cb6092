"""The helper over its real socket: what it does, what it refuses, and that it does nothing twice."""

import asyncio
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.helper_host import SHOP, Host, until

AS_NOBODY = """
import os, socket, sys
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    print(s.recv(1))
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    yield found
    found.end_services()


async def test_a_signed_and_allowed_command_is_done(host: Host) -> None:
    async with host.helper():
        answer = await host.ask(host.mark())
    assert (answer.state, answer.changed, host.marks) == ("succeeded", True, 1)
    assert answer.started is not None
    assert answer.ended is not None
    assert answer.started <= answer.ended


async def test_the_same_key_twice_is_done_once(host: Host) -> None:
    command = host.mark()
    async with host.helper() as helper:
        first = await host.ask(command)
        again = await host.ask(host.mark(key=command.key))
    assert (again, host.marks) == (first, 1)
    assert helper.counts == {"succeeded": 1, "repeated": 1}


async def test_the_same_key_is_known_to_the_next_helper(host: Host) -> None:
    command = host.mark()
    async with host.helper():
        first = await host.ask(command)
    async with host.helper():
        assert await host.ask(host.mark(key=command.key, expires=0.0)) == first
    assert host.marks == 1


async def test_one_key_asked_for_many_times_at_once_is_done_once(host: Host) -> None:
    command = host.mark()
    async with host.helper():
        answers = await asyncio.gather(*(host.ask(command) for _ in range(20)))
    assert {answer.state for answer in answers} == {"succeeded"}
    assert host.marks == 1


async def test_many_requests_go_over_one_connection(host: Host) -> None:
    sealed = [host.seal(host.mark()) for _ in range(50)]
    async with host.helper():
        answers = await host.ask_sealed(*sealed)
    assert {answer.key for answer in answers} == {f"key-{n}" for n in range(1, 51)}
    assert host.marks == 50


async def test_a_long_action_holds_up_no_other(host: Host) -> None:
    hanging = host.command("test.mark", {"file": str(host.state / "other"), "hang": True}, timeout=0.3)
    async with host.helper():
        answers = await host.ask_sealed(host.seal(hanging), host.seal(host.mark()))
    assert [(answer.state, answer.reason) for answer in answers] == [("succeeded", ""), ("failed", "timeout")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"audience": "0" * 64}, "forged"),
        ({"host": "web-02"}, "forged"),
        ({"expires": 1.0}, "expired"),
        ({"time": 4e9, "expires": 5e9}, "clock"),
        ({"action": "service.reboot"}, "unknown_action"),
        ({"action": "command.run"}, "policy"),
        ({"params": {"file": "-x"}}, "params"),
    ],
)
async def test_what_must_not_be_done_is_not_done_and_counted(
    host: Host, changes: dict[str, object], reason: str
) -> None:
    async with host.helper() as helper:
        answer = await host.ask(host.mark(**changes))
    assert (answer.state, answer.reason, answer.started, host.marks) == ("refused", reason, None, 0)
    assert helper.counts == {reason: 1}


async def test_what_the_agent_itself_signs_is_not_done(host: Host) -> None:
    forged = host.keys.signer("agent").seal(host.mark())
    async with host.helper():
        (answer,) = await host.ask_sealed(forged)
        assert (await host.ask(host.mark())).state == "succeeded"
    assert (answer.state, answer.reason, host.marks) == ("refused", "forged", 1)


@pytest.mark.parametrize("noise", [b"", b"{}", b"\xff" * 100, b"[" * 60_000, os.urandom(1000)])
async def test_noise_is_refused_and_does_no_harm(host: Host, noise: bytes) -> None:
    async with host.helper() as helper:
        (answer,) = await host.ask_sealed(noise)
        assert (await host.ask(host.mark())).state == "succeeded"
    assert answer.reason == "unusable"
    assert helper.counts["unusable"] == 1


async def test_a_fault_of_an_action_costs_its_command_only(host: Host) -> None:
    async with host.helper():
        answer = await host.ask(host.command("test.fault", {"file": "x"}))
        assert (await host.ask(host.mark())).state == "succeeded"
    assert (answer.state, answer.reason) == ("indeterminate", "fault")


async def test_a_frame_too_large_ends_only_its_connection(host: Host) -> None:
    async with host.helper():
        reader, writer = await host.connect()
        writer.write(struct.pack("!I", 1 << 31) + b"x")
        assert await reader.read() == b""
        writer.close()
        assert (await host.ask(host.mark())).state == "succeeded"


async def test_nothing_is_done_while_the_file_halt_is_there(host: Host) -> None:
    async with host.helper():
        (host.state / "HALT").touch()
        assert (await host.ask(host.mark())).reason == "halted"
        (host.state / "HALT").unlink()
        assert (await host.ask(host.mark())).state == "succeeded"
    assert host.marks == 1


async def test_a_policy_made_narrower_is_obeyed_at_once(host: Host) -> None:
    async with host.helper() as helper:
        assert (await host.ask(host.mark())).state == "succeeded"
        host.allow("service.start: {}\n")
        assert (await host.ask(host.mark())).reason == "policy"
        host.allow("test.mark: {oops: 1}\n")
        assert (await host.ask(host.mark())).reason == "policy"
        assert "unknown key 'oops'" in helper.status()["policy"]["fault"]
    assert host.marks == 1


async def test_a_rate_is_counted_across_restarts(host: Host) -> None:
    def rare() -> bytes:
        return host.seal(host.command("test.rare", {"file": str(host.state / "marks")}))

    async with host.helper():
        assert {answer.state for answer in await host.ask_sealed(rare(), rare())} == {"succeeded"}
    async with host.helper():
        (answer,) = await host.ask_sealed(rare())
    assert (answer.state, answer.reason, host.marks) == ("refused", "policy", 2)
    assert answer.output == {"detail": "'rate': 2/h is used up"}


async def test_the_socket_is_for_its_owner_only(host: Host) -> None:
    async with host.helper() as helper:
        await host.ask(host.mark())
        mode = (host.station.sockets / "helper.commands").stat().st_mode
        reader, writer = await host.connect()
        await until(lambda: helper.status()["separation"] == "none")
        writer.close()
        await reader.read()
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
async def test_another_user_is_turned_away_even_where_the_socket_is_open(host: Host) -> None:
    async with host.helper() as helper:
        for path in (*host.station.sockets.parents, host.station.sockets, host.station.sockets / "helper.commands"):
            if path.is_relative_to(host.state.parent.parent):
                path.chmod(0o777)
        argv = (sys.executable, "-c", AS_NOBODY, str(host.station.sockets / "helper.commands"))
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
        said, _ = await process.communicate()
    assert said == b"b''\n"
    assert helper.counts == {"stranger": 1}


async def test_a_second_helper_does_not_take_the_socket(host: Host) -> None:
    async with host.helper():
        with host.helper_process(stderr=subprocess.PIPE) as second:
            _, said = await asyncio.to_thread(second.communicate)
        assert b"is in use by another process" in said
        assert (await host.ask(host.mark())).state == "succeeded"


async def test_a_helper_that_is_told_to_stop_finishes_what_is_under_way(host: Host) -> None:
    async with host.helper(SHOP):
        (await host.connect())[1].close()
        command = host.command("service.restart", {"service": "shop"})
        asking = asyncio.create_task(host.ask(command))
        await until(lambda: host.record().exit is not None or asking.done())
    assert (await asking).state == "succeeded"


def test_a_socket_knows_its_peer() -> None:
    here, there = socket.socketpair()
    with here, there:
        found = here.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert struct.unpack("3i", found) == (os.getpid(), os.getuid(), os.getgid())
