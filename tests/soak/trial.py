"""One fault from its beginning until all is well again, with all that is checked on the way."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

from tests.soak import checks
from tests.soak.arena import Arena
from tests.soak.checks import Violation
from tests.soak.faults import FAULTS
from tests.soak.schedule import BROKER, Step

# A connection that carries nothing and is not reset: three heartbeats of 10 s pass before it is given up.
NOTICED_WITHIN = 33.0


@dataclass(frozen=True)
class Deadlines:
    """Within how many seconds what must be: `flow` of the broker's accepting, the others of the fault's end.

    What is late is waited for `given_up` seconds more, to know how late.
    """

    flow: float = 10.0
    back: float = 15.0
    canary: float = 30.0
    drained: float = 30.0
    given_up: float = 60.0

    def times(self, slack: float) -> "Deadlines":
        """Return them longer, for a slow and noisy machine."""
        return Deadlines(*(slack * seconds for seconds in astuple(self)))


class NeverError(Exception):
    """Something did not come at all: there is no sense in going on."""


@dataclass
class Outcome:
    """What came of one step: `took` is how long each thing that is promised took, in seconds.

    `counts` are of what was accepted, came again and was done meanwhile; `memory` is the most that a process held.
    """

    step: Step
    took: dict[str, float] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    memory: int = 0

    @property
    def recovery(self) -> float:
        """The slowest return, be it of the flow or of a process that was killed."""
        return max((seconds for what, seconds in self.took.items() if what == "flow" or " " in what), default=0.0)


class Trial:
    """Does one step to an installation."""

    def __init__(self, arena: Arena, step: Step, deadlines: Deadlines) -> None:
        self._arena, self._step, self._deadlines = arena, step, deadlines
        self._loop = asyncio.get_running_loop()
        self._healed = self._killed = 0.0
        self.outcome = Outcome(step)

    async def run(self) -> None:
        """Do it, wait until all is well, and leave here what came of it. Raises NeverError."""
        arena, outcome, before = self._arena, self.outcome, self._arena.counts
        arena.largest.clear()
        try:
            await self._recover(await self._disturb())
        finally:
            outcome.violations += [*arena.standing(), *checks.grown(set(arena.largest.values()))]
            outcome.counts, outcome.memory = arena.counts - before, arena.memory

    async def _recover(self, killed: Mapping[str, int]) -> None:
        arena, limits = self._arena, self._deadlines
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._flow())
                for name, pid in killed.items():
                    tasks.create_task(self._timed(f"{name} back", arena.back(name, pid), limits.back))
        except* NeverError as group:
            raise group.exceptions[0] from None
        await self._timed("canary", arena.canary(), limits.canary)
        try:
            async with asyncio.timeout(limits.drained):
                await arena.drained()
        except TimeoutError:
            self.outcome.violations += (lost := arena.lost())
            raise NeverError(f"{len(lost)} streams are not whole") from None

    @property
    def _ended(self) -> float:
        """Since when nothing more is done to it."""
        return max(self._healed, self._killed)

    async def _disturb(self) -> dict[str, int]:
        """Begin the fault and heal it, and kill components meanwhile; return which processes those were."""
        step, began = self._step, self._loop.time()
        begin, heal = FAULTS[step.kind]
        if step.dies:
            self._arena.kill_service()
        await begin(self._arena.means, step)
        await asyncio.sleep(max(0.0, began + step.seconds - self._loop.time()))
        killing = asyncio.create_task(self._kill())
        await heal(self._arena.means, step)
        self._healed = self._loop.time()
        if step.how.get("forget"):
            self._healed = max(self._healed, began + NOTICED_WITHIN)
        return await killing

    async def _kill(self) -> dict[str, int]:
        if not self._step.names:
            return {}
        await asyncio.sleep(self._step.after)
        killed = await self._arena.kill(*self._step.names)
        self._killed = self._loop.time()
        return killed

    async def _flow(self) -> None:
        limit = self._deadlines.flow if self._step.kind in BROKER else self._deadlines.canary
        if self._step.names:  # who carries the flow may be among those that were killed
            limit = max(limit, self._deadlines.back)
        await self._timed("flow", self._arena.flow(), limit)

    async def _timed(self, what: str, done: Coroutine[Any, Any, None], limit: float) -> None:
        """Wait for something that ought to be so within so many seconds of the fault's end."""
        patience = limit + self._deadlines.given_up
        try:
            async with asyncio.timeout_at(self._ended + patience):
                await done
        except TimeoutError:
            never = Violation("late", f"{what}: never, within {patience:g} s")
            self.outcome.violations.append(never)
            raise NeverError(str(never)) from None
        took = self.outcome.took[what] = max(0.0, self._loop.time() - self._ended)
        if took > limit:
            self.outcome.violations.append(Violation("late", f"{what}: {took:.1f} s, more than {limit:g}"))
