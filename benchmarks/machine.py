"""What the figures were measured on, and where they are kept: benchmarks/results/<name>.json."""

import json
import math
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.node import NodeError, home

RESULTS: Final = Path(__file__).parent / "results"
_LIBRARIES: Final = ("aio-pika", "aiohttp", "cryptography", "google-re2", "msgspec", "psutil")
_WRITES: Final = 200
_BEGAN_WITH: Final = (os.getloadavg()[0], psutil.cpu_times())


def describe() -> dict[str, Any]:
    """Return this machine: what it is, its versions, its disk's fdatasync time, and how busy it was beforehand.

    `load` is the load average when this program began; `stolen_percent` is the share of processor time that the
    hypervisor gave to others since.
    """
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "versions": _versions(),
        "fdatasync_ms": fdatasync(Path(tempfile.gettempdir())),
        "load": round(_BEGAN_WITH[0], 2),
        "stolen_percent": _stolen(),
    }


def fdatasync(folder: Path, writes: int = _WRITES) -> dict[str, float]:
    """Return p50 and p99 of appending 512 bytes and fdatasync, in milliseconds, on the file system of `folder`."""
    found = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(writes):
            began = time.perf_counter()
            file.write(b"x" * 512)
            os.fdatasync(file.fileno())
            found.append(1000 * (time.perf_counter() - began))
    p50, p99 = quantiles(found)
    return {"p50": round(p50, 3), "p99": round(p99, 3)}


def quantiles(values: Sequence[float]) -> tuple[float, float]:
    """Return p50 and p99; where there are no values, no numbers."""
    if len(values) < 2:
        return (values[0], values[0]) if values else (math.nan, math.nan)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _stolen() -> float:
    before, now = _BEGAN_WITH[1], psutil.cpu_times()
    whole = sum(now) - sum(before)
    return round(100 * (now.steal - before.steal) / whole, 1) if whole else 0.0


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "RabbitMQ": _rabbitmq(), "Erlang": _erlang()}
    return found | {library: version(library) for library in _LIBRARIES}


def _rabbitmq() -> str:
    try:
        plugins = (home() / "rabbitmq-server").resolve().parents[1] / "plugins"
    except NodeError:
        return "none"
    found = [match[1] for path in plugins.glob("rabbit-*") if (match := re.match(r"rabbit-([0-9.]*[0-9])", path.name))]
    return found[0] if found else "unknown"


def _erlang() -> str:
    erl = shutil.which("erl")
    found = sorted(Path(erl).resolve().parents[1].glob("releases/*/OTP_VERSION")) if erl else []
    return found[-1].read_text().strip() if found else "none"


def save(
    name: str,
    *,
    title: str,
    command: str,
    text: str,
    rows: Sequence[Mapping[str, Any]],
    quick: bool = False,
    folder: Path = RESULTS,
) -> Path:
    """Write benchmarks/results/<name>.json: what was found, beside what it was measured on; return the path.

    The file is an object of `title` (one line, what was measured), `command` (what to type to measure it again),
    `text` (the table just as it was printed), `rows` (the same as data: one flat object for each line of the table)
    and `machine` (see `describe`). docs/performance.md is made of these files and of nothing else.
    A `quick` run proves that the benchmark works, not how fast anything is: it is kept apart, and on no page.
    """
    folder = folder / "quick" if quick else folder
    folder.mkdir(parents=True, exist_ok=True)
    found = {"title": title, "command": command, "text": text.strip("\n"), "rows": list(rows), "machine": describe()}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return path


def typed(name: str) -> str:
    """Return what was typed to run this benchmark."""
    return f"python -m benchmarks.{name} {' '.join(sys.argv[1:])}" if sys.argv[1:] else f"make bench-{name}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return an aligned table: the first column to the left, the others to the right; numbers to three digits."""
    lines = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(_line(line, widths) for line in lines)


def prose(text: str) -> str:
    """Return a sentence below a table, in lines that are no longer than one."""
    return textwrap.fill(text, 118, subsequent_indent="  ")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join((cells[0].ljust(widths[0]), *numbers)).rstrip()


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}"
        case float() if math.isnan(value):
            return "none"
        case float():
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return str(value)


if __name__ == "__main__":
    json.dump(describe(), sys.stdout, indent=1)
    print()
