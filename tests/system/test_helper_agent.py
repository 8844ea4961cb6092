"""Agent and helper together: from a sealed command on the broker to the process on the host, and the result back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.agent import Agent, agent
from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import ACKNOWLEDGE, Binding, Delivery, Disposition, Publication, Queue
from exhaust.messages import Command, Result
from exhaust.routing import COMMANDS, EXCHANGES, RESULTS, agent_queue
from exhaust.signing import Verifier
from exhaust.wire import pack, unpack
from tests.system.helper_host import PATIENCE, SHOP, USUAL, Host, until

RESULTS_QUEUE = Queue("results", (Binding(RESULTS, "#"),))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    yield found
    found.end_services()


class Controller:
    """Who sends commands through the broker and gets the results."""

    def __init__(self, host: Host, broker: Embedded) -> None:
        self._host = host
        self._broker = broker
        self._verifier = Verifier({"result/1": host.keys.public("agent")})
        self._results: asyncio.Queue[Result] = asyncio.Queue()

    async def take(self, deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        for delivery in deliveries:
            result = unpack(delivery, self._verifier)
            assert isinstance(result, Result)
            self._results.put_nowait(result)
        return [ACKNOWLEDGE] * len(deliveries)

    async def send(self, command: Command, role: str = "orchestrator") -> None:
        await self._broker.publish(pack(command, self._host.keys.signer(role)))

    async def result(self) -> Result:
        async with asyncio.timeout(PATIENCE):
            return await self._results.get()

    async def do(self, command: Command) -> Result:
        await self.send(command)
        return await self.result()


@contextlib.asynccontextmanager
async def agent_of(host: Host) -> AsyncIterator[tuple[Agent, Controller]]:
    broker = host.station.broker
    assert isinstance(broker, Embedded)
    async with asyncio.timeout(PATIENCE * 2), broker:
        await broker.declare(EXCHANGES, [agent_queue("web-01"), RESULTS_QUEUE])
        found, controller, stop = (
            agent(host.station, host.policy, actions=USUAL),
            Controller(host, broker),
            asyncio.Event(),
        )
        async with broker.consume(RESULTS_QUEUE, controller.take), asyncio.TaskGroup() as tasks:
            tasks.create_task(found.run(stop))
            try:
                yield found, controller
            finally:
                stop.set()


async def test_a_command_on_the_broker_restarts_the_service_and_the_result_says_so(host: Host) -> None:
    async with host.helper(SHOP), agent_of(host) as (_, controller):
        before = host.record()
        command = host.command("service.restart", {"service": "shop"})
        result = await controller.do(command)
        assert host.running()
    assert (result.state, result.command, result.key, result.host) == ("succeeded", command.id, command.key, "web-01")
    assert result.output == {"pid": host.record().pid, "previous": before.pid}
    assert result.causes == (command.id,)


async def test_a_command_signed_anew_with_its_key_gets_its_result_again(host: Host) -> None:
    async with host.helper(), agent_of(host) as (found, controller):
        first = await controller.do(host.mark(key="k"))
        again = await controller.do(host.mark(key="k", epoch=0, seq=0))
    assert (again.state, again.output, again.started) == (first.state, first.output, first.started)
    assert again.id != first.id
    assert host.marks == 1
    assert found.status()["commands"]["repeated"] == 1


async def test_forged_and_misaddressed_commands_do_nothing_and_get_no_answer(host: Host) -> None:
    async with host.helper() as helper, agent_of(host) as (found, controller):
        await controller.send(host.mark(), role="activator")
        await controller.send(host.mark(audience="0" * 64))
        body = b"{}"
        await host.station.broker.publish(Publication(COMMANDS, "web-01", "x", "command/1", body, 0.0))
        result = await controller.do(host.mark())
        assert found.refused == {"forged": 2, "unusable": 1}
    assert (result.state, host.marks) == ("succeeded", 1)
    assert helper.counts == {"succeeded": 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time": 1.0, "expires": 2.0}, "expired"),
        ({"epoch": 0}, "stale_epoch"),
        ({"seq": 1}, "replayed"),
        ({"action": "service.reboot"}, "unknown_action"),
        ({"action": "command.run"}, "policy"),
        ({"params": {"file": 1}}, "params"),
    ],
)
async def test_what_must_not_be_done_never_reaches_the_helper(host: Host, changes: dict[str, Any], reason: str) -> None:
    async with host.helper() as helper, agent_of(host) as (found, controller):
        await controller.do(host.mark())
        result = await controller.do(host.mark(**changes))
        assert found.status()["commands"][reason] == 1
    assert (result.state, result.reason, result.started) == ("refused", reason, None)
    assert helper.counts == {"succeeded": 1}


async def test_the_file_halt_stops_new_actions_and_is_a_known_result(host: Host) -> None:
    async with host.helper(), agent_of(host) as (_, controller):
        (host.state / "HALT").touch()
        result = await controller.do(host.mark(key="k"))
        (host.state / "HALT").unlink()
        again = await controller.do(host.mark(key="k"))
    assert (result.reason, again.reason, host.marks) == ("halted", "halted", 0)


async def test_a_command_waits_for_a_helper_that_comes_late(host: Host) -> None:
    async with agent_of(host) as (found, controller):
        await controller.send(host.mark())
        await until(lambda: found.status()["helper"]["waiting"] == 1)
        async with host.helper():
            assert (await controller.result()).state == "succeeded"


async def test_without_a_helper_a_command_fails_when_it_is_over(host: Host) -> None:
    async with agent_of(host) as (_, controller):
        now = host.station.clock.now()
        result = await controller.do(host.mark(expires=now + 0.2, timeout=0.1))
    assert (result.state, result.reason, result.started) == ("failed", "no_helper", None)


async def test_a_helper_that_dies_while_acting_is_asked_again_and_does_nothing_twice(host: Host) -> None:
    command = host.command("test.mark", {"file": str(host.state / "marks"), "hang": True})
    async with agent_of(host) as (_, controller):
        with host.helper_process():
            await controller.send(command)
            await until(lambda: host.marks == 1)
        async with host.helper():
            result = await controller.result()
    assert (result.state, result.reason, host.marks) == ("indeterminate", "interrupted", 1)


async def test_what_an_agent_left_under_way_is_finished_by_the_next(host: Host) -> None:
    command = host.mark()

    async def crash() -> None:
        async with agent_of(host) as (found, controller):
            await controller.send(command)
            await until(lambda: found.status()["helper"]["waiting"] == 1)
            raise RuntimeError

    with pytest.raises(ExceptionGroup, match="unhandled"):
        await crash()
    async with host.helper(), agent_of(host) as (_, controller):
        result = await controller.result()
    assert (result.state, result.command, host.marks) == ("succeeded", command.id, 1)


async def test_an_agent_without_policy_does_nothing_and_says_why(host: Host) -> None:
    host.policy.unlink()
    async with host.helper(), agent_of(host) as (found, controller):
        result = await controller.do(host.mark())
        assert found.status()["policy"]["state"] == "faulty"
    assert (result.state, result.reason, host.marks) == ("refused", "policy", 0)


async def test_agent_and_helper_of_one_user_say_that_nothing_separates_them(host: Host) -> None:
    async with host.helper() as helper, agent_of(host) as (found, controller):
        await controller.do(host.mark())
        assert found.status()["helper"]["separation"] == "none"
        assert helper.status()["separation"] == "none"


async def test_many_commands_at_once_are_each_done_once(host: Host) -> None:
    async with host.helper(), agent_of(host) as (_, controller):
        for command in [host.mark() for _ in range(100)]:
            await controller.send(command)
        results = [await controller.result() for _ in range(100)]
    assert {result.state for result in results} == {"succeeded"}
    assert len({result.key for result in results}) == host.marks == 100
