"""The configuration as a JSON Schema (draft-07, which editors understand best): for completion and checks while typing.

What editors cannot know (what expressions read, what sections name of each other) is left to `exhaust check`.
"""

import inspect
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from exhaust.catalogue import Catalogue
from exhaust.documents.binding import settings_keys
from exhaust.documents.nodes import Mapping as MapNode
from exhaust.documents.nodes import Scalar, Sequence
from exhaust.inventory import Host
from exhaust.people import Person
from exhaust.sections import SINGLES

Schema = dict[str, Any]

# A scalar of our YAML is text wherever text is expected, be it spelled like a number or a truth value.
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
}
_LIMITS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "pattern": "pattern",
    "min_length": "minLength",
    "max_length": "maxLength",
}
_NODES: dict[Any, Schema] = {Scalar: _SCALAR, Sequence: {"type": "array"}, MapNode: {"type": "object"}}
_TITLE = "Exhaust's configuration"


def schema(catalogue: Catalogue) -> Schema:
    """Return the schema of a file of the configuration, with every plug-in of this installation."""
    definitions: dict[str, Schema] = {}
    properties = {name: _of(type_, definitions) for name, type_ in SINGLES.items()}
    properties |= {
        "hosts": _list(_of(Host, definitions)),
        "emitters": _list(_one_of(catalogue.emitters, definitions)),
        "analyzers": _list(_one_of(catalogue.analyzers, definitions)),
        "adapters": _list(_one_of(catalogue.adapters, definitions)),
        "rules": _list(_of(catalogue.rule, definitions)),
        "workflows": _list(_of(catalogue.workflow, definitions)),
        "people": _list(_of(Person, definitions)),
        "lists": {"type": "object", "additionalProperties": {"type": "array"}},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": _TITLE,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "definitions": dict(sorted(definitions.items())),
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _one_of(plugins: Mapping[str, Any], definitions: dict[str, Schema]) -> Schema:
    """Return what an entry may be: `use` says which plug-in it is of."""
    return {"anyOf": [_entry(name, plugin, definitions) for name, plugin in sorted(plugins.items())]}


def _entry(name: str, plugin: Any, definitions: dict[str, Schema]) -> Schema:
    own = _struct(plugin.settings, definitions)
    properties = {"use": {"const": name}, "name": {"type": "string"}, **own["properties"]}
    properties["use"] = {"const": name}
    required = sorted({"use", *own.get("required", ())})
    return {**own, "properties": properties, "required": required}


def _of(type_: Any, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of a setting's type."""
    if get_origin(type_) is Annotated:
        return _annotated(type_, definitions)
    origin, inner = get_origin(type_) or type_, get_args(type_)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(one, definitions) for one in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        name = f"{origin.__module__}.{origin.__name__}"
        if name not in definitions:
            definitions[name] = {}  # it may hold itself
            definitions[name] = _struct(origin, definitions)
        return {"$ref": f"#/definitions/{name}"}
    if isinstance(origin, type) and issubclass(origin, list | tuple):
        return _list(_of(inner[0], definitions) if inner else {})
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of(inner[1], definitions) if inner else True}
    return dict(_PLAIN.get(origin, {}))


def _annotated(type_: Any, definitions: dict[str, Schema]) -> Schema:
    plain, *marks = get_args(type_)
    form = next((mark for mark in marks if hasattr(mark, "bind")), None)
    found = _of(plain, definitions) if form is None else _form(form)
    for mark in marks:
        if isinstance(mark, msgspec.Meta) and form is None:  # a form's limits are of what it gives, not of its text
            limits = {_LIMITS[name]: getattr(mark, name) for name in _LIMITS if getattr(mark, name) is not None}
            found = {**found, **limits}
    return found


def _form(form: Any) -> Schema:
    if hasattr(form, "schema"):
        return dict(form.schema)
    text = {"description": form.expected} if hasattr(form, "expected") else {}
    kinds = [kind for node, kind in _NODES.items() if node in getattr(form, "takes", ())]
    return {**text, "anyOf": kinds} if kinds else text


def _struct(type_: Any, definitions: dict[str, Schema]) -> Schema:
    keys = settings_keys(type_)
    shown = {
        "type": "object",
        "description": inspect.cleandoc(type_.__doc__ or ""),
        "properties": {key: _of(field.type, definitions) for key, field in keys.items()},
        "additionalProperties": False,
    }
    required = [key for key, field in keys.items() if field.required]
    return {**shown, "required": required} if required else shown
