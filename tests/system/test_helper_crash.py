"""The helper killed in the middle of an effect: the effect is not begun again, and its end is settled or unknown."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agents.channel import frame
from agents.helper import Helper
from exhaust.messages import Command
from tests.system.helper_host import SHOP, USUAL, Host, until


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    yield found
    found.end_services()


async def begin(host: Host, command: Command) -> asyncio.StreamWriter:
    _, writer = await host.connect()
    writer.write(frame(host.seal(command)))
    await writer.drain()
    return writer


async def test_an_effect_cut_short_is_indeterminate_and_never_begun_again(host: Host) -> None:
    command = host.command("test.mark", {"file": str(host.state / "marks"), "hang": True})
    with host.helper_process():
        writer = await begin(host, command)
        await until(lambda: host.marks == 1)
    writer.close()
    async with host.helper():
        answer = await host.ask(command)
        again = await host.ask(host.mark(key=command.key))
    assert (answer.state, answer.reason) == ("indeterminate", "interrupted")
    assert answer.started is not None
    assert (again, host.marks) == (answer, 1)


async def test_a_helper_that_is_cut_off_says_of_what_it_did_that_nobody_knows(host: Host) -> None:
    command = host.command("test.mark", {"file": str(host.state / "marks"), "hang": True})
    running = asyncio.create_task(Helper(host.station, host.policy, actions=USUAL).run(asyncio.Event()))
    writer = await begin(host, command)
    await until(lambda: host.marks == 1)
    running.cancel()
    await asyncio.wait([running])
    writer.close()
    async with host.helper():
        answer = await host.ask(command)
    assert (answer.state, answer.reason, host.marks) == ("indeterminate", "interrupted", 1)
    assert answer.ended is not None


async def test_a_restart_cut_short_after_the_start_is_settled_by_looking(host: Host) -> None:
    command = host.command("service.restart", {"service": "shop"})
    with host.helper_process(SHOP, crash="after"):
        (await host.connect())[1].close()
        before = host.record()
        writer = await begin(host, command)
        await until(lambda: host.record().pid != before.pid)
    writer.close()
    async with host.helper(SHOP):
        answer = await host.ask(command)
    assert (answer.state, answer.changed) == ("succeeded", True)
    assert answer.output == {"pid": host.record().pid, "previous": before.pid}
    assert host.running()


async def test_a_restart_cut_short_before_anything_is_indeterminate(host: Host) -> None:
    command = host.command("service.restart", {"service": "shop"})
    with host.helper_process(SHOP, crash="before"):
        (await host.connect())[1].close()
        before = host.record()
        writer = await begin(host, command)
        await until(lambda: b"key-1" in (host.state / "helper.db-wal").read_bytes())
    writer.close()
    async with host.helper(SHOP):
        answer = await host.ask(command)
    assert (answer.state, answer.reason) == ("indeterminate", "interrupted")
    assert host.record() == before


@pytest.mark.parametrize("same_tick", [False, True])
async def test_a_process_started_but_not_recorded_is_found_again(host: Host, same_tick: bool) -> None:
    command = host.command("service.restart", {"service": "shop"})
    with host.helper_process(SHOP, crash="after"):
        (await host.connect())[1].close()
        before = host.record()
        writer = await begin(host, command)
        await until(lambda: host.record().pid != before.pid)
    writer.close()
    after = host.record()
    unaware = msgspec.structs.replace(before, started=after.started if same_tick else before.started)
    record = host.state / "services" / "shop.json"
    record.write_bytes(msgspec.json.encode(unaware))  # as if the crash had come before the record
    async with host.helper(SHOP):
        answer = await host.ask(command)
    assert (answer.state, answer.output) == ("succeeded", {"pid": after.pid, "previous": before.pid})


async def test_a_record_cut_short_does_not_start_the_service_twice(host: Host) -> None:
    async with host.helper(SHOP):
        pid = host.record().pid
    (host.state / "services" / "shop.json").write_bytes(b'{"name"')
    async with host.helper(SHOP):
        assert host.record().pid == pid


async def test_a_helper_killed_at_any_moment_does_each_key_at_most_once(host: Host) -> None:
    commands = [host.mark() for _ in range(40)]
    envelopes = [host.seal(command) for command in commands]
    for cut in range(0, 40, 8):
        with host.helper_process() as process:
            _, writer = await host.connect()
            writer.write(b"".join(frame(envelope) for envelope in envelopes[: cut + 8]))
            await until(lambda least=cut + 4: host.marks >= least)  # type: ignore[misc]
            process.kill()
        writer.close()
    async with host.helper():
        answers = await host.ask_sealed(*envelopes)
    done = sum(answer.state == "succeeded" for answer in answers)
    unknown = sum(answer.state == "indeterminate" for answer in answers)
    assert done + unknown == 40
    assert done <= host.marks <= done + unknown
