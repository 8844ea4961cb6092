"""What every benchmark's command does: measure in a folder of its own, print the table, keep it, leave nothing else."""

import argparse
import asyncio
import ctypes
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import save, typed
from benchmarks.node import NodeError

_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Findings:
    """What was measured: its `title` in one line, the printed table, and the same as data, an object for each line."""

    title: str
    text: str
    rows: Sequence[Mapping[str, Any]]


Measure = Callable[[Path, bool], Coroutine[Any, Any, Findings]]


def run(name: str, about: str, measure: Measure) -> int:
    """Run `measure(folder, quick)` as the command `make bench-<name>`; return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("--quick", action="store_true", help="a smoke run: shows that it works, not how fast it is")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix=f"exhaust-{name}-"))
    try:
        found = asyncio.run(measure(folder, options.quick))
    except NodeError as error:
        print(error, file=sys.stderr)
        return 3
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{found.title}\n\n{found.text}")
    path = save(name, title=found.title, command=typed(name), text=found.text, rows=found.rows, quick=options.quick)
    print(f"\nkept in {path}: `make perf-docs` puts it on the page" if not options.quick else f"\nkept in {path}")
    return 0


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Have this process sent a signal when the one that started it is gone, however that went."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def say(text: str) -> None:
    """Tell somebody who waits how far it is."""
    if sys.stderr.isatty():
        print(f"… {text}", file=sys.stderr)
