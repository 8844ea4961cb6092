"""Who hangs, or dies, or both at once in different places, is started again; and the loop works as before."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from benchmarks.node import Node, free_port
from exhaust.lifecycle.running import COMPONENTS
from tests.system.impatient import UP
from tests.system.installation import Installation

pytestmark = pytest.mark.asyncio(loop_scope="module")

BACK_WITHIN = 30.0
# Each hangs once and dies once.
ROUNDS = [
    (("emitters", "collector"), ("orchestrator", "agent", "helper")),
    (("analyzers", "activator", "orchestrator"), ("emitters", "collector")),
    (("agent", "helper"), ("analyzers", "activator")),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """One process a component, through RabbitMQ."""
    with Node() as node:
        async with Installation(tmp_path_factory.mktemp("hangs"), node.url, up=UP) as opened:
            node.settle()
            yield opened


async def works(installation: Installation) -> None:
    """The service is killed, and comes back with the verdict that it is."""
    await installation.until(installation.is_ready)
    death, _ = installation.kill_service()
    await installation.rest(death)


async def test_every_process_answers_how_it_is_and_the_supervisor_too(installation: Installation) -> None:
    await installation.until(installation.is_ready)
    rows = (await installation.client.get("/status"))["components"]
    assert set(rows) == {*COMPONENTS, "supervisor"}
    told = await installation.status("supervisor")
    assert told is not None
    assert {name: row["pid"] for name, row in told["children"].items()} == installation.pids()


async def test_a_configuration_read_again_reaches_every_process_and_ends_none(installation: Installation) -> None:
    await installation.until(installation.is_ready)
    pids, now = installation.pids(), time.time()
    installation.reload()

    async def taken() -> bool:
        told = await asyncio.gather(*map(installation.status, installation.names))
        return all(one and "reload" in one and one["reload"]["time"] >= now for one in told)

    await installation.until(taken)
    assert await refusals(installation) == {}
    await works(installation)
    assert installation.pids() == pids


async def refusals(installation: Installation) -> dict[str, str]:
    """Return why processes did not take their last new configuration."""
    told = {name: await installation.status(name) for name in ("supervisor", *installation.names)}
    return {name: why for name, one in told.items() if one and (why := one.get("reload", {}).get("refused"))}


async def test_an_address_that_our_own_collector_has_taken_by_now_hinders_nobody_else(
    installation: Installation,
) -> None:
    await installation.until(installation.is_ready)
    before = installation.config.read_text()
    other = free_port()
    installation.config.write_text(before.replace(f"127.0.0.1:{installation.port}", f"127.0.0.1:{other}"))
    try:
        for name in ("collector", *(name for name in installation.names if name != "collector")):
            now, pid = time.time(), installation.pids()[name]
            os.kill(pid, signal.SIGHUP)

            async def told(name: str = name, now: float = now) -> bool:
                one = await installation.status(name)
                return one is not None and one["state"] == "ready" and one.get("reload", {}).get("time", 0) >= now

            await installation.until(told)
        assert await refusals(installation) == {}
    finally:
        installation.config.write_text(before)
        installation.reload()
        await installation.until(installation.is_ready)
    await works(installation)


@pytest.mark.parametrize(("hung", "dead"), ROUNDS)
async def test_who_hangs_is_started_again_as_who_dies_and_the_loop_works(
    installation: Installation, hung: tuple[str, ...], dead: tuple[str, ...]
) -> None:
    await installation.until(installation.is_ready)
    await installation.until(installation.is_watched)
    pids = {name: installation.hang(name) for name in hung} | installation.kill(*dead)
    for name, pid in pids.items():
        await installation.until_back(name, pid, BACK_WITHIN)
    await works(installation)
    told = await installation.status("supervisor")
    assert told is not None
    assert {name: told["children"][name]["last_error"][:25] for name in hung} == dict.fromkeys(
        hung, "killed, since it hung: do"
    )
