"""A file of tests: what each gives, step by step, to the rules and workflows of a configuration, and expects."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from exhaust.configuration import Catalogue, Configuration, check
from exhaust.documents.binding import bind
from exhaust.documents.document import read
from exhaust.documents.nodes import At, Entry, Fault, Scalar, child
from exhaust.documents.nodes import Mapping as MapNode
from exhaust.expressions import parse_timestamp
from exhaust.expressions.errors import suggestion
from exhaust.language import Values, ValuesForm
from exhaust.messages import FactReason, FactState, Labels, Order, Severity
from exhaust.plugins import Emitter, Settings
from exhaust.rehearsal.expectations import Expect, Expectations
from exhaust.rehearsal.rehearsal import Answers, ResultState
from exhaust.settings import INVALID, Context, Duration, Invalid, wrong

_START = 1_767_225_600.0  # 2026-01-01T00:00:00Z
_TEN_YEARS = 3650 * 86_400.0
_OWN_STREAMS = "custom"
_BUILT_IN = ("notify",)


class MomentForm:
    """Binds a timestamp to seconds since the epoch."""

    expected = "a timestamp such as 2026-01-01T00:00:00Z"
    takes = (Scalar,)

    def bind(self, node: Scalar, path: str, faults: list[Fault], _context: Context) -> float | Invalid:
        try:
            return parse_timestamp(node.text) / 1e9
        except ValueError:
            return wrong(node, self.expected, path, faults)


class OrderForm:
    """Binds what an order says; who gave it, and when, follows from the test."""

    expected = "a map"
    takes = (MapNode,)

    def bind(self, node: MapNode, path: str, faults: list[Fault], context: Context) -> Order | Invalid:
        implied = {"id": "", "time": 0.0, "target": None, "by": "somebody"}
        entries = {name: _entry(name, value, node.at) for name, value in implied.items()} | node.entries
        order: Order | Invalid = bind(MapNode(entries, node.at), Order, path, faults, context)
        return order


def _entry(name: str, value: Any, at: At) -> Entry:
    return Entry(Scalar(name, name, False, at), Scalar(value, str(value), False, at))


# Of a record's values: which beat it is, from 0, and when that is.
Fields = Annotated[Values, ValuesForm(("n", "now"))]


class Records(Settings, frozen=True, kw_only=True):
    """A batch of records, sent now; with `every` again and again, `times` in all."""

    stream: str
    values: list[Fields]
    host: str | None = None
    every: Annotated[Duration, msgspec.Meta(gt=0)] | None = None
    times: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None

    def __post_init__(self) -> None:
        if (self.every is None) != (self.times is None):
            raise ValueError("'every' and 'times' need each other")


class Silent(Settings, frozen=True, kw_only=True):
    """A stream that gives no more sign of life, until it says something again."""

    stream: str
    host: str | None = None


class GivenFact(Settings, frozen=True, kw_only=True):
    """A fact as if analyzers had found it; it stays open until it is given as `closed`.

    `host` is the test's, and none where it says so; `valid` is for how long it may be believed.
    """

    name: str
    host: str | None = ""
    labels: Labels = {}
    state: FactState = "open"
    reason: FactReason | None = None
    severity: Severity = "warning"
    value: Any = None
    summary: str = ""
    valid: Duration = _TEN_YEARS


class GivenPrediction(GivenFact, frozen=True, kw_only=True):
    """The same of a prediction: it comes true after `due`."""

    due: Duration
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    horizon: Duration | None = None


class Answer(Settings, frozen=True, kw_only=True):
    """What the oldest command, or work of an adapter, comes to; or that of `task`."""

    state: ResultState = "succeeded"
    reason: str = ""
    output: Any = None
    task: str | None = None


class Step(Settings, frozen=True, kw_only=True):
    """One thing that happens or is expected, `after` some time."""

    after: Duration | None = None
    records: Records | None = None
    silent: Silent | None = None
    fact: GivenFact | None = None
    prediction: GivenPrediction | None = None
    order: Annotated[Order | None, OrderForm()] = None
    answer: Answer | None = None
    sighting: Literal[True, False, "unknown"] | None = None
    expect: Expect | None = None

    def __post_init__(self) -> None:
        names = [name for name in self.__struct_fields__ if name != "after"]
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"a step is one of {', '.join(names)}; this is {' and '.join(given)}")
        if not given and self.after is None:
            raise ValueError(f"a step is one of after, {', '.join(names)}")


class Case(Settings, frozen=True, kw_only=True):
    """One test. Without `agents`, commands wait for an answer, and come back unread when they expire."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    steps: list[Step]
    at: Annotated[float, MomentForm()] = _START
    host: str | None = None
    agents: Answers = "silent"
    adapters: Answers = "succeed"

    def __post_init__(self) -> None:
        if not any(step.expect for step in self.steps):
            raise ValueError(f"test {self.name!r} expects nothing: it needs a step with 'expect'")


