"""One round: a fresh installation, one fault after the other, and at the end an account of everything."""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.soak.arena import Arena, arena
from tests.soak.schedule import Step
from tests.soak.soaked import UP
from tests.soak.trial import Deadlines, NeverError, Outcome, Trial

CLOSING = Step("closing")
Tell = Callable[[Outcome], None]


async def go_through(
    folder: Path, steps: Sequence[Step], chance: random.Random, tell: Tell, deadlines: Deadlines, up: Sequence[str] = UP
) -> None:
    """Do the steps to an installation in a folder, which `up` runs; `tell` takes what came of each, and of the end.

    One after which the installation does not recover at all is the last.
    """
    kinds = {step.kind for step in steps}
    async with arena(folder, chance, disk="full-disk" in kinds, clock="clock-jump" in kinds, up=up) as opened:
        for step in steps:
            trial = Trial(opened, step, deadlines)
            try:
                await trial.run()
            except NeverError:
                tell(trial.outcome)
                return
            tell(trial.outcome)
        tell(await _close(opened, deadlines))


async def _close(arena: Arena, deadlines: Deadlines) -> Outcome:
    """Stop and start it in order, so that the emitter is told what is safe: all of that must come in the end."""
    outcome, before = Outcome(CLOSING), arena.counts
    loop = asyncio.get_running_loop()
    began = loop.time()
    await arena.installation.stop()
    starts = arena.emitter_starts()
    await arena.installation.start()
    try:
        async with asyncio.timeout(deadlines.drained):
            await arena.emitting(starts)
            await arena.drained()
            await arena.complete()
        outcome.took["all"] = loop.time() - began
    except TimeoutError:
        outcome.violations += [*arena.lost(), *arena.left_out()]
    outcome.violations += arena.standing()
    outcome.counts, outcome.memory = arena.counts - before, arena.memory
    return outcome
