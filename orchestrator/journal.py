"""Where runs are kept: each a series of entries that is only added to, with the definition that it was started with.

What is over is kept for as long as its activation might come again, and then forgotten.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from exhaust.language import Defined, define
from exhaust.messages import Codec
from exhaust.worker import Effect, Keep, Rows
from orchestrator.run import Entry, Run
from orchestrator.workflows import Workflow

KEEP_FOR = 7 * 86400.0
MOST_OVER = 10_000
KEEP_AT_LEAST = 86400.0
"""Of more runs than MOST_OVER only those that ended within the last day are kept."""
AT_ONCE = 100
_TOGETHER = 60.0
NOTIFY = "notify"
# Built in: hands one text to the adapter that `to` names.
_NOTIFY_SOURCE: dict[str, Any] = {
    "name": NOTIFY,
    "inputs": {"to": "string", "text": "string"},
    "timeout": "5m",
    "tasks": [
        {
            "name": "notify",
            "use": NOTIFY,
            "do": "send",
            "with": {"text": "${{ inputs.text }}"},
            "retry": {"attempts": 5, "delay": "2s"},
        }
    ],
}


class Journal:
    """Names and reads the rows `journal/<run>/<n>`, `active/<run>`, `over/<end>/<run>` and `definition/<hash>`."""

    def __init__(self, workflows: Sequence[Defined[Workflow]]) -> None:
        known = (define(Workflow, _NOTIFY_SOURCE), *workflows)
        self._workflows = {defined.value.name: defined for defined in known}
        self.recall(lambda _prefix: iter(()))

    def recall(self, rows: Rows) -> None:
        self._rows = rows
        ends = [_end(row) for row, _ in rows("over/")]
        self._over = len(ends)
        self._oldest = ends[0] if ends else math.inf

    @property
    def due(self) -> float:
        """When some runs are to be forgotten, many together."""
        return self._oldest + self._keep_for + _TOGETHER

    @property
    def _keep_for(self) -> float:
        return KEEP_FOR if self._over <= MOST_OVER else KEEP_AT_LEAST

    def workflow(self, name: str) -> Defined[Workflow] | None:
        return self._workflows.get(name)

    def knows(self, execution: str) -> bool:
        """Whether there has been such a run, as far as anybody remembers."""
        return next(self._rows(f"journal/{execution}/"), None) is not None

    def active(self) -> Iterator[Run]:
        """Yield the runs that are not over or may yet relapse, as their journals give them."""
        known: dict[str, Defined[Workflow]] = {}
        for key, body in list(self._rows("active/")):
            execution, definition = key.partition("/")[2], msgspec.json.decode(body, type=str)
            if definition not in known:
                source = next(self._rows(f"definition/{definition}"))[1]
                known[definition] = _redefined(msgspec.json.decode(source))
            entries = [Codec.decode(entry) for _, entry in self._rows(f"journal/{execution}/")]
            yield _replay(known[definition], entries)

    def begin(self, run: Run) -> Iterator[Effect]:
        """Keep what the run starts with."""
        yield Keep(f"definition/{run.definition}", run.source)
        yield Keep(f"active/{run.id}", run.definition)
        yield self.add(run, run.activation)

    def add(self, run: Run, entry: Entry) -> Effect:
        """Add to a run's journal, and to the run."""
        row = Keep(f"journal/{run.id}/{run.entries:06d}", entry)
        run.fold(entry)
        return row

    def leave(self, run: Run) -> Iterator[Effect]:
        """Nothing more can come of it."""
        self._over += 1
        self._oldest = min(self._oldest, run.ended)
        yield Keep(f"active/{run.id}", None)
        yield Keep(f"over/{run.ended:017.6f}/{run.id}", 1)

    def forget(self, now: float) -> Iterator[Effect]:
        """Drop some of the runs that have been over for long, and definitions that no other needs."""
        if now < self.due:
            return
        before, self._oldest = now - self._keep_for, now
        for count, (row, _) in enumerate(self._rows("over/")):
            if _end(row) > before or count == AT_ONCE:
                self._oldest = _end(row)
                break
            self._over -= 1
            yield Keep(row, None)
            for entry, _ in self._rows(f"journal/{row.rpartition('/')[2]}/"):
                yield Keep(entry, None)
        if not self._over:
            self._oldest = math.inf
        needed = {f"definition/{msgspec.json.decode(body, type=str)}" for _, body in self._rows("active/")}
        for definition, _ in self._rows("definition/"):
            if definition not in needed:
                yield Keep(definition, None)


def _end(row: str) -> float:
    """Return when the run of a row `over/<end>/<run>` has ended."""
    return float(row.split("/", 2)[1])


def _redefined(source: Any) -> Defined[Workflow]:
    """Return a definition that was kept; one that this version does not understand has no tasks."""
    try:
        return define(Workflow, source)
    except ValueError:
        return Defined(define(Workflow, {"name": str(source.get("name")), "tasks": []}).value, source)


def _replay(workflow: Defined[Workflow], entries: Sequence[Any]) -> Run:
    run = Run(entries[0], workflow)
    for entry in entries:
        run.fold(entry)
    return run
