"""What leaves an expression: a verdict, JSON, or text."""

import json
import math

from exhaust.expressions.functions import number_text
from exhaust.expressions.operators import condition
from exhaust.expressions.quantities import format_duration
from exhaust.expressions.times import format_timestamp
from exhaust.expressions.values import Duration, Timestamp, Unknown, Value, kind

__all__ = ["condition", "to_json", "to_text", "truth"]


def truth(value: Value) -> bool | None:
    """True, False, or None for unknown; `condition` tells why."""
    found = condition(value)
    return None if isinstance(found, Unknown) else found


def to_json(value: Value) -> Value:
    """Times as seconds, whole doubles as integers, what JSON's numbers lack as text; an unknown inside is null.

    ValueError for what no expression yields, and for what is nested too deeply.
    """
    try:
        return _json(value)
    except RecursionError:
        raise ValueError("nested too deeply for JSON") from None


def _json(value: Value) -> Value:
    match value:
        case None | bool() | str():
            return value
        case Timestamp() | Duration():
            return _number(value.seconds)
        case int():
            return int(value)
        case float():
            return _number(value)
        case list() | tuple():
            return [_json(item) for item in value]
        case dict():
            return {str(key): _json(item) for key, item in value.items()}
        case Unknown():
            return None
    raise ValueError(f"{kind(value)} has no JSON")


def _number(value: float) -> int | float | str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return int(value) if value.is_integer() and abs(value) < 2**63 else value


def to_text(value: Value) -> str | Unknown:
    """A value within literal text; null has none."""
    match value:
        case Unknown():
            return value
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case Timestamp():
            return format_timestamp(value)
        case Duration():
            return format_duration(value)
        case int():
            return str(int(value))
        case float():
            return number_text(value)
        case list() | tuple() | dict():
            return _document(value)
    return Unknown(f"{kind(value)} has no text")


def _document(value: Value) -> str | Unknown:
    try:
        return json.dumps(to_json(value), ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        return Unknown(str(error))
