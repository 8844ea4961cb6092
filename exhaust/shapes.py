"""The shapes of what expressions read: records, hosts, causes, windows, runs; for `check_types` to hold them to."""

from collections.abc import Iterable, Mapping
from typing import Final

from exhaust.expressions.shape import (
    BOOL,
    DURATION,
    DYNAMIC,
    INT,
    LIST,
    MAP,
    NUMBER,
    STRING,
    TIMESTAMP,
    Shape,
    either,
    map_of,
    object_of,
    optional,
)

LABELS: Final = map_of(STRING)
HOST: Final = object_of({"name": STRING, "labels": LABELS, "known": BOOL})

CAUSE: Final = object_of(
    {
        **dict.fromkeys(("id", "kind", "name", "host"), STRING),
        "labels": LABELS,
        **dict.fromkeys(("state", "severity"), STRING),
        "since": TIMESTAMP,
        "value": DYNAMIC,
        "summary": STRING,
        # of a prediction alone; which of both a cause is, nobody knows beforehand
        "due": TIMESTAMP,
        "probability": NUMBER,
        "horizon": DYNAMIC,
    }
)
"""A fact or a prediction: `cause`, `fact`, `prediction`, and each alias under `given`."""

EXECUTION: Final = object_of(
    {**dict.fromkeys(("id", "workflow", "host", "rule", "state", "verdict"), STRING), "attempt": INT}
)
TASK: Final = object_of({"state": STRING, "output": DYNAMIC, "error": STRING})
TASKS: Final = map_of(TASK)

_FIGURES: Final = ("count", "sum", "mean", "min", "max", "p50", "p95", "rate", "change", "hosts", "share")
WINDOW: Final = object_of({**dict.fromkeys(_FIGURES, NUMBER), "full": BOOL})

_OF_FIELDS: Final[Mapping[str, Shape]] = {
    "string": STRING,
    "bool": BOOL,
    "int": INT,
    "double": NUMBER,  # JSON has one kind of number: a double that is whole may arrive as an int
    "timestamp": either(TIMESTAMP, NUMBER),  # a batch carries it as seconds
    "list": LIST,
    "map": MAP,
}
_OF_INPUTS: Final[Mapping[str, Shape]] = {
    **dict.fromkeys(("string", "ip", "path", "host", "process"), STRING),
    **dict.fromkeys(("int", "size"), INT),
    "double": NUMBER,
    "bool": BOOL,
    "duration": DURATION,
    "timestamp": TIMESTAMP,
    "list": LIST,
    "map": MAP,
}


def record_shape(fields: Mapping[str, str]) -> Shape:
    """The records of a stream, by its schema (`int: its main process`); anything, where it has none."""
    if not fields:
        return DYNAMIC
    types = {name: _OF_FIELDS.get(text.partition(":")[0].strip(), DYNAMIC) for name, text in fields.items()}
    return object_of({**types, "time": NUMBER})


def records_shape(streams: Iterable[Mapping[str, str]]) -> Shape:
    """The records of any of several streams, as a glob under `on` matches them; anything, if it matches none."""
    shapes = [record_shape(fields) for fields in streams]
    return either(*shapes) if shapes else DYNAMIC


def with_fields(record: Shape, names: Iterable[str]) -> Shape:
    """The same records with fields added, of which nothing but the names is known, as `extract` does."""
    if record.fields is None:
        return record
    return object_of({**record.fields, **dict.fromkeys(names, DYNAMIC)})


def inputs_shape(types: Mapping[str, str]) -> Shape:
    """A workflow's `inputs`, by name and type."""
    return object_of({name: _OF_INPUTS.get(type_, DYNAMIC) for name, type_ in types.items()})


def tasks_shape(names: Iterable[str]) -> Shape:
    """A workflow's `tasks`, where their names are known."""
    return object_of(dict.fromkeys(names, TASK))


def lists_shape(names: Iterable[str]) -> Shape:
    """The `lists` of a configuration, where its names are known."""
    return object_of(dict.fromkeys(names, LIST))


def travelled(shape: Shape) -> Shape:
    """What has come as JSON, as a watch's variables have: times may be seconds."""
    kinds = shape.kinds | NUMBER.kinds if shape.may_be(TIMESTAMP.kinds | DURATION.kinds) else shape.kinds
    fields = shape.fields and {name: travelled(field) for name, field in shape.fields.items()}
    return Shape(kinds, fields, shape.items and travelled(shape.items))


# Each place's variables, without those that only a configuration can tell: `record`, `inputs`, and the names of `lists`

ANALYZER: Final[Mapping[str, Shape]] = {
    "time": TIMESTAMP,
    "host": optional(HOST),
    "lists": map_of(LIST),
    "window": WINDOW,
    "fact": CAUSE,
    "prediction": CAUSE,
}
RULE: Final[Mapping[str, Shape]] = {
    "cause": CAUSE,
    "host": optional(HOST),
    "facts": map_of(CAUSE),
    "now": TIMESTAMP,
    "lists": map_of(LIST),
}
WORKFLOW: Final[Mapping[str, Shape]] = {
    "cause": optional(CAUSE),
    "host": optional(HOST),
    "tasks": TASKS,
    "execution": EXECUTION,
    "now": TIMESTAMP,
    "lists": map_of(LIST),
    "secret": map_of(STRING),
}
VERIFY: Final[Mapping[str, Shape]] = {
    **WORKFLOW,
    "time": TIMESTAMP,
    "window": WINDOW,
    "cause": optional(travelled(CAUSE)),
}
