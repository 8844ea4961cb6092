"""Durations such as 1h30m and sizes such as 64MiB, as YAML and expressions write them."""

import re
from fractions import Fraction
from typing import Final

from exhaust.expressions.values import INT_MAX, INT_MIN, SECOND, Duration

_UNITS: Final = {
    "d": 86_400 * SECOND,
    "h": 3_600 * SECOND,
    "m": 60 * SECOND,
    "s": SECOND,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "ns": 1,
}
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_PART = re.compile(rf"({_NUMBER})(ms|us|µs|ns|d|h|m|s)")
_DURATION = re.compile(rf"([+-]?)((?:{_PART.pattern})+|0)")
_SIZE = re.compile(rf"({_NUMBER})(B|[kKMGTP]B|[KMGTP]iB)")
_LONGEST: Final = 64  # characters; more is no number that a person wrote


def parse_duration(text: str) -> Duration:
    """`500ms 30s 5m 2h 7d`, parts of them in a row (`1h30m`), fractions (`1.5h`) and a sign; ValueError else."""
    found = _DURATION.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(f"expected a duration such as 30s, got {text[:_LONGEST]!r}")
    total = sum((Fraction(number) * _UNITS[unit] for number, unit in _PART.findall(found[2])), Fraction(0))
    nanoseconds = int(-total if found[1] == "-" else total)
    if not INT_MIN <= nanoseconds <= INT_MAX:
        raise ValueError(f"the duration {text!r} is beyond 292 years")
    return Duration(nanoseconds)


def parse_quantity(text: str) -> int:
    """Bytes of `64MiB`: B, KB MB GB TB PB by thousands, KiB MiB GiB TiB PiB by 1024; ValueError else."""
    found = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(f"expected a size such as 64MiB, got {text[:_LONGEST]!r}")
    size = Fraction(found[1]) * _bytes(found[2])
    if size.denominator != 1 or size > INT_MAX:
        raise ValueError(f"the size {text!r} is not a whole number of bytes within 64 bits")
    return int(size)


def _bytes(unit: str) -> int:
    power = " KMGTP".index(unit[0].upper()) if unit != "B" else 0
    return int((1024 if "i" in unit else 1000) ** power)


def format_duration(duration: Duration) -> str:
    """The largest units first, as `parse_duration` reads them: 1h30m, 2s500ms, -7d."""
    left = abs(int(duration))
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us", "ns"):
        count, left = divmod(left, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if duration < 0 else "") + ("".join(parts) or "0s")
