"""Where the YAML holds expressions: which variables each place has, and how a setting binds to one."""

import functools
import re
from collections.abc import Mapping as Map
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

import msgspec

from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.documents.draft import Draft, Placed
from exhaust.documents.nodes import Broken, Fault, Mapping, Node, Scalar, Sequence, child, position_inside
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
from exhaust.settings import INVALID, Context, Invalid

ANALYZER = ("record", "time", "host", "lists")
RULE = ("cause", "host", "facts", "now", "lists")
WORKFLOW = ("inputs", "cause", "host", "tasks", "execution", "now", "lists")
VERIFY = ("record", "time", "host", "lists", "inputs", "cause")

_ALIAS = re.compile(r"[a-z][a-z0-9_]{0,63}")
_RESERVED = frozenset({*RULE, "true", "false", "null", "in", "has", "fact", "prediction", "record", "item", "secret"})

T = TypeVar("T")

_RECORD = "record."

# Most expressions of a configuration are there many times, and what is compiled never changes.
_expression = functools.lru_cache(4096)(compile_expression)
_text = functools.lru_cache(4096)(compile_template)


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


def is_alias(name: str) -> bool:
    """Whether a rule may call another fact so."""
    return _ALIAS.fullmatch(name) is not None and name not in _RESERVED


class Values:
    """Plain data with templates in it, as under `with`."""

    def __init__(self, source: Any, names: tuple[str, ...]) -> None:
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


def _compile(data: Any, names: tuple[str, ...]) -> Any:
    match data:
        case str():
            return _text(data, names)
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

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def bind(self, node: Scalar | Sequence, path: str, faults: list[Fault], context: Context) -> Expression | Invalid:
        if isinstance(node, Scalar):
            return self._one(node, path, faults, context)
        parts = []
        for number, item in enumerate(node.items):
            context.where[child(path, number)] = item.at
            if isinstance(item, Scalar):
                parts.append(self._one(item, child(path, number), faults, context))
                continue
            parts.append(INVALID)
            if not isinstance(item, Broken):
                faults.append(item.at.fault("expected an expression", child(path, number)))
        if not parts or INVALID in parts:
            return INVALID
        sources = (part.source for part in parts if isinstance(part, Expression))
        return compile_expression(" && ".join(f"({source})" for source in sources), self._names + context.names)

    def _one(self, node: Scalar, path: str, faults: list[Fault], context: Context) -> Expression | Invalid:
        try:
            expression = _expression(node.text, self._names + context.names)
        except ExpressionError as exc:
            faults.append(_fault(node, exc.column, str(exc), path))
            return INVALID
        faults.extend(_fault(node, fault.column, fault.reason, path) for fault in expression.faults)
        if expression.faults:
            return INVALID
        _keep(context, Placed(path, node, 0, expression))
        return expression


class TextForm:
    """Binds literal text with `${{ … }}` in it."""

    expected = "text"
    takes = (Scalar,)

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def bind(self, node: Scalar, path: str, faults: list[Fault], context: Context) -> Template | Invalid:
        return _template(node, self._names + context.names, path, faults, context)


class LabelsForm:
    """Binds `by`: a list of the record's fields, or a map of labels to expressions."""

    expected = "a list of fields, or a map of labels to expressions"
    takes = (Sequence, Mapping)

    def __init__(self, names: tuple[str, ...]) -> None:
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
            for number, name in enumerate(names):
                if name in names[:number]:
                    faults.append(node.items[number].at.fault(f"{name!r} is given twice", child(path, number)))
            bound = {
                name: self._field(item, name, child(path, number), faults, context)
                for number, (name, item) in enumerate(zip(names, node.items, strict=True))
            }
        expressions = {name: made for name, made in bound.items() if isinstance(made, Expression)}
        return expressions if len(expressions) == len(bound) else INVALID

    def _field(self, node: Node, name: str, path: str, faults: list[Fault], context: Context) -> Expression | Invalid:
        try:
            expression = _expression(f"{_RECORD}{name}", self._names)
        except ExpressionError:
            faults.append(node.at.fault(f"expected the name of a field, got {name!r}", path))
            return INVALID
        if isinstance(node, Scalar):
            _keep(context, Placed(path, node, -len(_RECORD), expression))
        return expression


class ValuesForm:
    """Binds a map of plain data with `${{ … }}` in its texts."""

    expected = "a map"
    takes = (Mapping,)

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def bind(self, node: Mapping, path: str, faults: list[Fault], context: Context) -> Values | Invalid:
        before = len(faults)
        data = bind(node, dict[str, Any], path, faults, context)
        self._check(node, path, faults, context)
        return INVALID if data is INVALID or len(faults) > before else Values(data, self._names + context.names)

    def _check(self, node: Node, path: str, faults: list[Fault], context: Context) -> None:
        match node:
            case Scalar(value=str()):
                _template(node, self._names + context.names, path, faults, context)
            case Sequence():
                for number, item in enumerate(node.items):
                    self._check(item, child(path, number), faults, context)
            case Mapping():
                for name, entry in node.entries.items():
                    self._check(entry.value, child(path, name), faults, context)


def _template(
    node: Scalar, names: tuple[str, ...], path: str, faults: list[Fault], context: Context
) -> Template | Invalid:
    try:
        template = _text(node.text, names)
    except ExpressionError as exc:
        faults.append(_fault(node, exc.column, str(exc), path))
        return INVALID
    before = len(faults)
    for offset, expression in template.placed:
        faults.extend(_fault(node, offset + fault.column, fault.reason, path) for fault in expression.faults)
        _keep(context, Placed(path, node, offset, expression))
    return INVALID if len(faults) > before else template


def _keep(context: Context, placed: Placed) -> None:
    if isinstance(context, Draft):
        context.expressions.append(placed)


def _fault(node: Scalar, column: int, what: str, path: str) -> Fault:
    line, place = position_inside(node, column - 1)
    return Fault(node.at.file, line, place, what, path)


def no_values(names: tuple[str, ...]) -> Values:
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
