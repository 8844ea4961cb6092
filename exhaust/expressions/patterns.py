"""Regular expressions in RE2's syntax, whose time grows only linearly with the text."""

import functools
from collections.abc import Callable
from typing import Any, Final

import re2

from exhaust.expressions.values import Unknown, Value, kind

_LONGEST: Final = 1_000  # characters of a pattern
_MEMORY: Final = 1 << 20  # bytes that a compiled pattern may take


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False  # the library writes to stderr by itself otherwise
    options.max_mem = _MEMORY
    return options


_OPTIONS: Final = _options()


def compile_pattern(pattern: str) -> Callable[[str], object]:
    """The search for `pattern` in a text; ValueError if it is none, or too large."""
    if len(pattern) > _LONGEST:
        raise ValueError(f"the pattern has more than {_LONGEST:,} characters")
    try:
        return re2.compile(pattern, _OPTIONS).search  # type: ignore[no-any-return]  # re2 has no annotations
    except re2.error as error:
        detail = error.args[0]
        text = detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)
        raise ValueError(f"the pattern is not RE2's: {text}") from error
    except UnicodeEncodeError as error:
        raise ValueError("the pattern is not Unicode") from error


@functools.lru_cache(maxsize=256)
def _cached(pattern: str) -> Callable[[str], object] | Unknown:
    try:
        return compile_pattern(pattern)
    except ValueError as error:
        return Unknown(str(error))


def matches(text: Value, pattern: Value) -> Value:
    if type(text) is not str or type(pattern) is not str:
        return Unknown(f"matches() is not for {kind(text)} and {kind(pattern)}")
    search = _cached(pattern)
    return search if isinstance(search, Unknown) else found(search, text)


def found(search: Callable[[str], object], text: Value) -> Value:
    if type(text) is not str:
        return text if type(text) is Unknown else Unknown(f"matches() is not for {kind(text)}")
    try:
        return search(text) is not None
    except UnicodeEncodeError:
        return Unknown("the text to match is not Unicode")
