"""Nodes to typed settings: every fault is collected, with its position and path, and nothing is raised."""

import collections.abc
import contextlib
import difflib
import functools
import json
import operator
import re
import types
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec.structs import fields

from exhaust.documents.draft import Draft
from exhaust.documents.nodes import Broken, Fault, Mapping, Node, Scalar, Sequence, child
from exhaust.documents.quoting import quoted
from exhaust.settings import INVALID, Context, Invalid, wrong

MOST_SUGGESTIONS = 50  # of one map: likeness is costly, and a map full of unknown keys is of another kind
MOST_LISTED = 12

_LISTS = (list, tuple, collections.abc.Sequence)
_MAPS = (dict, collections.abc.Mapping)
_SCALARS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "nothing",
    Path: "a path",
}
_KINDS = (Scalar, Sequence, Mapping)
_LIMITS: tuple[tuple[str, Callable[[Any, Any], Any], str], ...] = (
    ("ge", operator.ge, "at least {}"),
    ("gt", operator.gt, "more than {}"),
    ("le", operator.le, "at most {}"),
    ("lt", operator.lt, "less than {}"),
    ("min_length", lambda value, least: len(value) >= least, "a length of at least {}"),
    ("max_length", lambda value, most: len(value) <= most, "a length of at most {}"),
    ("pattern", lambda value, pattern: re.search(pattern, value), "text that matches {}"),
)


class Bound(NamedTuple):
    """An item of a list, and what became of it (INVALID if nothing)."""

    path: str
    node: Node
    value: Any


def bind(node: Node, type_: Any, path: str, faults: list[Fault], context: Context) -> Any:
    """Give the value of a node as a type, or INVALID with faults added that say why.

    Types: Structs, str, bool, int, float, None, Path, Literal, list, tuple[T, ...], dict, unions, Any for plain data,
    and Annotated with limits (msgspec.Meta) or a form. A Struct's fields are its keys, less a trailing underscore;
    its `planned` names keys that are not built yet; a ValueError of its `__post_init__` is a fault of the map.
    """
    context.where[path] = node.at
    if isinstance(context, Draft):
        context.nodes[path] = node
    if isinstance(node, Broken):
        return INVALID
    plain, marks = _unwrap(type_)
    form = next((mark for mark in marks if hasattr(mark, "bind")), None)
    if form is None:
        value = _binder(plain)(node, plain, path, faults, context)
    elif isinstance(node, getattr(form, "takes", _KINDS)):
        value = form.bind(node, path, faults, context)
    else:
        value = wrong(node, describe(type_), path, faults)
    for mark in marks:
        if value is not INVALID and isinstance(mark, msgspec.Meta):
            value = _within(value, mark, node, path, faults, getattr(form, "unit", ""))
    return value


def bind_each(node: Node, type_: Any, path: str, faults: list[Fault], context: Context) -> Iterator[Bound]:
    """Bind the items of a list one by one, so that an invalid one does not take the others with it."""
    context.where[path] = node.at
    if isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            at = child(path, index)
            yield Bound(at, item, bind(item, type_, at, faults, context))
    elif not isinstance(node, Broken):
        wrong(node, "a list", path, faults)


def describe(type_: Any) -> str:
    """Name a type in the words of a message."""
    plain, marks = _unwrap(type_)
    for mark in marks:
        if hasattr(mark, "expected"):
            return str(mark.expected)
    origin = get_origin(plain) or plain
    if origin in (Union, types.UnionType):
        names = [describe(arm) for arm in get_args(plain) if arm is not type(None)]
        return _either(list(dict.fromkeys(names)))
    if origin is Literal:
        return _either([_word(choice) for choice in get_args(plain)])
    if origin in _LISTS:
        return "a list"
    return _SCALARS.get(origin, "a map")


