"""Cost of a message against how many hosts, rules and open facts there are: a table, and a picture of it.

The deciders of analyzers and activator run on real stores, each message (or fault) a durable transaction, without a
broker. Sizes take turns, each figure is the median of several rounds; memory is what a size has added to its process.
"""

import contextlib
import importlib
import itertools
import multiprocessing
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import command, growing
from benchmarks.command import Findings, say
from benchmarks.desk import Cost
from benchmarks.machine import RESULTS, fdatasync, prose, table

_ROUNDS: Final = 5
_DECADE: Final = 10  # the least that a panel shows: else noise would look like growth


class Section(NamedTuple):
    """One thing that grows: to which sizes, and how many messages of a kind a round sends."""

    what: str
    case: Any
    sizes: tuple[int, ...]
    messages: int


SECTIONS: Final = (
    Section("hosts", growing.Hosts, (1, 5, 20, 100, 500), 200),
    Section("rules", growing.Rules, (1, 10, 100, 1_000), 40),
    Section("open facts", growing.Facts, (1, 100, 1_000, 10_000, 100_000), 60),
)


def grow(section: Section, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a section; run it in a process of its own, so that its memory is its own."""
    importlib.import_module("exhaust.main")  # what every service of an installation has in memory anyway
    with contextlib.ExitStack() as opened:
        cases: dict[int, growing.Case] = {}
        process = {0: growing.memory()}
        for size in section.sizes:
            cases[size] = section.case(size, folder, opened, section.messages)
            process[size] = growing.memory()
        for _ in range(rounds):
            for case in cases.values():
                case.round()
        added = [after - before for before, after in itertools.pairwise(process.values())]
        memory = [{"idle_mib": round(process[0], 1), "added_mib": round(one, 1)} for one in added]
        kinds = list(cases[section.sizes[0]].samples)
        return [
            {"grows": section.what, "size": size, "message": kind, **cost, **mib}
            for kind in kinds
            for size, cost, mib in zip(
                cases, _costs([case.samples[kind] for case in cases.values()]), memory, strict=True
            )
        ]


def _costs(samples: Sequence[Sequence[Cost]]) -> Iterator[dict[str, Any]]:
    """Yield the medians of each size, and how they stand to those of the first and of the one before."""
    found = [Cost(*map(statistics.median, zip(*one, strict=True))) for one in samples]
    for before, one in zip([found[0], *found], found, strict=False):
        costs: dict[str, Any] = {}
        for name in ("deciding", "cpu"):
            own, first, last = (getattr(cost, name) for cost in (one, found[0], before))
            costs |= {f"{name}_us": round(own, 2), f"{name}_to_first": round(own / first, 2)}
            costs[f"{name}_to_before"] = round(own / last, 2)
        yield {**costs, "wall_us": round(one.wall, 2)}


async def measure(folder: Path, quick: bool) -> Findings:
    rows = []
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1)
    with pool:
        for section in SECTIONS:
            one = section._replace(sizes=section.sizes[:3], messages=5) if quick else section
            say(f"{section.what}: {', '.join(f'{size:,}' for size in one.sizes)}")
            rows += pool.submit(grow, one, 1 if quick else _ROUNDS, folder).result()
    draw(rows, RESULTS / "quick" if quick else RESULTS)
    return Findings("Growth: cost of a message against hosts, rules and open facts", _text(rows, folder), rows)


_COLUMNS: Final = {
    "deciding_us": "deciding, µs",
    "deciding_to_first": "to first",
    "deciding_to_before": "to before",
    "cpu_us": "with storing, µs",
    "cpu_to_first": "to first",
    "cpu_to_before": "to before",
    "wall_us": "passed, µs",
    "added_mib": "MiB",
}


def _text(rows: Sequence[Mapping[str, Any]], folder: Path) -> str:
    lines = [(row["message"], _sized(row), *(row[name] for name in _COLUMNS)) for row in rows]
    disk = fdatasync(folder)
    said = [*_goals(rows), f"A commit waits for the disk: fdatasync p50 {disk['p50']} ms, p99 {disk['p99']} ms."]
    return "\n".join([table(("processor time of", "at", *_COLUMNS.values()), lines), "", *map(prose, said)])


def _sized(row: Mapping[str, Any]) -> str:
    return f"{row['size']:,} {row['grows'] if row['size'] > 1 else row['grows'].removesuffix('s')}"


def _goals(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what was aimed at, and what came of it, where that was measured."""
    found = {(row["size"], row["message"]): row for row in rows}

    def times(many: int, few: int, *kinds: str) -> str:
        """How often `few` goes into `many`, for deciding and altogether."""
        sums = [
            [sum(found[size, kind][f"{of}_us"] for kind in kinds) for size in (many, few)] for of in ("deciding", "cpu")
        ]
        deciding, cpu = (more / less for more, less in sums)
        return f"{cpu:.2f} times (deciding alone {deciding:.2f} times)"

    if (1_000, growing.FAULT) in found:
        much = times(1_000, 10, growing.FAULT)
        yield f"With 1,000 rules a fault costs {much} what it costs with 10. Goal: less than 3."
    most = found.get((100_000, growing.OPENS))
    if most is not None:
        much = times(100_000, 100, growing.OPENS, growing.CLOSES)
        yield f"With 100,000 facts open one more opens and closes for {much} what that costs with 100. Goal: at most 2."
        idle, added = most["idle_mib"], most["added_mib"]
        yield f"They take {added:.0f} MiB more than the {idle:.0f} MiB of an idle process. Promise: 256 MiB together."
        yield "The end of a run is news to every fault that its rule would act upon: that is the one cost that grows."


def draw(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Draw what a message costs, one panel for each thing that grows: a level line is linear growth of the whole."""
    from matplotlib.figure import Figure  # the processes that measure memory must not have it in theirs

    grown = list(dict.fromkeys(row["grows"] for row in rows))
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    for panel, what in zip(figure.subplots(1, len(grown)), grown, strict=True):
        own = [row for row in rows if row["grows"] == what]
        for kind in dict.fromkeys(row["message"] for row in own):
            line = [(row["size"], row["cpu_us"]) for row in own if row["message"] == kind]
            panel.plot(*zip(*line, strict=True), marker="o", label=kind)
        panel.set(xscale="log", yscale="log", xlabel=what, ylabel="µs of processor")
        low, high = panel.get_ylim()
        panel.set_ylim(min(low, high / _DECADE), max(high, low * _DECADE))
        panel.grid(visible=True, alpha=0.3)
        panel.legend(fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "growth.png", dpi=110)


if __name__ == "__main__":
    sys.exit(command.run("growth", (__doc__ or "").partition("\n")[0], measure))