class Script(Settings, frozen=True, kw_only=True):
    """The whole file; `configuration` is a file or a directory, relative to it."""

    configuration: str
    tests: Annotated[list[Case], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class Prepared:
    """Tests, where each of their words stands, and what they are about."""

    script: Script
    context: Context
    configuration: Configuration


def prepare(file: str, catalogue: Catalogue) -> tuple[Prepared | None, list[Fault]]:
    """Read a file of tests and its configuration; return them if they are sound, or all that is wrong."""
    document, faults = read(Path(file), file)
    context = Context()
    script: Any = INVALID if document is None else bind(document, Script, "", faults, context)
    if script is INVALID or faults:
        return None, sorted(set(faults))
    path = os.path.normpath(Path(file).parent / script.configuration)
    if what := _unusable(Path(path), Path(file)):
        return None, [context.fault("configuration", what)]
    configuration, found = check(path, catalogue)
    errors = [fault for fault in found if fault.severity == "error"]
    if configuration is None or errors:
        return None, errors
    prepared = Prepared(script, context, configuration)
    faults = sorted(set(_Names(prepared, catalogue).faults()))
    return (None if faults else prepared), faults


def _unusable(configuration: Path, file: Path) -> str:
    if not configuration.exists():
        return f"'{configuration}' is not there"
    if configuration.is_dir() and configuration.resolve() == file.resolve().parent:
        return "this directory holds the tests too: keep them in one of their own, such as its 'tests'"
    return ""


class _Names:
    """Finds what tests name and nobody has defined: it could never happen, and `none` of it is no news."""

    def __init__(self, prepared: Prepared, catalogue: Catalogue) -> None:
        configuration = prepared.configuration
        self._tests = prepared.script.tests
        self._context = prepared.context
        self._emitters: Mapping[str, Emitter[Any]] = catalogue.emitters
        workflows = [*(one.value.name for one in configuration.workflows), *_BUILT_IN]
        rules = [*(one.value.name for one in configuration.rules), *(f"trigger:{name}" for name in workflows)]
        self._known: dict[str, Iterable[str]] = {
            "rule": rules,
            "workflow": workflows,
            "action": catalogue.actions,
            "adapter": configuration.adapters,
        }

    def faults(self) -> Iterator[Fault]:
        seen: set[str] = set()
        for number, case in enumerate(self._tests):
            path = child("tests", number)
            if case.name in seen:
                yield self._context.fault(f"{path}.name", f"two tests are called {case.name!r}")
            seen.add(case.name)
            for place, step in enumerate(case.steps):
                yield from self._of_step(step, child(f"{path}.steps", place))

    def _of_step(self, step: Step, path: str) -> Iterator[Fault]:
        if step.records is not None:
            yield from self._of_records(step.records, f"{path}.records")
        if step.silent is not None:
            yield from self._of_stream(step.silent.stream, f"{path}.silent.stream")
        if step.expect is not None:
            yield from self._of_expectations(step.expect, f"{path}.expect")
            yield from self._of_expectations(step.expect.none, f"{path}.expect.none")

    def _of_records(self, records: Records, path: str) -> Iterator[Fault]:
        wrong_stream = list(self._of_stream(records.stream, f"{path}.stream"))
        yield from wrong_stream
        emitter, _, stream = records.stream.partition(".")
        if wrong_stream or emitter == _OWN_STREAMS:
            return
        known = self._emitters[emitter].streams[stream]
        for number, values in enumerate(records.values):
            for name in values.source:
                if known and name not in known and name != "time":
                    what = f"{records.stream} has no field {name!r}{suggestion(name, known)}"
                    yield self._context.fault(child(f"{path}.values", number), what)

    def _of_stream(self, stream: str, path: str) -> Iterator[Fault]:
        streams = {f"{name}.{one}" for name, emitter in self._emitters.items() for one in emitter.streams}
        emitter, _, name = stream.partition(".")
        if stream not in streams and (emitter != _OWN_STREAMS or not name):
            hint = suggestion(stream, streams) or f"; there are {', '.join(sorted(streams))} and {_OWN_STREAMS}.*"
            yield self._context.fault(path, f"no emitter has the stream {stream!r}{hint}")

    def _of_expectations(self, expected: Expectations, path: str) -> Iterator[Fault]:
        for kind, number, entry in expected.entries():
            for word, known in self._known.items():
                name = getattr(entry, word, None)
                if name is not None and name not in known:
                    what = f"no {word} is called {name!r}{suggestion(name, known)}"
                    yield self._context.fault(f"{child(f'{path}.{kind}', number)}.{word}", what)
