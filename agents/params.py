"""The parameters of a command, from what came in it to the action's own type; whatever does not fit is refused."""

import unicodedata
from collections.abc import Iterator
from collections.abc import Mapping as Map
from typing import Any, TypeVar, get_args

from msgspec.structs import fields

from exhaust.documents.binding import bind
from exhaust.documents.nodes import At, Entry, Fault, Mapping, Node, Scalar, Sequence
from exhaust.plugins import Settings
from exhaust.settings import INVALID, Context, DurationForm

_LONGEST = 256
_HERE = At("params", 1, 1)
S = TypeVar("S", bound=Settings)


class ParamsError(Exception):
    """Parameters that their action does not take; the text names the first."""


def parse(params: Map[str, Any], type_: type[S]) -> S:
    """Return the parameters as their type, or raise ParamsError. A duration is text such as `10s`, or seconds."""
    for text in _texts(params):
        if fault := _unsafe(text):
            raise ParamsError(f"{text[:60]!r} {fault}")
    faults: list[Fault] = []
    durations = {field.name for field in fields(type_) if _is_duration(field.type)}
    entries = {
        name: Entry(Scalar(name, name, True, _HERE), _node(_spelled(value) if name in durations else value))
        for name, value in params.items()
    }
    bound = bind(Mapping(entries, _HERE), type_, "", faults, Context())
    if bound is INVALID or faults:
        raise ParamsError(
            "; ".join(f"{fault.what} (at {fault.path})" if fault.path else fault.what for fault in faults)
        )
    assert isinstance(bound, type_)  # noqa: S101  what bind returns is Any
    return bound


def _texts(value: Any) -> Iterator[str]:
    """Yield every text inside plain data, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Map):
        for key, item in value.items():
            yield from (key, *_texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _unsafe(text: str) -> str | None:
    """Say why a text must not become part of a command line or a file's name."""
    if len(text) > _LONGEST:
        return f"is longer than {_LONGEST} characters"
    if text.startswith("-"):
        return "begins with '-', as an option would"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        return "has a control character"
    return None


def _is_duration(annotation: Any) -> bool:
    arms = (annotation, *get_args(annotation))
    return any(isinstance(mark, DurationForm) for arm in arms for mark in getattr(arm, "__metadata__", (arm,)))


def _spelled(value: Any) -> Any:
    """In messages durations are seconds; their type knows them only as people write them."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        return value
    return f"{round(value * 1000)}ms"


def _node(value: Any) -> Node:
    if isinstance(value, Map):
        return Mapping({k: Entry(Scalar(k, k, True, _HERE), _node(v)) for k, v in value.items()}, _HERE)
    if isinstance(value, list):
        return Sequence(tuple(_node(item) for item in value), _HERE)
    return Scalar(value, "" if value is None else str(value), True, _HERE)
