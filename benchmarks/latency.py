"""From a record to the start of a command at the agent, at several rates, beside the floor of its hops and commits.

Everything is durable, signed and a process of its own. Time counts from the moment at which the record was meant to be
made, also where its maker came late. The floor has the same hops, commits and processes, and nothing that thinks.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks import actions, command, floor
from benchmarks.command import Findings, say
from benchmarks.installation import Installation
from benchmarks.machine import quantiles, table
from benchmarks.node import Node
from benchmarks.throughput import SITE

RATES: Final = (100, 1_000, 20_000)
FAULTS: Final = 6.0
_ROUNDS: Final = 2
_SECONDS: Final = 18.0
_FLOOR_SECONDS: Final = 8.0
_SETTLE: Final = 1.5
_GOAL: Final = {"record_rate": 1_000, "p50": 15.0, "p99": 40.0}


async def latencies(one: Installation, rate: int, seconds: float) -> list[float]:
    """Let records flow, a few of them faults; return the milliseconds to each one's command."""
    one.sluice.set(rate=rate, faults=0.0, most=1_000, allowed=float("inf"))
    await asyncio.sleep(_SETTLE)
    known = len(actions.acts(one))
    one.sluice.set(faults=FAULTS)
    await asyncio.sleep(seconds)
    one.sluice.set(faults=0.0)
    await actions.gone(one)
    one.sluice.set(rate=0.0, allowed=0.0)
    await one.level()
    return [act.late for act in actions.acts(one)[known:]]


async def measure(folder: Path, quick: bool) -> Findings:
    rounds, seconds, floor_seconds = (1, 2.0, 2.0) if quick else (_ROUNDS, _SECONDS, _FLOOR_SECONDS)
    found: dict[int, list[float]] = {rate: [] for rate in RATES}
    bare: dict[int, list[float]] = {rate: [] for rate in RATES}
    with Node() as node:
        async with (
            Installation(folder / "one", node, SITE.rstrip() + actions.RULES, actions.POLICY) as one,
            floor.Chain(folder / "floor", node) as chain,
        ):
            await latencies(one, RATES[1], 1.0)
            for _ in range(rounds):
                for rate in RATES:
                    say(f"{rate:,} records/s")
                    found[rate] += await latencies(one, rate, seconds)
                    bare[rate] += await chain.latencies(rate, FAULTS, floor_seconds)
            lost = int(one.sluice.get("faulted")) - len(actions.acts(one))
    rows = [_row(rate, found[rate], bare[rate]) for rate in RATES]
    return Findings("Latency: from a record to the start of a command at an agent", _text(rows, lost), rows)


def _row(rate: int, found: list[float], bare: list[float]) -> dict[str, Any]:
    p50, p99 = quantiles(found)
    floor50, floor99 = quantiles(bare)
    row = {"samples": len(found), "p50_ms": p50, "p99_ms": p99, "most_ms": max(found, default=float("nan"))}
    row |= {"floor_samples": len(bare), "floor_p50_ms": floor50, "floor_p99_ms": floor99, "of_floor": p50 / floor50}
    return {"records_per_second": rate} | {
        name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()
    }


def _text(rows: list[dict[str, Any]], lost: int) -> str:
    head = ("records/s", "commands", "p50 ms", "p99 ms", "most ms", "floor: samples", "p50 ms", "p99 ms", "p50 / floor")
    return "\n".join(
        (
            table(head, [list(row.values()) for row in rows]),
            f"{FAULTS:g} faults a second among the records; {lost} of them had no command.",
            f"Goal at {_GOAL['record_rate']:,.0f} records/s: p50 ≤ {_GOAL['p50']:g} ms, p99 ≤ {_GOAL['p99']:g} ms.",
            "The floor: four hops through RabbitMQ, one over a unix socket, six commits, six processes, no logic.",
        )
    )


if __name__ == "__main__":
    sys.exit(command.run("latency", (__doc__ or "").partition("\n")[0], measure))
