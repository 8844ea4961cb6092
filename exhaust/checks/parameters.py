"""What is said under `with`: of a task against its action's parameters, of a rung against its workflow's inputs."""

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from exhaust.checks.references import Names, rungs
from exhaust.checks.scopes import Scopes
from exhaust.documents.binding import bind, describe, settings_keys
from exhaust.documents.draft import Placed
from exhaust.documents.nodes import Broken, Fault, Node, Scalar, child, plain
from exhaust.documents.nodes import Entry as Pair
from exhaust.documents.nodes import Mapping as MapNode
from exhaust.documents.nodes import Sequence as ListNode
from exhaust.expressions import Shape
from exhaust.expressions.shape import ALL, LIST, MAP, NULL, NUMBER, STRING, Kinds, of_kinds
from exhaust.expressions.values import kind
from exhaust.sections import Entry, Sections, text_of
from exhaust.settings import Context, DurationForm, SizeForm

_OPEN: Final = "${{"
_PARSED: Final = STRING.kinds | NUMBER.kinds  # text that is parsed, or seconds or bytes
_INPUTS: Final[Mapping[str, Kinds]] = {
    **dict.fromkeys(("string", "host", "ip", "path", "process"), STRING.kinds),
    **dict.fromkeys(("int", "double", "size", "timestamp", "duration"), _PARSED),
    "bool": STRING.kinds | {"bool"},
    "list": LIST.kinds,
    "map": MAP.kinds,
}
_SCALARS: Final[Mapping[Any, Kinds]] = {
    str: STRING.kinds,
    Path: STRING.kinds,
    bool: frozenset({"bool"}),
    int: NUMBER.kinds,
    float: NUMBER.kinds,
    type(None): NULL.kinds,
}


def parameter_faults(sections: Sections, names: Names, scopes: Scopes) -> Iterator[Fault]:
    """Find what is told to actions and workflows and is not for them."""
    for entry in sections["rules"]:
        if entry.rough is not None:
            given = _Given("rules", entry, scopes)
            for path, rung in rungs(entry):
                if (workflow := names.workflows.get(rung.run or "")) is not None:
                    yield from given.to_workflow(child(path, "with"), workflow)
    for entry in sections["workflows"]:
        if entry.rough is not None:
            yield from _own_values(entry)
            given = _Given("workflows", entry, scopes)
            for path, spec in entry.rough.placed(entry.path):
                yield from given.to_actions(path, names.actions(spec.use) or {})


def _own_values(entry: Entry) -> Iterator[Fault]:
    for path, what in entry.rough.misfits(entry.path):
        yield entry.context.fault(path, what)


