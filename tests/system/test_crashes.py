"""Whatever is killed, and whenever on the way from a service's death to the verdict: the loop ends as it should.

The way takes some 30 to 50 ms. EXHAUST_CRASHES tells how many instants more are tried at random, EXHAUST_SEED which.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from benchmarks.node import Node
from tests.system.installation import Installation

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Of the first component; each further one is killed a millisecond later than the one before it.
MOMENTS = (0.0, 0.01, 0.022)
LATEST = 0.06
CRASHES = int(os.environ.get("EXHAUST_CRASHES", "3"))
SEED = int(os.environ.get("EXHAUST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
BACK_WITHIN = 15.0
STOP_WITHIN = 10.0
# The supervisor waits the longer the sooner a child ends again: after so many kills of one it is started anew.
MOST_KILLS = 3
GOOD = ("recovered", "relapsed")


class Ordeal:
    """What is done to an installation, and what must be so afterwards, every time."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self._kills: Counter[str] = Counter()
        self._all: Counter[str] = Counter()
        self._deaths = 0
        self._slowest = 0.0
        self._ends: Counter[str] = Counter()

    async def undergo(self, *names: str, after: float = 0.0) -> None:
        """Kill the service, and components so many seconds later; the loop ends as it should, with all of them back."""
        await self.begin(*names)
        death, pids = self.installation.kill_service(*names, after=after)
        await asyncio.gather(self.end(death), self.back(pids))

    async def begin(self, *names: str) -> None:
        """Begin with everything there; start it anew where the supervisor has lost its patience."""
        if any(self._kills[name] >= MOST_KILLS for name in names):
            await self.again()
        await self.installation.until(self.installation.is_ready)

    async def again(self) -> None:
        """Stop and start all of it but the service."""
        assert await self.installation.stop() < STOP_WITHIN
        self._kills.clear()
        await self.installation.start()

    async def back(self, pids: dict[str, int]) -> None:
        """Wait until each of those that were killed is there again, as another process."""
        self._kills.update(pids.keys())
        self._all.update(pids.keys())
        for name, pid in pids.items():
            spent = await self.installation.until_back(name, pid, BACK_WITHIN)
            self._slowest = max(self._slowest, spent)

    async def end(self, death: float) -> None:
        """Wait for the end of what the service's death began."""
        self._deaths += 1
        await self.installation.rest(death)
        await self.check()

    async def check(self) -> None:
        """Check what must hold whenever the loop is at rest, of all that it has done so far."""
        runs = await self.installation.items("executions")
        self._ends = Counter(f"{run['state']} {run['verdict']}" for run in runs)
        tasks = [task for run in runs for task in run["tasks"]]
        assert all(task["attempts"] == 1 for task in tasks)
        effects = [task["output"] for task in tasks if task["state"] == "succeeded"]
        unknown = sum(task["state"] == "indeterminate" for task in tasks)
        starts = [start.pid for start in self.installation.starts()]
        begun = {effect["pid"] for effect in effects}
        assert len(begun) == len(effects), "each effect is a start of its own"
        assert begun <= set(starts[1:]), "what is told to be done is done"
        assert len(starts) - 1 - len(begun) <= unknown, "what is done is told, or told to be unknown"
        assert all(effect["previous"] is None for effect in effects), "nothing is done to what is well"
        assert self.installation.alive() == starts[-1:], "one service runs"
        # With no cooldown a verdict that overtakes the fact's closing starts one more run, which is then skipped.
        assert len({run["cause"] for run in runs}) == self._deaths, "one fault for each death"
        assert len({run["cause"] for run in runs if run["verdict"] in GOOD}) == self._deaths, "each is recovered from"

    async def close(self) -> None:
        """Check what must hold in the end, however late."""
        await self.installation.until(self._is_told)
        await self.installation.until(self._is_sent)
        assert await self._refused() == 0
        assert self.installation.errors() == []

    def summary(self) -> str:
        ends = ", ".join(f"{count} {end}" for end, count in self._ends.most_common())
        kills = ", ".join(f"{count} of {name}" for name, count in self._all.items())
        return f"seed {SEED}: {self._deaths} deaths, {ends}; kills: {kills}; slowest back in {self._slowest:.1f} s"

    async def _is_told(self) -> bool:
        """Tell whether all that was recovered has relapsed, but the last; and whether no record is missing."""
        runs = await self.installation.items("executions")
        ledger = (await self.installation.client.get("/status"))["ledger"]
        accounted = all(row["missing"] == row["in_flight"] == row["dropped"] == 0 for row in ledger)
        return accounted and len({run["cause"] for run in runs if run["verdict"] == "recovered"}) == 1

    async def _is_sent(self) -> bool:
        return not any(self.installation.unsent().values())

    async def _refused(self) -> int:
        """Return how many messages somebody could not handle."""
        told = [await self.installation.status(name) for name in self.installation.names]
        rows = [row for status in told if status for row in status["services"].values()]
        refused = sum(sum(row.get("refused", {}).values()) for row in rows)
        return refused + len(await self.installation.items("dead-letters"))


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node() as private:
        yield private


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["rabbitmq", "embedded"])
async def ordeal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ordeal]:
    """One process a component, through RabbitMQ; or all in one process."""
    node: Node | None = request.getfixturevalue("node") if request.param == "rabbitmq" else None
    folder = tmp_path_factory.mktemp(request.param)
    async with Installation(folder, node.url if node else "embedded") as installation:
        if node:
            node.settle()
        ordeal = Ordeal(installation)
        yield ordeal
        await ordeal.close()
        request.config.get_terminal_writer().line(f"\n{request.param}, {ordeal.summary()}")


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_component_killed_on_the_way_changes_nothing_of_its_end(ordeal: Ordeal, moment: float) -> None:
    for number, name in enumerate(ordeal.installation.names):
        await ordeal.undergo(name, after=moment + number / 1000)


