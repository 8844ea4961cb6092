"""What a soak has done and found so far, kept in a file, and how it is told."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.machine import table
from tests.soak.rounds import CLOSING
from tests.soak.schedule import KILLED
from tests.soak.trial import Outcome

_HEADER = (
    "fault", "count", "numbers", "duplicates", "dropped", "effects", "slowest recovery, s", "slowest canary, s",
    "largest memory, MiB", "lost", "unexplained", "other",
)  # fmt: skip


@dataclass
class Row:
    """What came of one kind of fault: how often, what was counted meanwhile, seconds, bytes, violations by kind."""

    count: int = 0
    numbers: int = 0
    duplicates: int = 0
    dropped: int = 0
    effects: int = 0
    recovery: float = 0.0
    canary: float = 0.0
    memory: int = 0
    lost: int = 0
    unexplained: int = 0
    other: int = 0

    def add(self, outcome: Outcome) -> None:
        self.count += 1
        self.numbers += outcome.counts["numbers"]
        self.duplicates += outcome.counts["duplicates"]
        self.dropped += outcome.counts["dropped"]
        self.effects += outcome.counts["effects"]
        self.recovery = max(self.recovery, outcome.recovery)
        self.canary = max(self.canary, outcome.took.get("canary", 0.0))
        self.memory = max(self.memory, outcome.memory)
        for violation in outcome.violations:
            kind = violation.kind if violation.kind in ("lost", "unexplained") else "other"
            setattr(self, kind, getattr(self, kind) + 1)


@dataclass
class Tally:
    """All that was counted under one seed; `round` is the last one begun, `folder` where it was."""

    seed: int
    round: int = 0
    folder: str = ""
    rows: dict[str, Row] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path, seed: int) -> Self:
        """Return what the file says, or a new one for that seed."""
        if not path.exists():
            return cls(seed)
        told: dict[str, Any] = json.loads(path.read_text())
        return cls(**told | {"rows": {kind: Row(**row) for kind, row in told["rows"].items()}})

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self), indent=1))
        fresh.replace(path)

    def add(self, outcome: Outcome) -> None:
        """Count a step; one that also kills counts as both."""
        for kind in outcome.step.kinds or (outcome.step.kind,):
            self.rows.setdefault(kind, Row()).add(outcome)
        for violation in outcome.violations:
            self.violations.append(f"seed {self.seed}, round {self.round}, {outcome.step}: {violation}")

    def left(self, goals: dict[str, int]) -> dict[str, int]:
        """Return how often each fault is to come still."""
        done = {kind: row.count for kind, row in self.rows.items()}
        return {kind: goal - done.get(kind, 0) for kind, goal in goals.items() if goal > done.get(kind, 0)}

    def table(self) -> str:
        order = [*sorted(set(self.rows) - {*KILLED, CLOSING.kind}), *KILLED, CLOSING.kind]
        rows = [(kind, self.rows[kind]) for kind in order if kind in self.rows]
        return table(_HEADER, [_line(kind, row) for kind, row in rows])


def _line(kind: str, row: Row) -> tuple[object, ...]:
    name = kind.replace("kill-", "SIGKILL ", 1) if kind in KILLED else kind
    seconds, memory = (round(row.recovery, 1), round(row.canary, 1)), round(row.memory / 2**20)
    counts = (row.count, row.numbers, row.duplicates, row.dropped, row.effects)
    return (name, *counts, *seconds, memory, row.lost, row.unexplained, row.other)


def tell(outcome: Outcome, tally: Tally, left: int) -> None:
    """Say what came of a step: on a terminal in the same line, unless something is wrong."""
    took = ", ".join(f"{what} {seconds:.1f}" for what, seconds in outcome.took.items())
    counts = ", ".join(f"{number} {what}" for what, number in outcome.counts.items())
    line = f"round {tally.round} · {outcome.step} · {took or 'done'} · {counts}"
    if sys.stdout.isatty() and not outcome.violations:
        print(f"\r\033[K{line} · {left} to go", end="", flush=True)
        return
    print("\r\033[K" * sys.stdout.isatty() + line, flush=True)
    for violation in outcome.violations:
        print(f"  VIOLATION {violation}", flush=True)
