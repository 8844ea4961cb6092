"""Workflows: named tasks in order or in parallel, and how the effect is verified."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from exhaust.documents.nodes import child
from exhaust.language import WORKFLOW, VerifyCondition, WorkflowText, WorkflowValues, no_values
from exhaust.plugins import Settings
from exhaust.settings import Duration
from orchestrator.inputs import Input, InputError, InputType, parse_inputs

_NOTHING = no_values(WORKFLOW)
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]


class Retry(Settings, frozen=True, kw_only=True):
    """A task is tried `attempts` times in all, `delay` apart, the delay growing by `backoff` up to `max_delay`."""

    attempts: AtLeastOne = 1
    delay: Duration = 1.0
    backoff: Annotated[float, msgspec.Meta(ge=1.0)] = 2.0
    max_delay: Duration = 120.0

    def wait(self, attempt: int) -> float:
        """Return the seconds between the end of `attempt`, counted from 1, and the next."""
        return float(min(self.delay * self.backoff ** (attempt - 1), self.max_delay))


class TaskSpec(Settings, frozen=True, kw_only=True):
    """One thing to do through one adapter."""

    planned: ClassVar[frozenset[str]] = frozenset({"if", "for_each", "concurrency", "undo", "wait_for"})

    name: str
    use: str
    do: str = ""
    with_: WorkflowValues = _NOTHING
    host: WorkflowText | None = None
    timeout: Duration = 60.0
    retry: Retry = Retry()
    on_error: Literal["fail", "continue", "undo"] = "fail"

    def __post_init__(self) -> None:
        if self.on_error == "undo":
            raise ValueError("'on_error: undo' is not built yet")


class Parallel(Settings, frozen=True, kw_only=True):
    """Tasks that are started at once; what comes after them waits for all."""

    parallel: list[TaskSpec]


class Verify(Settings, frozen=True, kw_only=True):
    """What counts as recovery: that the cause closes, or that fresh records of `on` satisfy `when`."""

    planned: ClassVar[frozenset[str]] = frozenset({"gone"})

    closes: Literal["cause"] | None = None
    on: str | None = None
    same: list[str] = []
    when: VerifyCondition | None = None
    settle: Duration = 0.0
    within: Duration = 60.0
    hold: Duration = 0.0
    samples: AtLeastOne = 1
    relapse: Duration = 600.0

    def __post_init__(self) -> None:
        if (self.on is None) != (self.when is None):
            raise ValueError("'on' and 'when' go together")
        if self.on is not None and self.closes is not None:
            raise ValueError("'closes' and 'on' are two ways to verify: choose one")

    @property
    def by_cause(self) -> bool:
        return self.on is None

    @property
    def closing_suffices(self) -> bool:
        """Whether the cause's closing is all that is asked for, so that no sighting need be waited for."""
        return self.by_cause and self.samples == 1 and self.hold == 0.0


class Workflow(Settings, frozen=True, kw_only=True):
    """One entry under `workflows`."""

    planned: ClassVar[frozenset[str]] = frozenset({"approval", "concurrency", "on_error", "outputs"})

    name: str
    inputs: dict[str, InputType | Input] = {}
    timeout: Duration = 600.0
    tasks: list[TaskSpec | Parallel]
    verify: Verify = Verify()
    on_failure: list[TaskSpec | Parallel] = []

    @property
    def required(self) -> list[str]:
        """The inputs that a run must be given."""
        return [name for name, spec in self.inputs.items() if not isinstance(spec, Input) or spec.default is None]

    @property
    def types(self) -> dict[str, InputType]:
        """The inputs' types by name."""
        return {name: spec.type if isinstance(spec, Input) else spec for name, spec in self.inputs.items()}

    def misfit(self, name: str, value: Any) -> str | None:
        """Say why a run would refuse this value of an input, None if it would take it."""
        spec = self.inputs[name]
        if isinstance(spec, Input) and any(_wrong_choices(name, spec)):
            spec = Input(type=spec.type, default=spec.default)
        return _misfit(name, spec, value)

    def misfits(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield what is wrong with the inputs' own values, after its path in the file."""
        for name, spec in self.inputs.items():
            place = child(child(path, "inputs"), name)
            if isinstance(spec, Input):
                yield from ((f"{place}.one_of[{number}]", what) for number, what in _wrong_choices(name, spec))
                what = None if spec.default is None else self.misfit(name, spec.default)
                if what:
                    yield f"{place}.default", what

    def placed(self, path: str) -> Iterator[tuple[str, TaskSpec]]:
        """Yield every task with its path in the file."""
        for part, entries in (("tasks", self.tasks), ("on_failure", self.on_failure)):
            for number, entry in enumerate(entries):
                place = f"{path}.{part}[{number}]"
                if isinstance(entry, Parallel):
                    yield from ((f"{place}.parallel[{n}]", spec) for n, spec in enumerate(entry.parallel))
                else:
                    yield place, entry

    @property
    def longest(self) -> float:
        """Seconds from start to deadline."""
        return self.timeout + self.verify.settle + self.verify.within + self.verify.hold


def _wrong_choices(name: str, spec: Input) -> Iterator[tuple[int, str]]:
    for number, choice in enumerate(spec.one_of or ()):
        if what := _misfit(name, spec.type, choice):
            yield number, what


def _misfit(name: str, spec: InputType | Input, value: Any) -> str | None:
    try:
        parse_inputs({name: spec}, {name: value})
    except InputError as exc:
        return str(exc)
    return None


def steps(part: list[TaskSpec | Parallel]) -> list[list[TaskSpec]]:
    """Return the tasks grouped by what runs at once."""
    return [entry.parallel if isinstance(entry, Parallel) else [entry] for entry in part]
