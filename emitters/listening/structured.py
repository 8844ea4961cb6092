"""The structured data of RFC 5424: `[id name="value" …][id …]`, read in one pass, escapes and all."""

from typing import Any

_MOST_PARAMETERS = 500
_MOST_NAME = 128  # RFC 5424 allows 32

# Text that was decoded has no such characters: they stand for escapes, so that a bare quote ends a value.
_ESCAPES = (("\\\\", "\ud800", "\\"), ('\\"', "\ud801", '"'), ("\\]", "\ud802", "]"))


def structured(text: str) -> tuple[dict[str, Any], str] | None:
    """Return the data that a text begins with, and the text that follows it; None where it is malformed.

    A parameter that is there twice has the list of its values. More than 500 parameters and elements are malformed.
    """
    escaped = "\\" in text
    if escaped:
        for escape, mark, _ in _ESCAPES:  # the first pairs backslashes, from left to right
            text = text.replace(escape, mark)
    data: dict[str, Any] = {}
    at, left = 0, _MOST_PARAMETERS
    while text.startswith("[", at):
        element = _element(text, at + 1, data, left)
        if element is None:
            return None
        at, left = element
    if not at or text[at : at + 1] not in ("", " "):
        return None
    rest = text[at + 1 :]
    return ({name: _plain(found) for name, found in data.items()}, _whole(rest)) if escaped else (data, rest)


def _element(text: str, at: int, data: dict[str, Any], left: int) -> tuple[int, int] | None:
    """Read one element into the data; return where it ends, and how many parameters may still come."""
    end = _end_of_name(text, at)
    if end is None or not left:
        return None
    found = data.setdefault(text[at:end], {})
    left -= 1
    while text[end] == " ":
        equals = text.find('="', end, end + _MOST_NAME)
        close = text.find('"', equals + 2) if equals > 0 else -1
        if close < 0 or not left or not _is_name(text[end + 1 : equals]):
            return None
        _add(found, text[end + 1 : equals], text[equals + 2 : close])
        end, left = close + 1, left - 1
        if end == len(text):
            return None
    return (end + 1, left) if text[end] == "]" else None


def _end_of_name(text: str, at: int) -> int | None:
    ends = [end for end in (text.find(" ", at, at + _MOST_NAME), text.find("]", at, at + _MOST_NAME)) if end > at]
    return min(ends) if ends and _is_name(text[at : min(ends)]) else None


def _is_name(text: str) -> bool:
    return bool(text) and " " not in text and "=" not in text and '"' not in text and "]" not in text


def _add(found: dict[str, Any], name: str, value: str) -> None:
    if name not in found:
        found[name] = value
    elif isinstance(found[name], list):
        found[name].append(value)
    else:
        found[name] = [found[name], value]


def _plain(found: Any) -> Any:
    """Return data with its escapes resolved."""
    if isinstance(found, dict):
        return {_whole(name): _plain(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_plain(value) for value in found]
    for _, mark, meant in _ESCAPES:
        found = found.replace(mark, meant)
    return found


def _whole(text: str) -> str:
    """Return text as it came."""
    for escape, mark, _ in reversed(_ESCAPES):
        text = text.replace(mark, escape)
    return text
