"""Where the YAML holds expressions: which variables each place has, and how a setting binds to one."""

from collections.abc import Mapping as Map
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

import msgspec

from exhaust.binding import bind
from exhaust.document import compose
from exhaust.expressions import (
    Duration,
    Expression,
    ExpressionError,
    Template,
    Timestamp,
    Unknown,
    compile_expression,
    compile_template,
    to_json,
)
from exhaust.ids import definition_hash
from exhaust.messages import Fact, Prediction, kind_of
from exhaust.nodes import Fault, Mapping, Node, Scalar, Sequence, child, position_inside
from exhaust.settings import INVALID, Context, Invalid

ANALYZER = ("record", "time", "host", "lists")
RULE = ("cause", "host", "facts", "now", "lists")
WORKFLOW = ("inputs", "cause", "host", "tasks", "execution", "now", "lists")
VERIFY = ("record", "time", "host", "lists", "inputs", "cause")

T = TypeVar("T")


@dataclass(frozen=True)
class Defined(Generic[T]):
    """Settings together with the plain data that they were bound from; `hash` names this very definition."""

    value: T
    source: Any

    @property
    def hash(self) -> str:
        return definition_hash(self.source)


def define(type_: type[T], source: Any) -> Defined[T]:
    """Bind plain data that was bound before, or is our own. Raises ValueError where it does not fit."""
    document, faults = compose(msgspec.json.encode(source), "definition")
    value: Any = bind(document, type_, "", faults, Context()) if document is not None else INVALID
    if faults:
        raise ValueError("\n".join(map(str, faults)))
    return Defined(value, source)


def cause_of(fact: Fact | None) -> dict[str, Any] | None:
    """Return a fact as expressions see it."""
    if fact is None:
        return None
    seen = {
        "id": fact.episode,
        "kind": kind_of(fact).partition("/")[0],
        "name": fact.name,
        "host": fact.host,
        "labels": fact.labels,
        "state": fact.state,
        "severity": fact.severity,
        "since": Timestamp.from_seconds(fact.since),
        "value": fact.value,
        "summary": fact.summary,
    }
    if isinstance(fact, Prediction):
        due, horizon = Timestamp.from_seconds(fact.due), Duration.from_seconds(fact.horizon)
        seen |= {"due": due, "probability": fact.probability, "horizon": horizon}
    return seen


class Values:
    """Plain data with templates in it, as under `with`."""

    def __init__(self, source: Any, names: Many[str]) -> None:
        self.source = source
        self._compiled = _compile(source, names)

    def render(self, *variables: Any) -> dict[str, Any] | Unknown:
        """Return the data with every template replaced by its value as JSON has it, or the first unknown."""
        try:
            rendered: dict[str, Any] = _render(self._compiled, variables)
        except _UnknownValueError as exc:
            return exc.unknown
        return rendered


class _UnknownValueError(Exception):
    def __init__(self, unknown: Unknown) -> None:
        super().__init__(unknown.reason)
        self.unknown = unknown


def _compile(data: Any, names: Many[str]) -> Any:
    match data:
        case str():
            return compile_template(data, names)
        case list():
            return [_compile(item, names) for item in data]
        case dict():
            return {key: _compile(item, names) for key, item in data.items()}
    return data


def _render(data: Any, variables: tuple[Any, ...]) -> Any:
    match data:
        case Template():
            value = data(*variables)
            if isinstance(value, Unknown):
                raise _UnknownValueError(value)
            return to_json(value)
        case list():
            return [_render(item, variables) for item in data]
        case dict():
            return {key: _render(item, variables) for key, item in data.items()}
    return data


class ExpressionForm:
    """Binds bare CEL; of a list all must hold."""

    expected = "an expression"
    takes = (Scalar, Sequence)

    def __init__(self, names: Many[str]) -> None:
        self._names = names

    def bind(self, node: Scalar | Sequence, path: str, faults: list[Fault], context: Context) -> Expression | Invalid:
        if isinstance(node, Scalar):
            return self._one(node, path, faults)
        parts = []
        for number, item in enumerate(node.items):
            context.where[child(path, number)] = item.at
            if not isinstance(item, Scalar):
                faults.append(item.at.fault("expected an expression", child(path, number)))
            else:
                parts.append(self._one(item, child(path, number), faults))
        if not parts or INVALID in parts:
            return INVALID
        sources = (part.source for part in parts if isinstance(part, Expression))
        return compile_expression(" && ".join(f"({source})" for source in sources), self._names)

    def _one(self, node: Scalar, path: str, faults: list[Fault]) -> Expression | Invalid:
        try:
            expression = compile_expression(node.text, self._names)
        except ExpressionError as exc:
            faults.append(_fault(node, exc.column, str(exc), path))
            return INVALID
        faults.extend(_fault(node, fault.column, fault.reason, path) for fault in expression.faults)
        return INVALID if expression.faults else expression


