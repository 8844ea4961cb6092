"""The values that expressions compute with, beyond those of JSON: instants, spans of time, and the unknown."""

import math
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Self

SECOND: Final = 1_000_000_000  # nanoseconds
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
TIMESTAMP_MIN: Final = -62_135_596_800 * SECOND  # 0001-01-01T00:00:00Z
TIMESTAMP_MAX: Final = 253_402_300_800 * SECOND - 1  # the last nanosecond of 9999
TEXT_LIMIT: Final = 64 * 1024  # characters of a text that an expression builds
LIST_LIMIT: Final = 10_000  # items of a list that an expression builds


@dataclass(frozen=True, slots=True)
class Unknown:
    """What an expression is when its data do not say; never true, never false."""

    reason: str

    def __bool__(self) -> NoReturn:
        raise TypeError(f"unknown is neither true nor false: {self.reason}")


class Span(int):
    """Whole nanoseconds: an int, so that comparing two costs what comparing ints costs."""

    __slots__ = ()

    @classmethod
    def from_seconds(cls, seconds: float) -> Self:
        """Exact for ints; a float is taken to the microsecond, what a double can tell of our time."""
        if isinstance(seconds, int):
            return cls(seconds * SECOND)
        microseconds = seconds * 1_000_000
        if not math.isfinite(microseconds):
            raise ValueError(f"{seconds} is no time")
        return cls(round(microseconds) * 1_000)

    @property
    def seconds(self) -> float:
        return int(self) / SECOND

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self)})"


class Timestamp(Span):
    """Nanoseconds since 1970 UTC. In the language it equals no number, though in Python it is one."""

    __slots__ = ()


class Duration(Span):
    """Nanoseconds between two instants; 64 bits of them, 292 years, as in CEL."""

    __slots__ = ()


Value = Any  # None, bool, int, float, str, list, tuple, dict, Timestamp, Duration or Unknown
Truth = bool | Unknown

KINDS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    list: "list",
    tuple: "list",
    dict: "map",
    Timestamp: "timestamp",
    Duration: "duration",
    Unknown: "unknown",
}


def kind(value: Value) -> str:
    return KINDS.get(type(value)) or f"Python's {type(value).__name__}"


def integer(value: int, what: str) -> int | Unknown:
    return int(value) if INT_MIN <= value <= INT_MAX else Unknown(f"{what} overflows 64 bits")


def timestamp(nanoseconds: int) -> Timestamp | Unknown:
    if TIMESTAMP_MIN <= nanoseconds <= TIMESTAMP_MAX:
        return Timestamp(nanoseconds)
    return Unknown("the timestamp is outside the years 1 to 9999")


def duration(nanoseconds: int) -> Duration | Unknown:
    if INT_MIN <= nanoseconds <= INT_MAX:
        return Duration(nanoseconds)
    return Unknown("the duration is beyond 292 years")
