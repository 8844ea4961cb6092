"""Actions a second while 20,000 records a second flow: each for a subject of its own, each by a program that runs."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.command import Findings, say
from benchmarks.installation import Installation, Moment
from benchmarks.machine import prose, quantiles, table
from benchmarks.node import Node

RATE: Final = 20_000
GOAL: Final = 200
MOST_OPEN: Final = GOAL // 2
_SETTLE: Final = 2.0
_ALONE: Final = 5.0
_SECONDS: Final = 20.0
_ENDED_WITHIN: Final = 60.0
_ASK_EVERY: Final = 0.5
_MOST: Final = 20_000
POLICY: Final = "flood.answer: {}\n"
RULES: Final = """
  - use: condition
    fact: subject.faulty
    on: flood.metric
    where: has(record.subject)
    when: record.state == "faulty"
    by: [subject]
rules:
  - name: answer
    on: subject.faulty
    run: answer
    with: {subject: "${{ cause.labels.subject }}"}
    mode: auto
    guard: {cooldown: 0s, attempts: 1000000, concurrent: 1000000, limit: {runs: 1000000}}
workflows:
  - name: answer
    inputs: {subject: string}
    tasks: [{name: answer, use: agent, do: flood.answer, with: {subject: "${{ inputs.subject }}", folder: "{folder}"}}]
    verify: {closes: cause, within: 30s}
"""


class Act(NamedTuple):
    """One action: when its fault was meant to be, when it began and when it was done, in seconds since the epoch."""

    due: float
    began: float
    ended: float

    @property
    def late(self) -> float:
        """Milliseconds from the record's intended time to the start of the command."""
        return 1000 * (self.began - self.due)


def acts(one: Installation) -> list[Act]:
    """Return all actions so far, as they wrote themselves down."""
    lines = [line.split() for line in one.sluice.acted.read_text().split("\n")[:-1]]
    return [Act(int(subject) / 1e6, float(began), float(ended)) for subject, began, ended in lines]


async def gone(one: Installation) -> None:
    """Wait until every fault is acted upon and gone, or for so long that some never will be."""

    async def all_gone() -> bool:
        return one.sluice.open == 0

    with contextlib.suppress(TimeoutError):
        await one.until(all_gone, _ENDED_WITHIN)


async def verdicts(one: Installation, count: int) -> Counter[str]:
    """Wait until `count` executions have ended, and none runs; return how they did, by state and verdict."""
    found: Counter[str] = Counter()

    async with one.client() as client:

        async def ended() -> bool:
            runs = await client.items("executions", {}, _MOST)
            over = [run for run in runs if run["ended"] is not None]
            found.clear()
            found.update(f"{run['state']}, {run['verdict']}" for run in over)
            await asyncio.sleep(_ASK_EVERY)
            return len(over) >= count and len(runs) == len(over)

        with contextlib.suppress(TimeoutError):
            await one.until(ended, _ENDED_WITHIN)
    return found


async def measure(folder: Path, site: str, quick: bool) -> Findings:
    """Let records flow, then faults among them; then see that nothing was lost."""
    alone, seconds = (1.0, 4.0) if quick else (_ALONE, _SECONDS)
    with Node() as node:
        async with Installation(folder / "actions", node, site + RULES, POLICY) as one:
            say("actions")
            one.sluice.set(rate=RATE, most=MOST_OPEN)
            async with one.flowing(RATE):
                await asyncio.sleep(_SETTLE)
                moments = [await one.moment()]
                for faults, lasts in ((0, alone), (GOAL, seconds)):
                    one.sluice.set(faults=faults)
                    await asyncio.sleep(lasts)
                    moments.append(await one.moment())
                one.sluice.set(faults=0)
                await gone(one)
            faults = int(one.sluice.get("faulted"))
            found = await verdicts(one, faults)
            acted = acts(one)
    _, begin, end = moments
    within = [act for act in acted if begin.time <= act.began < end.time]
    row = _row(within, begin, end, faults, found)
    return Findings("actions", _text(row, _costs(moments, len(within)), found), [row])


def _costs(moments: Sequence[Moment], count: int) -> dict[str, float]:
    """Return the milliseconds of processor that an action takes of each, beyond what the flow alone does."""
    start, begin, end = moments
    alone, seconds = begin.shares(start), end.time - begin.time
    return {name: 1000 * seconds * (share - alone[name]) / max(1, count) for name, share in end.shares(begin).items()}


def _row(acted: Sequence[Act], begin: Moment, end: Moment, faults: int, found: Counter[str]) -> dict[str, Any]:
    late = quantiles([act.late for act in acted])
    ran = quantiles([1000 * (act.ended - act.began) for act in acted])
    seconds = end.time - begin.time
    return {
        "what": "actions while records flow",
        "goal_per_second": GOAL,
        "records_per_second": round((end.handled - begin.handled) / seconds),
        "actions_per_second": round(len(acted) / seconds, 1),
        "record_to_command_p50_ms": round(late[0], 1),
        "record_to_command_p99_ms": round(late[1], 1),
        "program_p50_ms": round(ran[0], 2),
        "program_p99_ms": round(ran[1], 2),
        "seconds": round(seconds, 1),
        "faults": faults,
        "without_verdict": faults - found.total(),
    }


def _text(row: dict[str, Any], costs: dict[str, float], found: Counter[str]) -> str:
    head = (f"for {row['seconds']:g} s", "records/s", "actions/s", "p50 ms", "p99 ms", "program p50", "p99")
    cells = list(row.values())[2:8]
    ends = "; ".join(f"{count:,} {end}" for end, count in found.most_common())
    each = ", ".join(f"{name} {cost:.1f}" for name, cost in sorted(costs.items(), key=lambda pair: -pair[1]))
    return "\n".join(
        (
            table(head, [(f"goal: {RATE:,} records/s, {GOAL} actions/s", *cells)]),
            "p50 and p99: from the record's intended time to the start of its command; the program is /bin/true.",
            prose(
                f"At most {MOST_OPEN} faults are open at a time, of {row['faults']:,}. How the runs ended: {ends}; "
                f"without a verdict: {row['without_verdict']}."
            ),
            prose(f"Processor ms of an action, beyond the flow's: {sum(costs.values()):.1f}, of which {each}."),
        )
    )
