"""Timestamps as text and as the parts of a calendar, in UTC or another zone."""

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from exhaust.expressions.values import (
    SECOND,
    TIMESTAMP_MAX,
    TIMESTAMP_MIN,
    Duration,
    Timestamp,
    Unknown,
    Value,
    kind,
)

_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,18}))?(?:[Zz]|([+-][0-9]{2}:[0-9]{2}))"
)
_OFFSET = re.compile(r"([+-]?)([0-9]{2}):([0-9]{2})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_timestamp(text: str) -> Timestamp:
    """RFC 3339, `2024-01-01T00:00:00Z`, to the nanosecond; ValueError for other text and outside years 1 to 9999."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(f"expected a timestamp such as 2024-01-01T00:00:00Z, got {text[:64]!r}")
    day, clock, fraction, offset = found.groups()
    local = datetime.fromisoformat(f"{day}T{clock}+00:00")
    seconds = (local - _EPOCH) // timedelta(seconds=1) - (_offset(offset) if offset else 0)
    nanoseconds = seconds * SECOND + int((fraction or "0")[:9].ljust(9, "0"))
    if not TIMESTAMP_MIN <= nanoseconds <= TIMESTAMP_MAX:
        raise ValueError(f"the timestamp {text!r} is outside the years 1 to 9999")
    return Timestamp(nanoseconds)


def format_timestamp(timestamp: Timestamp) -> str | Unknown:
    """Return it as RFC 3339 has it, with the fraction of a second that it has; unknown outside the years 1 to 9999."""
    if not TIMESTAMP_MIN <= timestamp <= TIMESTAMP_MAX:
        return Unknown("the timestamp is outside the years 1 to 9999")
    seconds, nanoseconds = divmod(int(timestamp), SECOND)
    moment = _EPOCH + timedelta(seconds=seconds)
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    # isoformat, as strftime leaves out the zeros before a year such as 42
    return f"{moment.replace(tzinfo=None).isoformat()}{fraction}Z"


def _offset(text: str) -> int:
    found = _OFFSET.fullmatch(text)
    if found is None or int(found[2]) > 23 or int(found[3]) > 59:
        raise ValueError(f"{text!r} is no offset from UTC such as +02:00")
    seconds = int(found[2]) * 3600 + int(found[3]) * 60
    return -seconds if found[1] == "-" else seconds


@functools.lru_cache(maxsize=256)
def zone(name: str) -> tzinfo | Unknown:
    """`Europe/Amsterdam` or `+02:00`; failures are cached too, as a lookup reads the disk."""
    try:
        return timezone(timedelta(seconds=_offset(name))) if _OFFSET.fullmatch(name) else ZoneInfo(name)
    except (ValueError, LookupError, OSError):
        return Unknown(f"unknown time zone {name[:64]!r}")


_OF_MOMENT: Final[dict[str, Callable[[datetime], int]]] = {
    "getFullYear": lambda moment: moment.year,
    "getMonth": lambda moment: moment.month - 1,
    "getDate": lambda moment: moment.day,
    "getDayOfMonth": lambda moment: moment.day - 1,
    "getDayOfWeek": lambda moment: moment.isoweekday() % 7,
    "getDayOfYear": lambda moment: moment.timetuple().tm_yday - 1,
    "getHours": lambda moment: moment.hour,
    "getMinutes": lambda moment: moment.minute,
    "getSeconds": lambda moment: moment.second,
    "getMilliseconds": lambda moment: moment.microsecond // 1000,
}
_OF_DURATION: Final = {"getHours": 3600 * SECOND, "getMinutes": 60 * SECOND, "getSeconds": SECOND}
PARTS: Final = tuple(_OF_MOMENT)


def part(name: str) -> Callable[..., Value]:
    """The function behind `x.getHours()`, with or without a zone."""

    def read(value: Value, where: Value = "UTC") -> Value:
        if type(value) is Duration and where == "UTC":
            return _of_duration(name, value)
        if type(value) is not Timestamp or type(where) is not str:
            return Unknown(f"{name}() is not for {kind(value)}")
        place = zone(where)
        return place if isinstance(place, Unknown) else _of_timestamp(name, value, place)

    return read


def _of_timestamp(name: str, value: Timestamp, place: tzinfo) -> int | Unknown:
    try:
        moment = _EPOCH + timedelta(microseconds=value // 1000)
        return _OF_MOMENT[name](moment.astimezone(place))
    except (OverflowError, ValueError):
        return Unknown("the timestamp is outside the years 1 to 9999")


def _of_duration(name: str, value: Duration) -> int | Unknown:
    total = abs(int(value))
    sign = -1 if value < 0 else 1
    if name in _OF_DURATION:
        return sign * (total // _OF_DURATION[name])
    if name == "getMilliseconds":
        return sign * (total % SECOND // 1_000_000)
    return Unknown(f"{name}() is not for duration")
