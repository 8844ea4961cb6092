"""Lets faults happen to an installation until each has happened often enough, and checks that nothing is lost by it.

    python -m tests.soak.run [--folder .soak] [--seed N] [--faults NAME=COUNT ...]

What was done is kept in FOLDER/progress.json: interrupted, it goes on with the next round; without that file it begins
anew. A violation is printed with its seed, round and step, and ends it. The same round again: --seed N --round N.
"""

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.node import NodeError
from tests.soak.arena import sweep
from tests.soak.faults import lacking
from tests.soak.report import Tally, tell
from tests.soak.rounds import go_through
from tests.soak.schedule import GOALS, steps
from tests.soak.trial import Deadlines, Outcome


class Soak:
    """Goes from round to round; nothing of a round counts before its end, where its losses are known."""

    def __init__(self, tally: Tally, path: Path, goals: dict[str, int], deadlines: Deadlines) -> None:
        self._tally, self._path = tally, path
        self._goals, self._deadlines = goals, deadlines
        self._outcomes: list[Outcome] = []

    async def run(self, most: int, *, go_on: bool) -> None:
        """Go on until the goals are met, for at most so many rounds, and unless told to only while nothing is wrong."""
        tally = self._tally
        if tally.folder:
            sweep(Path(tally.folder))
        for _ in range(most):
            if not tally.left(self._goals):
                return
            tally.round += 1
            if not await self._round(set(tally.left(self._goals))) and not go_on:
                return

    async def _round(self, wanted: set[str]) -> bool:
        """Run the next round; return whether nothing was wrong with it."""
        # Not below the folder of the progress: the paths of sockets are short.
        folder = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))
        tally, self._outcomes = self._tally, []
        tally.folder = str(folder)
        tally.save(self._path)
        name = f"{tally.seed} {tally.round}"
        plan = steps(tally.seed, tally.round, wanted)
        await go_through(folder, plan, random.Random(name), self._take, self._deadlines)
        for outcome in self._outcomes:
            tally.add(outcome)
        well = not any(outcome.violations for outcome in self._outcomes)
        if well:
            shutil.rmtree(folder)
        else:
            print(f"what was written down is in {folder}", flush=True)
        tally.folder = ""
        tally.save(self._path)
        return well

    def _take(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        left = sum(self._tally.left(self._goals).values())
        tell(outcome, self._tally, left - sum(len(one.step.kinds) for one in self._outcomes))


def _goals(given: list[str]) -> dict[str, int]:
    """Return the goals, those that are given instead of all if there are any. Raises ValueError."""
    found = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in GOALS:
            raise ValueError(f"--faults {text}: no fault is called '{name}'; there are {', '.join(GOALS)}")
        found[name] = int(number)
    return found or dict(GOALS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(".soak"), help="where progress is kept (default: .soak)")
    parser.add_argument("--seed", type=int, help="what the schedule follows from (default: a random one, then kept)")
    parser.add_argument("--round", type=int, help="only this round, and keep nothing of it")
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="at most so many rounds now")
    parser.add_argument("--go-on", action="store_true", help="after a round in which something was wrong, too")
    parser.add_argument("--faults", nargs="+", default=[], metavar="NAME=COUNT", help="only these, so often")
    parser.add_argument("--slack", type=float, default=1.0, help="how many times as long as promised all may take")
    return parser.parse_args()


def _tally(options: argparse.Namespace) -> tuple[Tally, Path]:
    """Return what was done so far, and where that is kept."""
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 32)
    if options.round:
        tally = Tally(seed)
        tally.round = options.round - 1
        return tally, options.folder / "once.json"
    path = options.folder / "progress.json"
    return Tally.load(path, seed), path


def main() -> int:
    options = _options()
    try:
        goals = _goals(options.faults)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for kind, why in lacking().items():
        if goals.pop(kind, None) is not None:
            print(f"{kind}: skipped, {why}", flush=True)
    tally, path = _tally(options)
    print(f"seed {tally.seed}", flush=True)
    soak = Soak(tally, path, goals, Deadlines().times(options.slack))
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        asyncio.run(soak.run(1 if options.round else options.rounds, go_on=options.go_on))
    except NodeError as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("\ninterrupted: run again it goes on with the next round", flush=True)
        return 130
    print(f"\n{tally.table()}\n\nseed {tally.seed}, {tally.round} rounds, {len(tally.violations)} violations")
    print("\n".join(tally.violations))
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
