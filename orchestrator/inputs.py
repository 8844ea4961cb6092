"""What a run is given, checked against what its workflow wants: a value of another type refuses the run."""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from exhaust.expressions import Duration as Span
from exhaust.expressions import Timestamp, parse_duration, parse_quantity, parse_timestamp
from exhaust.expressions.values import TIMESTAMP_MAX, TIMESTAMP_MIN
from exhaust.plugins import Settings

InputType = Literal[
    "string", "int", "double", "bool", "duration", "size", "timestamp", "list", "map", "host", "path", "ip", "process"
]

_MISSING = object()
_PROCESS = re.compile(r"[0-9]+@[0-9]+")


class Input(Settings, frozen=True, kw_only=True):
    """What a run must be given; a value of another type refuses the run."""

    planned: ClassVar[frozenset[str]] = frozenset({"not_in", "under"})

    type: InputType
    default: Any = None
    one_of: list[Any] | None = None


class InputError(ValueError):
    """Says which input, what it is, and what was wanted."""


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(value)
    return value


def _int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)


def _double(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(number := float(value)):
        raise ValueError(value)
    return number


def _bool(value: Any) -> bool:
    return value if isinstance(value, bool) else {"true": True, "false": False}[value]


def _path(value: Any) -> str:
    text = _text(value)
    if not text.startswith("/") or ".." in text.split("/"):
        raise ValueError(value)
    return text


def _process(value: Any) -> str:
    """PID@START, START being field 22 of /proc/PID/stat; the agent compares both before it acts."""
    text = _text(value)
    if not _PROCESS.fullmatch(text):
        raise ValueError(value)
    return text


def _timestamp(value: Any) -> Timestamp:
    if not isinstance(value, int | float):
        return parse_timestamp(value)
    found = Timestamp.from_seconds(_double(value))
    if not TIMESTAMP_MIN <= found <= TIMESTAMP_MAX:
        raise ValueError(value)
    return found


def _span(value: Any) -> Span:
    return Span.from_seconds(_double(value)) if isinstance(value, int | float) else parse_duration(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(value)
    return value


def _map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(value)
    return value


_PARSERS: dict[InputType, Callable[[Any], Any]] = {
    "string": _text,
    "host": _text,
    "int": _int,
    "double": _double,
    "bool": _bool,
    "duration": _span,
    "size": lambda value: _int(value) if isinstance(value, int | float) else parse_quantity(value),
    "timestamp": _timestamp,
    "ip": lambda value: str(ipaddress.ip_address(_text(value))),
    "path": _path,
    "process": _process,
    "list": _list,
    "map": _map,
}


def parse_inputs(wanted: Mapping[str, InputType | Input], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the typed inputs; raise InputError for one that is missing, unknown or of another type."""
    for name in given:
        if name not in wanted:
            raise InputError(f"input '{name}' is not one of this workflow's: {', '.join(wanted) or 'it has none'}")
    return {name: _parse(name, spec, given.get(name, _MISSING)) for name, spec in wanted.items()}


def _parse(name: str, spec: InputType | Input, value: Any) -> Any:
    wanted = spec if isinstance(spec, Input) else Input(type=spec)
    if value is _MISSING or value is None:
        value = wanted.default
    if value is None:
        raise InputError(f"input '{name}' is needed")
    try:
        parsed = _PARSERS[wanted.type](value)
    except (ValueError, TypeError, KeyError, OverflowError) as exc:
        raise InputError(f"input '{name}' should be of type {wanted.type}, got {value!r}") from exc
    if wanted.one_of is not None and parsed not in map(_PARSERS[wanted.type], wanted.one_of):
        raise InputError(f"input '{name}' should be one of {wanted.one_of}, got {value!r}")
    return parsed