class _Given:
    """What one entry tells others under `with`."""

    def __init__(self, section: str, entry: Entry, scopes: Scopes) -> None:
        self._section = section
        self._entry = entry
        self._scopes = scopes
        self._placed: dict[str, list[Placed]] = {}
        for placed in entry.expressions:
            self._placed.setdefault(placed.path, []).append(placed)

    def to_workflow(self, path: str, workflow: Any) -> Iterator[Fault]:
        node = self._entry.context.nodes.get(path)
        wanted = workflow.types
        for name, (_, value) in (node.entries if isinstance(node, MapNode) else {}).items():
            if name not in wanted:
                continue
            place = child(path, name)
            if _literal(value) != value:
                expected = f"input {name!r} should be of type {wanted[name]}"
                yield from self._rendered(value, place, _INPUTS.get(wanted[name], ALL), expected)
            elif (what := workflow.misfit(name, plain(value))) is not None:
                yield value.at.fault(what, place)

    def to_actions(self, path: str, actions: Mapping[str, Any]) -> Iterator[Fault]:
        """Check a task, and how it is undone."""
        for place in (path, child(path, "undo")):
            node = self._entry.context.nodes.get(place)
            params = actions.get(text_of(node, "do"))
            if params is not None:
                yield from self._to_action(child(place, "with"), child(place, "do"), params)

    def _to_action(self, path: str, action: str, params: Any) -> Iterator[Fault]:
        context = self._entry.context
        given = context.nodes.get(path) or MapNode({}, context.where[action])
        faults: list[Fault] = []
        bind(_literal(given), params, path, faults, Context())
        yield from faults
        yield from self._misfits(given, params, path)

    def _misfits(self, node: Node, type_: Any, path: str) -> Iterator[Fault]:
        """Find values that are known only when it runs, and cannot be of the type whatever they are."""
        inner = _inner(type_)
        match node:
            case Scalar():
                yield from self._rendered(node, path, _kinds(type_), f"expected {describe(type_)}")
            case ListNode() if "[]" in inner:
                for number, item in enumerate(node.items):
                    yield from self._misfits(item, inner["[]"], child(path, number))
            case MapNode():
                for name, (_, value) in node.entries.items():
                    if name in inner or "{}" in inner:
                        yield from self._misfits(value, inner.get(name, inner.get("{}")), child(path, name))

    def _rendered(self, node: Node, path: str, takes: Kinds, expected: str) -> Iterator[Fault]:
        for placed in self._placed.get(path, ()):
            if not isinstance(node, Scalar) or len(node.text) != len(placed.expression.source) + len("${{}}"):
                shape = STRING
            else:
                shape = self._scopes.result(self._section, self._entry, placed)
            if not _as_json(shape).may_be(takes):
                yield placed.fault(1, f"{expected}, got {shape}")
            return


def _literal(node: Node) -> Node:
    """Return what is said less the values that are known only when it runs; they are neither sound nor faulty yet."""
    match node:
        case Scalar():
            return Broken(node.at) if _OPEN in node.text else node
        case ListNode():
            return ListNode(tuple(map(_literal, node.items)), node.at)
        case MapNode():
            return MapNode({name: Pair(key, _literal(value)) for name, (key, value) in node.entries.items()}, node.at)
    return node


def _as_json(shape: Shape) -> Shape:
    """What it is on its way to who does it: times are seconds there."""
    times = shape.may_be(("timestamp", "duration"))
    return of_kinds(*shape.kinds, *(NUMBER.kinds if times else ()))


def _kinds(type_: Any) -> Kinds:
    """Return the kinds of value that a setting's type may take."""
    plain_type, *marks = get_args(type_) if get_origin(type_) is Annotated else (type_,)
    if any(hasattr(mark, "bind") for mark in marks):
        return _PARSED if any(isinstance(mark, DurationForm | SizeForm) for mark in marks) else ALL
    origin = get_origin(plain_type) or plain_type
    if origin in (Union, types.UnionType):
        return Kinds().union(*map(_kinds, get_args(plain_type)))
    if origin is Literal:
        return Kinds(kind(choice) for choice in get_args(plain_type))
    if origin in (Any, object) or not isinstance(origin, type):
        return ALL
    if origin in _SCALARS:
        return _SCALARS[origin]
    return MAP.kinds if issubclass(origin, msgspec.Struct | Mapping) else LIST.kinds


def _inner(type_: Any) -> dict[str, Any]:
    """Return the types inside one: by key, `[]` for a list's items, `{}` for a map's values."""
    plain_type = get_args(type_)[0] if get_origin(type_) is Annotated else type_
    origin, arguments = get_origin(plain_type) or plain_type, get_args(plain_type)
    if origin in (Union, types.UnionType):
        return {key: found for arm in arguments for key, found in _inner(arm).items()}
    if not isinstance(origin, type) or origin in _SCALARS:
        return {}
    if issubclass(origin, msgspec.Struct):
        return {key: field.type for key, field in settings_keys(origin).items()}
    return {"{}": arguments[1]} if len(arguments) == 2 and issubclass(origin, Mapping) else {"[]": (*arguments, Any)[0]}