def _unwrap(type_: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(type_) is Annotated:
        plain, *marks = get_args(type_)
        return plain, tuple(marks)
    return type_, ()


def _binder(plain: Any) -> Any:
    origin = get_origin(plain) or plain
    if plain in (Any, object):
        return _data
    if origin in (Union, types.UnionType):
        return _union
    if origin is Literal:
        return _literal
    if origin in _LISTS:
        return _list
    if origin in _MAPS:
        return _dict
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        return _struct
    if origin in _SCALARS:
        return _scalar
    raise TypeError(f"no setting can have the type {plain!r}")


def _scalar(node: Node, plain: Any, path: str, faults: list[Fault], _context: Context) -> Any:
    expected = _SCALARS[plain]
    if not isinstance(node, Scalar):
        return wrong(node, expected, path, faults)
    value = node.value
    if plain in (str, Path):
        if isinstance(value, str) and (plain is str or ("\0" not in value and value)):
            return plain(value)
        hint = "" if value is None or isinstance(value, str) else f"; write {quoted(node.text)}"
        return wrong(node, expected, path, faults, hint)
    if plain is float and type(value) is int:
        return float(value)
    return value if type(value) is plain else wrong(node, expected, path, faults)


def _literal(node: Node, plain: Any, path: str, faults: list[Fault], _context: Context) -> Any:
    choices = get_args(plain)
    if isinstance(node, Scalar):
        for choice in choices:
            if type(choice) is type(node.value) and choice == node.value:
                return choice
    near = difflib.get_close_matches(getattr(node, "text", ""), [_word(choice) for choice in choices], 1)
    return wrong(node, describe(plain), path, faults, f", did you mean {near[0]!r}?" if near else "")


def _list(node: Node, plain: Any, path: str, faults: list[Fault], context: Context) -> Any:
    if not isinstance(node, Sequence):
        return wrong(node, "a list", path, faults)
    item_type = (*get_args(plain), Any)[0]
    items = [bound.value for bound in bind_each(node, item_type, path, faults, context)]
    if INVALID in items:
        rough = [_rough(item, child(path, index), context) for index, item in enumerate(items)]
        return _keep(rough, rough, path, context)
    return items if get_origin(plain) is list or plain is list else tuple(items)


def _dict(node: Node, plain: Any, path: str, faults: list[Fault], context: Context) -> Any:
    if not isinstance(node, Mapping):
        return wrong(node, "a map", path, faults)
    key_type, value_type = get_args(plain) or (str, Any)
    values = {}
    for name, (key, value) in node.entries.items():
        at = child(path, name)
        bound_key = name if key_type is str else bind(key, key_type, at, faults, context)
        values[bound_key] = bind(value, value_type, at, faults, context)
    if INVALID in values or INVALID in values.values():
        rough = {key: _rough(value, child(path, str(key)), context) for key, value in values.items()}
        return _keep(rough, [*rough, *rough.values()], path, context)
    return values


def _data(node: Node, _plain: Any, path: str, faults: list[Fault], context: Context) -> Any:
    if isinstance(node, Scalar):
        return node.value
    plain = list[Any] if isinstance(node, Sequence) else dict[str, Any]
    return _binder(plain)(node, plain, path, faults, context)


def _union(node: Node, plain: Any, path: str, faults: list[Fault], context: Context) -> Any:
    """The first arm that takes the node without a fault; else the faults of the arm that comes nearest."""
    tried: list[tuple[Any, list[Fault]]] = []
    for arm in get_args(plain):
        if _takes(arm, node):
            found: list[Fault] = []
            value = bind(node, arm, path, found, context)
            if value is not INVALID or not found:
                return value
            tried.append((arm, found))
    if isinstance(node, Scalar) and len(tried) > 1:
        tried = [(arm, found) for arm, found in tried if not found[0].what.startswith(f"expected {describe(arm)}, got")]
    if not tried:
        return wrong(node, describe(plain), path, faults)
    faults.extend(min(tried, key=lambda arm: len(arm[1]))[1])
    return INVALID


def _struct(node: Node, plain: Any, path: str, faults: list[Fault], context: Context) -> Any:
    if not isinstance(node, Mapping):
        return wrong(node, "a map", path, faults)
    shape, before, values = settings_keys(plain), len(faults), {}
    misspelt = _unknown_keys(node, plain, path, faults)
    for key, field in shape.items():
        entry = node.entries.get(key)
        if entry is not None:
            values[field.name] = bind(entry.value, field.type, child(path, key), faults, context)
        elif field.required and key not in misspelt:
            faults.append(node.at.fault(f"{key!r} is needed", path))
    if len(faults) > before or INVALID in values.values():
        if isinstance(context, Draft):
            _keep_struct(node, plain, values, misspelt, path, context)
        return INVALID
    try:
        return plain(**values)
    except ValueError as exc:
        faults.append(node.at.fault(str(exc), path))
        return INVALID


def _keep_struct(
    node: Mapping, plain: Any, values: dict[str, Any], misspelt: dict[str, str], path: str, context: Draft
) -> None:
    """Keep a faulty map: misspelt keys are taken for what they seem to mean, and wrong single values left out."""
    rough = {}
    for key, field in settings_keys(plain).items():
        spelled = key if key in node.entries else misspelt.get(key)
        if spelled is None:
            continue
        there = node.entries[spelled].value
        value = values[field.name] if spelled == key else bind(there, field.type, child(path, spelled), [], context)
        value = _rough(value, child(path, spelled), context)
        if value is not INVALID:
            rough[field.name] = value
        elif not isinstance(there, Scalar):
            return  # the default of a list or map would deny names that are given
    with contextlib.suppress(TypeError, ValueError):  # something that is needed is missing, or does not go together
        context.rough[path] = plain(**rough)


def _rough(value: Any, path: str, context: Context) -> Any:
    return context.rough.get(path, INVALID) if value is INVALID and isinstance(context, Draft) else value


def _keep(rough: Any, parts: Container[Any], path: str, context: Context) -> Invalid:
    """Keep what could be bound of something faulty, unless a part of it could not be at all."""
    if isinstance(context, Draft) and INVALID not in parts:
        context.rough[path] = rough
    return INVALID


@functools.cache
def settings_keys(struct: Any) -> dict[str, msgspec.structs.FieldInfo]:
    """The fields of a settings type by their keys in YAML."""
    return {
        field.name[:-1] if field.name == field.encode_name and field.name.endswith("_") else field.encode_name: field
        for field in fields(struct)
    }


def _unknown_keys(node: Mapping, plain: Any, path: str, faults: list[Fault]) -> dict[str, str]:
    """Tell of keys that a settings type does not have; return those that are perhaps meant, and how they are spelt."""
    known, misspelt = list(settings_keys(plain)), {}
    planned: frozenset[str] = getattr(plain, "planned", frozenset())
    for count, name in enumerate(name for name in node.entries if name not in known):
        near = difflib.get_close_matches(name, known, 1) if count < MOST_SUGGESTIONS and len(name) < 60 else []
        what = f"unknown key {name!r}"
        if name in planned:
            what = f"{name!r} is not built yet"
        elif near:
            what += f", did you mean {near[0]!r}?"
            misspelt[near[0]] = name
        elif 0 < len(known) <= MOST_LISTED:
            what += f"; known are {', '.join(known)}"
        faults.append(node.entries[name].key.at.fault(what, path))
    return misspelt


def _takes(type_: Any, node: Node) -> bool:
    """Tell whether a type is of the node's kind: null, scalar, list or map."""
    plain, marks = _unwrap(type_)
    for mark in marks:
        if hasattr(mark, "bind"):
            return isinstance(node, getattr(mark, "takes", _KINDS))
    origin = get_origin(plain) or plain
    if origin in (Union, types.UnionType):
        return any(_takes(arm, node) for arm in get_args(plain))
    if plain in (Any, object):
        return True
    if plain is type(None):
        return isinstance(node, Scalar) and node.value is None
    if origin is Literal or origin in _SCALARS:
        return isinstance(node, Scalar)
    return isinstance(node, Sequence if origin in _LISTS else Mapping)


def _word(choice: Any) -> str:
    return choice if isinstance(choice, str) else json.dumps(choice)


def _either(names: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _within(value: Any, meta: msgspec.Meta, node: Node, path: str, faults: list[Fault], unit: str) -> Any:
    for limit, holds, expected in _LIMITS:
        bound = getattr(meta, limit)
        if bound is not None and not holds(value, bound):
            return wrong(node, f"{expected.format(bound)} {unit}".rstrip(), path, faults)
    return value
