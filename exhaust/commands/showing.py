"""How a command writes what it has to say: whole lines at once, and JSON that a terminal shows as it stands."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

import msgspec


def show(out: TextIO | None, lines: Iterable[str]) -> None:
    """Write lines, to standard output unless told otherwise."""
    stream = out or sys.stdout
    for line in lines:
        stream.write(f"{line}\n")
    stream.flush()


def as_line(content: Any) -> str:
    """Return JSON that a terminal shows as it stands: what is not ASCII is escaped."""
    return _ascii(msgspec.json.encode(content).decode())


def _ascii(text: str) -> str:
    # Outside strings JSON is ASCII, so every other character stands inside one, where an escape means the same.
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(c if " " <= c < "\x7f" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
