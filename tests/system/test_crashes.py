"""Whatever is killed, and whenever on the way from a service's death to the verdict: the loop ends as it should.

The way takes some 30 to 50 ms. EXHAUST_CRASHES tells how many more instants are tried at random, EXHAUST_SEED which.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import pytest_asyncio

from benchmarks.node import Node
from exhaust.running import COMPONENTS
from tests.system.installation import Installation

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOMENTS = (0, 4, 9, 15, 22, 30)
CRASHES = int(os.environ.get("EXHAUST_CRASHES", "4"))
SEED = int(os.environ.get("EXHAUST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
LONGEST = 60.0
BACK_WITHIN = 15.0
STOP_WITHIN = 10.0
# The supervisor waits the longer the sooner a child ends again: after so many kills of one child it is started anew.
MOST_KILLS = 3
EXPECTED_LOGS = ()


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node() as private:
        yield private


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def many(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator["Ordeal"]:
    """One process a component, through RabbitMQ."""
    async with Installation(tmp_path_factory.mktemp("many"), node.url) as installation:
        ordeal = Ordeal(installation, node)
        yield ordeal
        print(ordeal.told())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator["Ordeal"]:
    """All in one process, with the embedded broker."""
    async with Installation(tmp_path_factory.mktemp("one"), "embedded") as installation:
        ordeal = Ordeal(installation, None)
        yield ordeal
        print(ordeal.told())


class Ordeal:
    """What was done to an installation, and what it must be able to say of it."""

    def __init__(self, installation: Installation, node: Node | None) -> None:
        self.installation = installation
        self._node = node
        self._kills: Counter[str] = Counter()
        self._deaths = 0
        self._slowest = 0.0
        self._ends: Counter[str] = Counter()

    async def undergo(self, *names: str, after: float = 0.0) -> None:
        """Kill the service, and components so many seconds later; what has to be so must be so afterwards."""
        await self.rested(*names)
        death, pids = self.installation.kill_service(*names, after=after)
        self._deaths += 1
        await self.installation.rest(death)
        await self.back(pids)
        await self.well()

    async def rested(self, *names: str) -> None:
        """Begin with everything there; start it anew where the supervisor has lost its patience."""
        if any(self._kills[name] >= MOST_KILLS for name in names):
            await self.installation.stop()
            await self.installation.start()
            self._kills.clear()
        await self.installation.until(self.installation.is_ready)

    async def back(self, pids: dict[str, int]) -> None:
        """Each of those that were killed is there again in time, as another process."""
        for name, pid in pids.items():
            self._kills[name] += 1
            spent = await self.installation.until(lambda n=name, p=pid: self.installation.is_back(n, instead_of=p), BACK_WITHIN)  # type: ignore[misc]
            self._slowest = max(self._slowest, spent)

    async def well(self) -> None:
        """Check all that must hold whenever the loop is at rest, of all that was done so far."""
        runs = await self.installation.items("executions")
        self._ends = Counter(f"{run['state']} {run['verdict']}" for run in runs)
        tasks = [task for run in runs for task in run["tasks"]]
        done = [task["output"] for task in tasks if task["state"] == "succeeded"]
        unknown = sum(task["state"] == "indeterminate" for task in tasks)
        pids = [start.pid for start in self.installation.starts()]
        assert all(task["attempts"] == 1 for task in tasks)
        assert all(output["previous"] is None for output in done), "what runs is not restarted"
        told = Counter(output["pid"] for output in done)
        assert max(told.values(), default=1) == 1, "each effect is of one start"
        assert told.keys() <= set(pids[1:]), "no effect without a start"
        assert len(pids) - 1 - len(told) <= unknown, "no start without an effect"
        assert self.installation.alive() == pids[-1:], "only the last start runs"
        assert len(runs) - self._deaths == sum(run["verdict"] not in ("recovered", "relapsed") for run in runs), runs[:3]
        await self.installation.until(self._is_sent)
        assert await self._refused() == 0
        assert self.installation.errors() == []

    async def _is_sent(self) -> bool:
        return not any(self.installation.unsent().values())

    async def _refused(self) -> int:
        """Return how many messages nobody could handle."""
        told = [await self.installation.status(name) for name in self.installation.names]
        rows = [row for status in told if status for row in status["services"].values()]
        refused = sum(sum(row.get("refused", {}).values()) for row in rows)
        if self._node is not None:
            async with await aio_pika.connect(self._node.url) as connection, connection.channel() as channel:
                dead = await channel.declare_queue("exhaust.dead", passive=True)
                refused += dead.declaration_result.message_count or 0
        return refused

    def told(self) -> str:
        return f"{self._deaths} deaths, {dict(self._ends)}, the slowest back after {self._slowest:.1f} s (seed {SEED})"


def instants() -> Iterator[tuple[list[str], float]]:
    """Yield components and seconds at random, but the same for the same seed; now and then two components at once."""
    chance = random.Random(SEED)
    for _ in range(CRASHES):
        yield chance.sample(COMPONENTS, 2 if chance.random() < 0.2 else 1), chance.uniform(0.0, LONGEST) / 1000


@pytest.mark.parametrize("moment", MOMENTS, ids="{}ms".format)
async def test_a_component_killed_on_the_way_changes_nothing_of_its_end(many: Ordeal, moment: int) -> None:
    for name in COMPONENTS:
        await many.undergo(name, after=moment / 1000)


@pytest.mark.parametrize("moment", MOMENTS, ids="{}ms".format)
async def test_the_one_process_killed_on_the_way_changes_nothing_of_its_end(one: Ordeal, moment: int) -> None:
    await one.undergo("all", after=moment / 1000)


async def test_components_killed_at_any_instant_change_nothing_of_its_end(many: Ordeal) -> None:
    for names, after in instants():
        await many.undergo(*names, after=after)


async def test_the_one_process_killed_at_any_instant_changes_nothing_of_its_end(one: Ordeal) -> None:
    for _, after in instants():
        await one.undergo("all", after=after)


async def test_all_killed_at_once_are_back_in_time_and_the_loop_goes_on(many: Ordeal) -> None:
    await many.rested(*COMPONENTS)
    await many.back(many.installation.kill(*COMPONENTS))
    await many.undergo()
