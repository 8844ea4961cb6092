"""Records a second from an emitter through its spool and RabbitMQ to ten conditions, beside what a bare client moves.

The emitter makes records as fast as it can, but is never far ahead of the analyzers: what waits somewhere is no
throughput. Chain, bare clients and disk take turns. Then 20,000 records a second flow while faults cause real actions.
"""

import asyncio
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from benchmarks import actions, bare, command
from benchmarks.command import Findings, say
from benchmarks.flood import FIELDS
from benchmarks.installation import Installation, used_by
from benchmarks.machine import prose, table
from benchmarks.node import Node

GOAL: Final = 110_000
AHEAD: Final = 50_000  # how many records the emitter may be ahead of the analyzers
_ROUNDS: Final = 5
_SECONDS: Final = 6.0
_BARE_SECONDS: Final = 3.0
_COMPONENTS: Final = ("emitters", "collector", "analyzers")
SITE: Final = """
emitters: [{use: flood, folder: "{folder}"}]
analyzers:
"""
_CONDITION: Final = """
  - use: condition
    fact: {fact}
    on: flood.metric
    when: record.{field} > 99.9 && record.unit == "percent"
    by: [{by}]"""
_NAMES: Final = {
    "chain": "exhaust: emitter, spool, RabbitMQ, 10 conditions",
    "lean": "bare client (ours): publish, consume, decode",
    "stock": "bare client (aio-pika): publish, consume, decode",
    "disk": "disk alone: append a batch, fdatasync",
}


def conditions() -> str:
    """Return ten of them: on each of five fields one of the whole host, and one of each of its 20 devices."""
    return "".join(
        _CONDITION.format(fact=f"{field}.{name}", field=field, by=by)
        for field in FIELDS
        for name, by in (("host", ""), ("device", "device"))
    )


class Window(NamedTuple):
    """One stretch of a steady flow: records a second, seconds of processor a million records, and shares of a core."""

    rate: float
    cost: Mapping[str, float]
    share: Mapping[str, float]
    drift: float


async def flow(one: Installation, seconds: float, settle: float) -> Window:
    """Let records flow until they do so steadily, then measure; return when nothing is on its way any more."""
    async with one.flowing(AHEAD):
        await asyncio.sleep(settle)
        before = await one.moment()
        await asyncio.sleep(seconds)
        after = await one.moment()
    await one.level()
    passed, records = after.time - before.time, after.handled - before.handled
    shares, idle = after.shares(before), (after.idle - before.idle) / passed
    others = (psutil.cpu_count() or 1) - idle - sum(shares.values())
    return Window(
        rate=records / passed,
        cost={name: share * passed / records * 1e6 for name, share in shares.items()},
        share={**shares, "everything else": others, "idle": idle},
        drift=(after.waiting - before.waiting) / records,
    )


Rates = dict[str, list[float]]
Moved = dict[str, list[bare.Moved]]


async def compare(folder: Path, quick: bool) -> tuple[Rates, list[Window], Moved]:
    """Let chain, bare clients and disk take turns; return what each did."""
    rounds, seconds = (1, 2.0) if quick else (_ROUNDS, _SECONDS)
    windows: list[Window] = []
    moved: Moved = {"lean": [], "stock": []}
    disk: list[float] = []
    with Node() as node:
        async with Installation(folder / "flow", node, SITE + conditions(), components=_COMPONENTS) as one:
            for turn in range(rounds):
                say(f"round {turn + 1} of {rounds}")
                windows.append(await flow(one, seconds, 3.0 if turn == 0 else 1.5))
                for client, found in moved.items():
                    found.append(await bare.moved(node, client, min(seconds, _BARE_SECONDS), lambda: used_by(node)))
                disk.append(bare.disk(folder, 1.0))
    rates = {"chain": [window.rate for window in windows]}
    rates |= {client: [one.rate for one in found] for client, found in moved.items()}
    return rates | {"disk": disk}, windows, moved


def _rows(rates: Rates) -> list[dict[str, Any]]:
    middle = {name: statistics.median(found) for name, found in rates.items()}
    return [
        {
            "what": _NAMES[name],
            "records_per_second": round(middle[name]),
            "least": round(min(found)),
            "most": round(max(found)),
            "of_bare_client": round(middle[name] / middle["lean"], 3),
            "windows": len(found),
        }
        for name, found in rates.items()
    ]


def _costs(windows: list[Window], moved: Moved) -> list[dict[str, Any]]:
    """Return where the time goes: processor seconds of a million records, and how busy each was kept."""
    rows: list[dict[str, Any]] = []
    for name in windows[0].share:
        cost = statistics.median(window.cost[name] for window in windows) if name in windows[0].cost else None
        share = statistics.median(window.share[name] for window in windows)
        chain = "exhaust" if cost is not None else "the machine"
        rows.append({"chain": chain, "process": name, "seconds_per_million": cost, "share_of_a_core": share})
    for client, found in moved.items():
        for part in ("publishing", "broker", "consuming"):
            cost = statistics.median(getattr(one, part) for one in found)
            rows.append({"chain": f"bare client, {client}", "process": part, "seconds_per_million": cost})
    return [{key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()} for row in rows]


async def measure(folder: Path, quick: bool) -> Findings:
    rates, windows, moved = await compare(folder, quick)
    acted = await actions.measure(folder, SITE + conditions(), quick)
    rows, costs = _rows(rates), _costs(windows, moved)
    drift = statistics.median(window.drift for window in windows)
    text = "\n\n".join(
        (
            table(
                ("records/s, 230 bytes each, 500 in a batch", "median", "least", "most", "of the bare client"),
                [(r["what"], r["records_per_second"], r["least"], r["most"], r["of_bare_client"]) for r in rows],
            ),
            prose(
                f"{rows[0]['windows']} windows, in turns. The emitter is at most {AHEAD:,} records ahead of the "
                f"analyzers; what was on its way changed by {100 * drift:+.1f} % of a window. "
                f"Goal: {GOAL:,} records/s, and half of what the bare client moves."
            ),
            table(
                ("where the processor's time goes", "s per million records", "of a core"),
                [(f"{r['chain']}: {r['process']}", r["seconds_per_million"], r.get("share_of_a_core")) for r in costs],
            ),
            acted.text,
        )
    )
    title = "Throughput: records a second through ten conditions, and actions while records flow"
    return Findings(title, text, [*rows, *costs, *acted.rows])


if __name__ == "__main__":
    sys.exit(command.run("throughput", (__doc__ or "").partition("\n")[0], measure))
