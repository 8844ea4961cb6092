"""Operators on any two values: what generated code calls where its fast path does not apply."""

import math
import operator
from collections.abc import Callable
from typing import Any, Final

from exhaust.expressions.values import (
    INT_MAX,
    INT_MIN,
    LIST_LIMIT,
    TEXT_LIMIT,
    Duration,
    Timestamp,
    Truth,
    Unknown,
    Value,
    duration,
    integer,
    kind,
    timestamp,
)

Binary = Callable[[Any, Any], Value]


def refused(sign: str, *operands: Value) -> Unknown:
    for operand in operands:
        if type(operand) is Unknown:
            return operand
    return Unknown(f"'{sign}' is not for {' and '.join(map(kind, operands))}")


# Arithmetic: a table from the operands' types to the function


def _whole(sign: str, compute: Callable[[int, int], int]) -> Binary:
    return lambda left, right: integer(compute(left, right), f"'{sign}'")


def _floating(compute: Callable[[float, float], float]) -> Binary:
    return lambda left, right: compute(_double(left), _double(right))


def _double(value: float) -> float:
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        return math.inf if value > 0 else -math.inf
    return float(value)


def _quotient(left: int, right: int) -> Value:
    if right == 0:
        return Unknown("division by zero")
    # exact while it can be: a double has 53 bits
    return integer(left // right, "'/'") if left % right == 0 else _double(left) / _double(right)


def _ratio(left: float, right: float) -> Value:
    return _double(left) / _double(right) if right != 0 else Unknown("division by zero")


def _remainder(left: int, right: int) -> Value:
    if right == 0:
        return Unknown("division by zero")
    if right == -1:
        return Unknown("'%' overflows 64 bits") if left <= INT_MIN else 0
    size = abs(left) % abs(right)
    return integer(-size if left < 0 else size, "'%'")


def _joined_text(left: str, right: str) -> Value:
    if len(left) + len(right) > TEXT_LIMIT:
        return Unknown(f"a text of more than {TEXT_LIMIT:,} characters")
    return left + right


def _joined_lists(left: Any, right: Any) -> Value:
    if len(left) + len(right) > LIST_LIMIT:
        return Unknown(f"a list of more than {LIST_LIMIT:,} items")
    return [*left, *right]


def _instant(compute: Callable[[int, int], int]) -> Binary:
    return lambda left, right: timestamp(compute(int(left), int(right)))


def _span(compute: Callable[[int, int], int]) -> Binary:
    return lambda left, right: duration(compute(int(left), int(right)))


def _numbers(whole: Binary, floating: Binary) -> dict[tuple[type, type], Binary]:
    return {(int, int): whole, (int, float): floating, (float, int): floating, (float, float): floating}


_LISTS: Final = ((list, list), (list, tuple), (tuple, list), (tuple, tuple))
_TABLES: Final[dict[str, dict[tuple[type, type], Binary]]] = {
    "+": {
        **_numbers(_whole("+", operator.add), _floating(operator.add)),
        (str, str): _joined_text,
        **dict.fromkeys(_LISTS, _joined_lists),
        (Timestamp, Duration): _instant(operator.add),
        (Duration, Timestamp): _instant(operator.add),
        (Duration, Duration): _span(operator.add),
    },
    "-": {
        **_numbers(_whole("-", operator.sub), _floating(operator.sub)),
        (Timestamp, Timestamp): _span(operator.sub),
        (Timestamp, Duration): _instant(operator.sub),
        (Duration, Duration): _span(operator.sub),
    },
    "*": _numbers(_whole("*", operator.mul), _floating(operator.mul)),
    "/": _numbers(_quotient, _ratio),
    "%": {(int, int): _remainder},
}


def _arithmetic(sign: str) -> Binary:
    table = _TABLES[sign]

    def compute(left: Value, right: Value) -> Value:
        body = table.get((type(left), type(right)))
        return body(left, right) if body else refused(sign, left, right)

    return compute


ARITHMETIC: Final = {sign: _arithmetic(sign) for sign in _TABLES}


def negative(value: Value) -> Value:
    if type(value) is int:
        return integer(-value, "'-'")
    return -value if type(value) is float else refused("-", value)


# Comparison

_GROUPS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "bool",
    int: "number",
    float: "number",
    str: "string",
    list: "list",
    tuple: "list",
    dict: "map",
    Timestamp: "timestamp",
    Duration: "duration",
}
_ORDERED: Final = frozenset({bool, int, float, str, Timestamp, Duration})


def _ordering(sign: str, holds: Callable[[Any, Any], bool]) -> Callable[[Value, Value], Truth]:
    def compare(left: Value, right: Value) -> Truth:
        comparable = type(left) in _ORDERED and _GROUPS[type(left)] == _GROUPS.get(type(right))
        return holds(left, right) if comparable else refused(sign, left, right)

    return compare


def equal(left: Value, right: Value) -> Truth:
    if type(left) not in _GROUPS or type(right) not in _GROUPS:
        return refused("==", left, right)
    try:
        return _same(left, right)
    except RecursionError:
        return Unknown("nested too deeply to compare")


def _same(left: Value, right: Value) -> bool:
    group = _GROUPS.get(type(left))
    if group is None or group != _GROUPS.get(type(right)):
        return False
    if group == "list":
        return len(left) == len(right) and all(map(_same, left, right))
    if group == "map":
        return len(left) == len(right) and all(key in right and _same(left[key], right[key]) for key in left)
    return bool(left == right)


def unequal(left: Value, right: Value) -> Truth:
    return inverse(equal(left, right))


def member(item: Value, container: Value) -> Truth:
    if type(item) not in _GROUPS or type(container) not in (list, tuple, dict):
        return refused("in", item, container)
    if type(container) is dict:
        return type(item) in (str, int, float) and container.get(item) is not None
    if type(item) is str:
        return item in container  # a string equals nothing else, in Python as in CEL
    try:
        return any(_same(item, other) for other in container)
    except RecursionError:
        return Unknown("nested too deeply to compare")


COMPARISONS: Final[dict[str, Callable[[Value, Value], Truth]]] = {
    "==": equal,
    "!=": unequal,
    "<": _ordering("<", operator.lt),
    "<=": _ordering("<=", operator.le),
    ">": _ordering(">", operator.gt),
    ">=": _ordering(">=", operator.ge),
    "in": member,
}


# Logic


def condition(value: Value) -> Truth:
    """A value where a condition is wanted: any but true and false is unknown."""
    if value is True or value is False or type(value) is Unknown:
        return value
    return Unknown(f"the condition is {kind(value)}, neither true nor false")


def inverse(value: Value) -> Truth:
    return not value if type(value) is bool else refused("!", value)
