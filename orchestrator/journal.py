"""Where runs are kept: each a series of entries that is only added to, with the definition that it was started with."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from exhaust.language import Defined, define
from exhaust.messages import Codec
from exhaust.worker import Effect, Keep, Rows
from orchestrator.run import Entry, Run
from orchestrator.workflows import Workflow

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
    """Names and reads the rows `journal/<run>/<n>`, `active/<run>` and `definition/<hash>`."""

    def __init__(self, workflows: Sequence[Defined[Workflow]]) -> None:
        known = (define(Workflow, _NOTIFY_SOURCE), *workflows)
        self._workflows = {defined.value.name: defined for defined in known}
        self._rows: Rows = lambda _prefix: iter(())

    def recall(self, rows: Rows) -> None:
        self._rows = rows

    def workflow(self, name: str) -> Defined[Workflow] | None:
        return self._workflows.get(name)

    def knows(self, execution: str) -> bool:
        """Whether there has ever been such a run."""
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

    def leave(self, run: Run) -> Effect:
        """Nothing more can come of it."""
        return Keep(f"active/{run.id}", None)


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