class TextForm:
    """Binds literal text with `${{ … }}` in it."""

    expected = "text"
    takes = (Scalar,)

    def __init__(self, names: Many[str]) -> None:
        self._names = names

    def bind(self, node: Scalar, path: str, faults: list[Fault], _context: Context) -> Template | Invalid:
        try:
            return compile_template(node.text, self._names)
        except ExpressionError as exc:
            faults.append(_fault(node, exc.column, str(exc), path))
            return INVALID


class LabelsForm:
    """Binds `by`: a list of the record's fields, or a map of labels to expressions."""

    expected = "a list of fields, or a map of labels to expressions"
    takes = (Sequence, Mapping)

    def __init__(self, names: Many[str]) -> None:
        self._names = names

    def bind(
        self, node: Sequence | Mapping, path: str, faults: list[Fault], context: Context
    ) -> dict[str, Expression] | Invalid:
        form = ExpressionForm(self._names)
        if isinstance(node, Mapping):
            expression = Annotated[Expression, form]
            bound = {
                name: bind(entry.value, expression, child(path, name), faults, context)
                for name, entry in node.entries.items()
            }
        else:
            names = bind(node, list[str], path, faults, context)
            if isinstance(names, Invalid):
                return names
            bound = {name: self._field(node.items[n], name, child(path, n), faults) for n, name in enumerate(names)}
        expressions = {name: made for name, made in bound.items() if isinstance(made, Expression)}
        return expressions if len(expressions) == len(bound) else INVALID

    def _field(self, node: Node, name: str, path: str, faults: list[Fault]) -> Expression | Invalid:
        try:
            return compile_expression(f"record.{name}", self._names)
        except ExpressionError:
            faults.append(node.at.fault(f"expected the name of a field, got {name!r}", path))
            return INVALID


class ValuesForm:
    """Binds a map of plain data with `${{ … }}` in its texts."""

    expected = "a map"
    takes = (Mapping,)

    def __init__(self, names: Many[str]) -> None:
        self._names = names

    def bind(self, node: Mapping, path: str, faults: list[Fault], context: Context) -> Values | Invalid:
        before = len(faults)
        data = bind(node, dict[str, Any], path, faults, context)
        self._check(node, path, faults)
        return INVALID if data is INVALID or len(faults) > before else Values(data, self._names)

    def _check(self, node: Node, path: str, faults: list[Fault]) -> None:
        match node:
            case Scalar(value=str(text)):
                try:
                    compile_template(text, self._names)
                except ExpressionError as exc:
                    faults.append(_fault(node, exc.column, str(exc), path))
            case Sequence():
                for number, item in enumerate(node.items):
                    self._check(item, child(path, number), faults)
            case Mapping():
                for name, entry in node.entries.items():
                    self._check(entry.value, child(path, name), faults)


def _fault(node: Scalar, column: int, what: str, path: str) -> Fault:
    line, place = position_inside(node, column - 1)
    return Fault(node.at.file, line, place, what, path)


def no_values(names: Many[str]) -> Values:
    """What stands for an absent `with`."""
    return Values({}, names)


AnalyzerCondition: TypeAlias = Annotated[Expression, ExpressionForm(ANALYZER)]
AnalyzerText: TypeAlias = Annotated[Template, TextForm(ANALYZER)]
AnalyzerLabels: TypeAlias = Annotated[Map[str, Expression], LabelsForm(ANALYZER)]
RuleCondition: TypeAlias = Annotated[Expression, ExpressionForm(RULE)]
RuleText: TypeAlias = Annotated[Template, TextForm(RULE)]
RuleValues: TypeAlias = Annotated[Values, ValuesForm(RULE)]
WorkflowText: TypeAlias = Annotated[Template, TextForm(WORKFLOW)]
WorkflowValues: TypeAlias = Annotated[Values, ValuesForm(WORKFLOW)]
VerifyCondition: TypeAlias = Annotated[Expression, ExpressionForm(VERIFY)]
