"""Told to stop in the middle of its work, the loop leaves nothing unsent that somebody further on would have taken."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.node import Node
from exhaust.broker.interface import Publication
from exhaust.lifecycle.running import COMPONENTS
from exhaust.store import Store
from tests.system.installation import Installation

pytestmark = pytest.mark.asyncio(loop_scope="module")

STOPS_WITHIN = 10.0
TIMES = 3
# The loop's way back: who is to hear of these has stopped before, and hears of them at the next start.
BACKWARDS = {"orchestrator": {"watch/1", "execution/1"}, "agent": {"result/1"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["rabbitmq", "embedded"])
async def installation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    node: Node | None = request.getfixturevalue("node") if request.param == "rabbitmq" else None
    async with Installation(tmp_path_factory.mktemp("stops"), node.url if node else "embedded") as opened:
        yield opened


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node() as private:
        yield private


def left(state: Path) -> dict[str, list[Publication]]:
    """Return what each component has not sent."""
    found = {}
    for name in COMPONENTS:
        if (path := state / f"{name}.db").exists():
            with Store(path) as store:
                found[name] = [publication for _, publication in store.unsent(0, 1000)]
    return found


async def stopped_on_the_way(installation: Installation, after: float) -> dict[str, list[Publication]]:
    """Kill the service again and again for so many seconds, stop in the midst of it all, and return what is left."""
    await installation.until(installation.is_ready)
    end = asyncio.get_running_loop().time() + after
    while asyncio.get_running_loop().time() < end:
        if installation.service is not None:
            installation.kill_service()
        await asyncio.sleep(0.01)
    assert await installation.stop() < STOPS_WITHIN
    return left(installation.state)


async def test_nothing_is_left_that_somebody_further_on_would_take(
    installation: Installation, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(4)
    for _ in range(TIMES):
        unsent = await stopped_on_the_way(installation, chance.uniform(0.1, 0.3))
        for name, publications in unsent.items():
            kinds = {publication.type for publication in publications}
            allowed = BACKWARDS.get(name, set()) if installation.embedded else set()
            assert kinds <= allowed, f"{name} has not sent {Counter(one.type for one in publications)}"
        await installation.start()
    death, _ = await ready_to_die(installation)
    await installation.rest(death)
    assert not installation.errors()


async def ready_to_die(installation: Installation) -> tuple[float, dict[str, int]]:
    await installation.until(installation.is_ready)
    return installation.kill_service()
