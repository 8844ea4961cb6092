"""What a test expects to have happened: partial descriptions, and how each is held against what did happen."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from exhaust.documents.nodes import child
from exhaust.messages import ExecutionState, FactReason, FactState, Labels, Severity, Verdict
from exhaust.plugins import Settings
from exhaust.rehearsal.happenings import LONGEST_LINE, Happening, spelled
from exhaust.text import clean


class Expected(Settings, frozen=True, kw_only=True):
    """Asks for at least one happening that has all the fields given; `times` for exactly so many."""

    times: Annotated[int, msgspec.Meta(ge=0)] | None = None

    def asked(self) -> dict[str, Any]:
        """Return the fields that are given, as messages spell them."""
        given = {name: getattr(self, name) for name in self.__struct_fields__ if name != "times"}
        return {name: value for name, value in given.items() if value is not None}


class ExpectedFact(Expected, frozen=True, kw_only=True):
    """A fact's opening or closing."""

    name: str | None = None
    host: str | None = None
    labels: Labels | None = None
    state: FactState | None = None
    reason: FactReason | None = None
    severity: Severity | None = None
    value: Any = None
    summary: str | None = None


class ExpectedPrediction(ExpectedFact, frozen=True, kw_only=True):
    """A prediction's opening or closing."""

    probability: float | None = None


class ExpectedDecision(Expected, frozen=True, kw_only=True):
    """A rule's answer; `reasons` names guards that are among those that refused."""

    rule: str | None = None
    rung: int | None = None
    outcome: Literal["fired", "observed", "pending", "refused"] | None = None
    reasons: list[str] | None = None
    host: str | None = None


class ExpectedActivation(Expected, frozen=True, kw_only=True):
    """The order to run a workflow."""

    workflow: str | None = None
    inputs: dict[str, Any] | None = None
    rule: str | None = None
    rung: int | None = None
    attempt: int | None = None
    host: str | None = None


class ExpectedCommand(Expected, frozen=True, kw_only=True):
    """What an agent is told to do."""

    action: str | None = None
    params: dict[str, Any] | None = None
    host: str | None = None
    task: str | None = None


class ExpectedCall(Expected, frozen=True, kw_only=True):
    """What an adapter of the orchestrator is asked to do: `to` of a notice, or `use` of a task."""

    adapter: str | None = None
    do: str | None = None
    params: dict[str, Any] | None = None
    host: str | None = None
    task: str | None = None


class ExpectedTask(Expected, frozen=True, kw_only=True):
    """What became of one task of a run; `attempt` is the task's."""

    workflow: str | None = None
    task: str | None = None
    state: ExecutionState | None = None
    attempt: int | None = None
    error: str | None = None
    output: Any = None
    rule: str | None = None
    host: str | None = None


class ExpectedExecution(Expected, frozen=True, kw_only=True):
    """What became of a run as a whole; `attempt` is the rule's."""

    workflow: str | None = None
    state: ExecutionState | None = None
    verdict: Verdict | None = None
    reason: str | None = None
    rule: str | None = None
    rung: int | None = None
    attempt: int | None = None
    host: str | None = None


class Expectations(Settings, frozen=True, kw_only=True):
    """Descriptions by kind."""

    facts: list[ExpectedFact] = []
    predictions: list[ExpectedPrediction] = []
    decisions: list[ExpectedDecision] = []
    activations: list[ExpectedActivation] = []
    commands: list[ExpectedCommand] = []
    calls: list[ExpectedCall] = []
    tasks: list[ExpectedTask] = []
    executions: list[ExpectedExecution] = []

    def __post_init__(self) -> None:
        for kind in KINDS:
            entries = getattr(self, kind)
            if any(entry in entries[:number] for number, entry in enumerate(entries)):
                raise ValueError(f"two of the {kind} are the same: one with 'times: 2' asks for two")

    def entries(self) -> Iterator[tuple[str, int, Expected]]:
        """Yield all descriptions with their kind and number."""
        for kind in KINDS:
            for number, entry in enumerate(getattr(self, kind)):
                yield kind, number, entry


KINDS = Expectations.__struct_fields__
_ACTS = ("decisions", "activations", "commands", "calls")


class Expect(Expectations, frozen=True, kw_only=True):
    """What must, and under `none` what must not, have happened since the last one.

    `nothing` wants that no rule has decided anything, and nobody was told to do anything.
    """

    none: Expectations = Expectations()
    nothing: Literal[True] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        empty = not self.nothing and not [*self.entries(), *self.none.entries()]
        if empty:
            raise ValueError(f"nothing is expected here: give {', '.join(KINDS)}, none or nothing")


def misses(expect: Expect, news: Sequence[Happening]) -> Iterator[tuple[str, str]]:
    """Yield what is not as expected, each with its path inside the expectation."""
    for kind, number, entry in expect.entries():
        if miss := _miss(entry, kind, news):
            yield child(kind, number), miss
    for kind, number, entry in expect.none.entries():
        if found := [one for one in news if one.kind == kind and _fits(entry.asked(), one.fields)]:
            yield child(f"none.{kind}", number), f"expected no {_named(kind, entry)}, got {found[0].line}"
    if expect.nothing and (found := [one for one in news if one.kind in _ACTS]):
        yield "nothing", f"expected nothing, got {found[0].line}"


def _miss(entry: Expected, kind: str, news: Sequence[Happening]) -> str:
    asked = entry.asked()
    alike = [one for one in news if one.kind == kind]
    found = sum(_fits(asked, one.fields) for one in alike)
    if entry.times is not None:
        often = f"expected {_named(kind, entry)} {_often(entry.times)}, got it {_often(found)}"
        return "" if found == entry.times else often
    if found:
        return ""
    nearest = min(reversed(alike), key=lambda one: _distance(asked, one.fields), default=None)
    got = "none" if nearest is None else spelled(_narrowed(asked, nearest.fields))
    article = "an" if kind[0] in "ae" else "a"
    return f"expected {article} {_named(kind, entry)}, got {got}"


def _often(times: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(times, f"{times} times")


def _named(kind: str, entry: Expected) -> str:
    asked = entry.asked()
    return clean(f"{kind[:-1]} {spelled(asked)}" if asked else kind[:-1], LONGEST_LINE)


def _fits(asked: Any, had: Any) -> bool:
    """Tell whether all that is asked for is there; of a set all that is listed, of anything else the same."""
    if isinstance(asked, Mapping):
        return isinstance(had, Mapping) and all(name in had and _fits(asked[name], had[name]) for name in asked)
    if isinstance(had, frozenset):
        return isinstance(asked, list) and set(asked) <= had
    return bool(asked == had) and isinstance(asked, bool) == isinstance(had, bool)


def _distance(asked: Mapping[str, Any], had: Mapping[str, Any]) -> int:
    return sum(not _fits(value, had.get(name)) for name, value in asked.items())


def _narrowed(asked: Any, had: Any) -> Any:
    """Return what was had, less what was not asked for."""
    if isinstance(asked, Mapping) and isinstance(had, Mapping):
        return {name: _narrowed(asked[name], had[name]) for name in asked if name in had}
    return had