async def test_components_killed_at_any_instant_change_nothing_of_its_end(ordeal: Ordeal) -> None:
    chance, names = random.Random(SEED), ordeal.installation.names
    for _ in range(CRASHES):
        several = chance.sample(names, min(len(names), chance.choice((1, 1, 1, 2))))
        await ordeal.undergo(*several, after=chance.uniform(0.0, LATEST))


async def test_all_killed_at_once_are_back_in_time_and_the_loop_works(ordeal: Ordeal) -> None:
    await ordeal.begin(*ordeal.installation.names)
    await ordeal.back(ordeal.installation.kill(*ordeal.installation.names))
    await ordeal.undergo()


@pytest.mark.parametrize("ordeal", ["rabbitmq"], indirect=True)
async def test_the_broker_killed_on_the_way_changes_nothing_of_its_end(ordeal: Ordeal, node: Node) -> None:
    chance = random.Random(SEED)
    for _ in range(1 + CRASHES // 20):
        await ordeal.begin()
        death, _ = ordeal.installation.kill_service()
        await asyncio.sleep(chance.uniform(0.0, LATEST / 2))
        node.kill()
        await asyncio.to_thread(node.start)
        async with asyncio.timeout(BACK_WITHIN):
            await ordeal.end(death)


async def test_told_to_stop_it_ends_in_time_and_the_next_start_adopts_the_service(ordeal: Ordeal) -> None:
    await ordeal.begin()
    before = ordeal.installation.starts()
    await ordeal.again()
    await ordeal.begin()
    assert ordeal.installation.starts() == before
    assert ordeal.installation.alive() == [before[-1].pid]
    await ordeal.undergo()


async def test_told_to_stop_on_the_way_the_next_start_comes_to_its_end(ordeal: Ordeal) -> None:
    chance = random.Random(SEED)
    for _ in range(1 + CRASHES // 10):
        await ordeal.begin()
        death, _ = ordeal.installation.kill_service()
        await asyncio.sleep(chance.uniform(0.0, LATEST))
        await ordeal.again()
        await ordeal.end(death)
