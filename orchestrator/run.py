"""One run of a workflow: its state is what folding its journal gives.

The journal holds, in order, what came in (the activation, the cause's closing, what the analyzers saw) and what was
decided (execution events). A run that is read again after a crash is the same run.

An event of an earlier time than the one before it tells that the clock was set back. What began or ended later than
that counts as of then, so that no deadline, verification, retry or relapse is further away than it is long. After which
moment evidence is fresh is not brought along: what was seen before the action would seem to come after it.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from exhaust.language import Defined, cause_of
from exhaust.messages import TERMINAL, Activation, ExecutionEvent, ExecutionState, Fact, Prediction, Sighting, Verdict
from orchestrator.inputs import InputError, parse_inputs
from orchestrator.workflows import Parallel, TaskSpec, Workflow, steps

Entry = Activation | ExecutionEvent | Fact | Prediction | Sighting


@dataclass
class TaskState:
    """Where one task is; `attempt` counts from 1, `began` and `ended` are the orchestrator's clock."""

    state: ExecutionState = "pending"
    attempt: int = 0
    began: float = 0.0
    ended: float = 0.0
    output: Any = None
    error: str | None = None
    retry_at: float | None = None

    @property
    def over(self) -> bool:
        return self.state in TERMINAL and self.retry_at is None


@dataclass
class Run:
    """What the journal says; nothing but `fold` changes it."""

    activation: Activation
    defined: Defined[Workflow]
    state: ExecutionState = "pending"
    reason: str | None = None
    verdict: Verdict | None = None
    tasks: dict[str, TaskState] = field(default_factory=dict)
    tasks_ended: ExecutionState | None = None
    handling_failure: bool = False
    deadline: float = 0.0
    began: float = 0.0
    since: float = 0.0
    verify_until: float = 0.0
    ended: float = 0.0
    latest: float = 0.0
    mutated: float | None = None
    started: float | None = None
    cause: Fact | None = None
    sighting: Sighting | None = None
    entries: int = 0
    events: int = 0

    def __post_init__(self) -> None:
        self.workflow = self.defined.value
        self.definition = self.defined.hash
        self.misfit = ""
        self.inputs: dict[str, Any] = {}
        try:
            self.inputs = parse_inputs(self.workflow.inputs, self.activation.inputs)
        except InputError as exc:
            self.misfit = str(exc)

    @property
    def id(self) -> str:
        return self.activation.execution

    @property
    def source(self) -> Any:
        return self.defined.source

    @property
    def over(self) -> bool:
        return self.state in TERMINAL

    @property
    def verifiable(self) -> bool:
        """Whether there is anything that could show recovery."""
        return self.activation.cause is not None or not self.workflow.verify.by_cause

    @property
    def freshness(self) -> tuple[float, Literal["time", "received"]]:
        """After which moment evidence is fresh, and on whose clock: the agent's, where it told when it started."""
        if self.started is not None:
            return self.started, "time"
        return self.mutated or self.began, "received"

    # Tasks

    @property
    def _part(self) -> list[TaskSpec | Parallel]:
        return self.workflow.on_failure if self.handling_failure else self.workflow.tasks

    def spec(self, name: str) -> TaskSpec:
        """Return a task's definition; of one that this version does not understand, its name."""
        every = (*flat(self.workflow.tasks), *flat(self.workflow.on_failure))
        return next((task for task in every if task.name == name), TaskSpec(name=name, use=""))

    def task(self, name: str) -> TaskState:
        return self.tasks.get(name) or TaskState()

    def running(self) -> list[str]:
        return [name for name, task in self.tasks.items() if task.state == "running"]

    def current_step(self) -> list[TaskSpec]:
        """Return the tasks of the first step that is not over, or nothing where all are."""
        for step in steps(self._part):
            if not all(self.task(spec.name).over for spec in step):
                return step
        return []

    def failure(self) -> ExecutionState | None:
        """Return how the first step that is over has failed, if it must not: it is over when all its tasks are."""
        for step in steps(self._part):
            tasks = [(spec, self.task(spec.name)) for spec in step]
            if not all(task.over for _, task in tasks):
                return None
            for spec, task in tasks:
                if task.state != "succeeded" and spec.on_error == "fail":
                    return task.state
        return None

    # What expressions see

    def cause_variable(self) -> dict[str, Any] | None:
        return cause_of(self.activation.cause)

    def tasks_variable(self) -> dict[str, Any]:
        return {name: {"state": t.state, "output": t.output, "error": t.error} for name, t in self.tasks.items()}

    def execution_variable(self) -> dict[str, Any]:
        given = self.activation
        return {
            "id": self.id,
            "workflow": self.workflow.name,
            "host": given.host,
            "rule": given.rule,
            "state": self.state,
            "verdict": self.verdict,
            "attempt": given.attempt,
        }

    # The journal

    def fold(self, entry: Entry) -> None:
        """Take up one entry."""
        self.entries += 1
        match entry:
            case Fact():
                self.cause = entry
            case Sighting():
                self.sighting = entry
            case ExecutionEvent():
                self.events += 1
                if entry.time < self.latest:
                    self._set_back(entry.time)
                self.latest = entry.time
                if entry.task is None:
                    self._own(entry)
                else:
                    self._task(entry, entry.task)

    def _set_back(self, now: float) -> None:
        self.deadline -= max(0.0, self.began - now)
        self.began, self.ended = min(self.began, now), min(self.ended, now)
        for name, task in self.tasks.items():
            task.began = min(task.began, now)
            if task.retry_at is not None:
                task.retry_at = min(task.retry_at, now + self.spec(name).retry.wait(task.attempt))

    def _own(self, event: ExecutionEvent) -> None:
        if self.state == "pending":
            self.began, self.deadline = event.time, event.deadline or event.time
        if event.state == "verifying":
            verify = self.workflow.verify
            self.verify_until = event.time + verify.settle + verify.within + verify.hold
        if isinstance(event.output, dict) and "tasks" in event.output:
            self.tasks_ended = event.output["tasks"]
        self.handling_failure = self.handling_failure or event.reason == "on_failure"
        self.state, self.reason, self.since = event.state, event.reason, event.time
        self.verdict = event.verdict or self.verdict
        if self.over:
            self.ended = self.ended or event.time

    def _task(self, event: ExecutionEvent, name: str) -> None:
        task = self.tasks.setdefault(name, TaskState())
        task.state, task.attempt = event.state, event.attempt
        task.output, task.error, task.retry_at = event.output, event.error, None
        if event.state == "running":
            task.began = event.time
            if event.reason == "mutating":
                self.mutated, self.started = event.time, None
            return
        task.ended = event.time
        if event.started is not None and self._by_host(name):
            self.started = max(event.started, self.started or 0.0)
        if event.reason == "retry":
            task.retry_at = event.time + self.spec(name).retry.wait(event.attempt)

    def _by_host(self, name: str) -> bool:
        """Whether the task ran on the cause's own host, so that its clock is that of the evidence."""
        return self.spec(name).host is None


def flat(part: list[TaskSpec | Parallel]) -> list[TaskSpec]:
    """Return all tasks of a part, in the order of the file."""
    return [task for step in steps(part) for task in step]
