"""The functions of the language, by name, each with how it may be called."""

import math
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from exhaust.expressions.addresses import in_cidrs
from exhaust.expressions.operators import COMPARISONS
from exhaust.expressions.patterns import matches
from exhaust.expressions.quantities import parse_duration, parse_quantity
from exhaust.expressions.times import PARTS, format_timestamp, parse_timestamp, part
from exhaust.expressions.values import (
    INT_MAX,
    INT_MIN,
    SECOND,
    Duration,
    Timestamp,
    Truth,
    Unknown,
    Value,
    integer,
    kind,
    timestamp,
)

_MANY: Final = 1_000


class Function(NamedTuple):
    body: Callable[..., Value]
    least: int  # arguments, the receiver among them
    most: int
    receiver: bool | None = False  # True: x.f(y) only, False: f(x, y) only, None: both


# Conversions: the same value back, or one of the other type, or unknown

_INT = re.compile(r"[+-]?[0-9]{1,20}")
_DOUBLE = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_SPECIAL = re.compile(r"[+-]?(?:inf|infinity|nan)", re.IGNORECASE)
_BOOLS: Final = {
    **dict.fromkeys(("1", "t", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "false", "FALSE", "False"), False),
}


def _failed(target: str, value: Value) -> Unknown:
    shown = repr(value[:64]) if type(value) is str else kind(value)
    return Unknown(f"{target}() cannot convert {shown}")


def to_int(value: Value) -> Value:
    if type(value) is int:
        return integer(value, "int()")
    if type(value) is float and INT_MIN < value < INT_MAX:
        return int(value)
    if type(value) is str and _INT.fullmatch(value):
        return integer(int(value), "int()")
    return value // SECOND if type(value) is Timestamp else _failed("int", value)


def to_double(value: Value) -> Value:
    if type(value) is float or (type(value) is int and INT_MIN <= value <= INT_MAX):
        return float(value)
    if type(value) is not str:
        return _failed("double", value)
    if _SPECIAL.fullmatch(value):
        return float(value)
    number = float(value) if len(value) < 400 and _DOUBLE.fullmatch(value) else math.inf
    return _failed("double", value) if math.isinf(number) else number


def to_string(value: Value) -> Value:
    match value:
        case bool():
            return "true" if value else "false"
        case Timestamp():
            return format_timestamp(value)
        case Duration():
            return f"{seconds_text(value)}s"
        case int() | str():
            return str(value)
        case float():
            return number_text(value)
    return _failed("string", value)


def number_text(number: float) -> str:
    """A whole double without its .0, as it leaves in JSON too."""
    return str(int(number)) if number.is_integer() and abs(number) < 2**63 else repr(number)


def seconds_text(duration: Duration) -> str:
    whole, rest = divmod(abs(int(duration)), SECOND)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{'-' if duration < 0 else ''}{whole}{fraction}"


def to_bool(value: Value) -> Value:
    if type(value) is bool:
        return value
    return _BOOLS[value] if type(value) is str and value in _BOOLS else _failed("bool", value)


def to_timestamp(value: Value) -> Value:
    """Of text, or of seconds since 1970."""
    if type(value) is Timestamp:
        return value
    try:
        if type(value) is str:
            return parse_timestamp(value)
        if type(value) in (int, float):
            return timestamp(Timestamp.from_seconds(value))
    except ValueError as error:
        return Unknown(str(error))
    return _failed("timestamp", value)


def _of_text(name: str, parse: Callable[[str], Value], already: type) -> Callable[[Value], Value]:
    def convert(value: Value) -> Value:
        if type(value) is already:
            return value
        try:
            return parse(value) if type(value) is str else _failed(name, value)
        except ValueError as error:
            return Unknown(str(error))

    return convert


# Strings, sizes, numbers


def size(value: Value) -> Value:
    return len(value) if type(value) in (str, list, tuple, dict) else Unknown(f"size() is not for {kind(value)}")


def _of_strings(name: str, test: Callable[[str, str], bool]) -> Callable[[Value, Value], Truth]:
    def check(text: Value, other: Value) -> Truth:
        if type(text) is str and type(other) is str:
            return test(text, other)
        return Unknown(f"{name}() is not for {kind(text)} and {kind(other)}")

    return check


def _extreme(name: str, sign: str) -> Callable[..., Value]:
    better = COMPARISONS[sign]

    def choose(*arguments: Value) -> Value:
        numbers = arguments[0] if len(arguments) == 1 and type(arguments[0]) in (list, tuple) else arguments
        if not numbers or any(type(number) not in (int, float) for number in numbers):
            return Unknown(f"{name}() is for numbers, one at least")
        best = numbers[0]
        for number in numbers[1:]:
            best = number if better(number, best) is True else best
        return best

    return choose


def default(value: Value, other: Value) -> Value:
    """Never called: generated code looks at `other` only where `value` is missing."""
    return other if value is None or type(value) is Unknown else value


def strict(body: Callable[..., Value]) -> Callable[..., Value]:
    """An unknown argument is the result, before the function looks at any."""

    def call(*arguments: Any) -> Value:
        for argument in arguments:
            if type(argument) is Unknown:
                return argument
        return body(*arguments)

    return call


FUNCTIONS: Final[dict[str, Function]] = {
    "default": Function(default, 2, 2),
    "int": Function(to_int, 1, 1),
    "double": Function(to_double, 1, 1),
    "string": Function(to_string, 1, 1),
    "bool": Function(to_bool, 1, 1),
    "timestamp": Function(to_timestamp, 1, 1),
    "duration": Function(_of_text("duration", parse_duration, Duration), 1, 1),
    "quantity": Function(_of_text("quantity", parse_quantity, Unknown), 1, 1),
    "size": Function(size, 1, 1, receiver=None),
    "contains": Function(_of_strings("contains", lambda text, other: other in text), 2, 2, receiver=True),
    "startsWith": Function(_of_strings("startsWith", str.startswith), 2, 2, receiver=True),
    "endsWith": Function(_of_strings("endsWith", str.endswith), 2, 2, receiver=True),
    "matches": Function(matches, 2, 2, receiver=None),
    "in_cidrs": Function(in_cidrs, 2, 2),
    "math.least": Function(_extreme("math.least", "<"), 1, _MANY),
    "math.greatest": Function(_extreme("math.greatest", ">"), 1, _MANY),
    **{name: Function(part(name), 1, 2, receiver=True) for name in PARTS},
}
