"""Writes docs/performance.md from what the benchmarks have kept in benchmarks/results, and from nothing else."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import RESULTS

PAGE: Final = Path(__file__).parent.parent / "docs" / "performance.md"
# In the order of the page; what is called otherwise comes after these, by name.
ORDER: Final = ("throughput", "latency", "loop", "peers", "growth", "spool", "hops", "expressions")
_HEAD: Final = """# Performance

<!-- made by `make perf-docs` from benchmarks/results: do not edit -->

Every figure here was printed by the command that stands beside it, on the machine that is described beside it. Absolute
figures move with the machine: what counts is what was measured in the same run, such as the floor, the bare client or
the disk.
"""
_NOTHING: Final = "\nNothing has been measured yet: `make bench-throughput` is a beginning.\n"


def page(results: Path = RESULTS) -> str:
    """Return the page; `results` is the folder of the JSON files that `machine.save` writes."""
    found = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    names = sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    pictures = {path.stem: path for path in results.glob("*.png")}
    sections = [_section(found[name], pictures.get(name)) for name in names]
    return _HEAD + ("".join(sections) or _NOTHING)


def _section(result: Mapping[str, Any], picture: Path | None) -> str:
    about = textwrap.fill(f"`{result['command']}`, {_machine(result['machine'])}.", 120)
    lines = ["", f"## {result['title']}", "", about, ""]
    lines += ["```", result["text"], "```"]
    if picture is not None:
        lines += ["", f"![{result['title']}](../benchmarks/results/{picture.name})"]
    return "\n".join(lines) + "\n"


def _machine(machine: Mapping[str, Any]) -> str:
    versions: Mapping[str, str] = machine["versions"]
    disk = machine["fdatasync_ms"]
    parts: Sequence[str] = (
        machine["date"][:16].replace("T", " ") + " UTC",
        f"{machine['cores']} cores of {machine['processor']}",
        f"{machine['memory_gib']} GiB",
        machine["distribution"],
        f"Linux {machine['kernel']}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"fdatasync p50 {disk['p50']} ms, p99 {disk['p99']} ms",
        f"load {machine['load']} beforehand, {machine['stolen_percent']} % of the processors given to others meanwhile",
    )
    return "; ".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE} is written")
