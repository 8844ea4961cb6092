"""Checks the checkers: a product with a seeded fault must be found out by the soak, one without must not.

python -m tests.soak.mutants [NAME ...]
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import table
from tests.soak.arena import sweep
from tests.soak.checks import Violation
from tests.soak.rounds import go_through
from tests.soak.schedule import Step
from tests.soak.trial import Deadlines, Outcome

_HASTE = Deadlines(canary=10.0, drained=5.0, given_up=1.0)
_SEED = 1


class Mutant(NamedTuple):
    """What must be done to a mutant so that its fault shows, and as which kind of violation; none for the original."""

    steps: Sequence[Step]
    shows: str | None
    deadlines: Deadlines = _HASTE


def _kill(*names: str) -> Step:
    return Step("kill", dies=True, names=names, after=0.2)


MUTANTS = {
    "nothing": Mutant([_kill("analyzers"), _kill("helper")], None, Deadlines().times(2.0)),
    "drop": Mutant([_kill("collector")], "lost"),
    "repeat": Mutant([_kill("collector")], "effect"),
    "forget": Mutant([_kill("collector")], "late"),
    "hasten": Mutant([_kill("analyzers")] * 2, "lost"),
}


async def undergo(name: str) -> list[Violation]:
    """Return the violations that a mutant was found out by."""
    mutant, folder = MUTANTS[name], Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))
    outcomes: list[Outcome] = []
    up = (sys.executable, "-m", "tests.soak.altered", name, "up")
    try:
        await go_through(folder, mutant.steps, random.Random(_SEED), outcomes.append, mutant.deadlines, up)
    finally:
        sweep(folder)
    return [violation for outcome in outcomes for violation in outcome.violations]


def found_out(name: str, violations: Collection[Violation]) -> bool:
    """Tell whether that is what the mutant must be found out by, and nothing is what the original must be."""
    shows = MUTANTS[name].shows
    return not violations if shows is None else any(violation.kind == shows for violation in violations)


def main() -> int:
    rows, well = [], True
    for name in sys.argv[1:] or MUTANTS:
        began = time.monotonic()
        violations = asyncio.run(undergo(name))
        well &= (right := found_out(name, violations))
        told = str(violations[0]).partition("\n")[0] if violations else "no violation"
        rows.append((name, "as it must be" if right else "WRONG", round(time.monotonic() - began), told))
        print(f"{name}: {told}", flush=True)
    print(table(("mutant", "found out", "s", "by"), rows))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
