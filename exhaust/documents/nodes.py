"""What a YAML document is made of: nodes that know where they stand, and faults that name the place."""

import json
import re
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_ONE_CHARACTER = {'"': re.compile(r"\\(?:x.{2}|u.{4}|U.{8}|.)|."), "'": re.compile(r"''|.")}


Severity: TypeAlias = Literal["error", "warning"]


# Without gc=False the collector, walking all nodes again and again, takes half the time of reading a large file.
class At(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in a file; line and column count from 1, columns in characters."""

    file: str
    line: int
    column: int

    def fault(self, what: str, path: str = "", severity: "Severity" = "error") -> "Fault":
        return Fault(self.file, self.line, self.column, what, path, severity)


class Fault(msgspec.Struct, frozen=True, order=True):
    """Something wrong at a place of a file, and at a path of the document such as `emitters[0].every`."""

    file: str
    line: int
    column: int
    what: str
    path: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        where = f" (at {self.path})" if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {self.what}{where}"


class Scalar(msgspec.Struct, frozen=True, gc=False):
    """A value; `text` is what it says, `raw` how it is spelled, quotes and all (empty if over several lines)."""

    value: str | int | float | bool | None
    text: str
    quoted: bool
    at: At
    raw: str = ""


class Sequence(msgspec.Struct, frozen=True):
    """A list."""

    items: tuple["Node", ...]
    at: At


class Entry(NamedTuple):
    """A key and its value."""

    key: Scalar
    value: "Node"


class Mapping(msgspec.Struct, frozen=True):
    """A map, in the order of the file."""

    entries: dict[str, Entry]
    at: At

    def get(self, key: str) -> "Node | None":
        entry = self.entries.get(key)
        return entry.value if entry else None


class Broken(msgspec.Struct, frozen=True):
    """What was refused, in its place: its fault has been told already."""

    at: At


Node: TypeAlias = Scalar | Sequence | Mapping | Broken


def child(path: str, key: str | int) -> str:
    """Give the path of an entry of a map (by key) or of a list (by index)."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not _NAME.fullmatch(key):
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


def got(node: Node) -> str:
    """Name what stands there, for a message."""
    match node:
        case Scalar(value=str(text)):
            return repr(text if len(text) <= 60 else text[:57] + "...")
        case Scalar(value=None):
            return "nothing"
        case Scalar():
            return node.text
        case Sequence():
            return "a list"
        case _:
            return "a map"


def position_inside(scalar: Scalar, offset: int) -> tuple[int, int]:
    """Line and column of a character of the scalar's text; of its start where it spans lines."""
    line, column = scalar.at.line, scalar.at.column
    if not scalar.raw:
        return line, column
    if not scalar.quoted:
        return line, column + offset
    spelled = _ONE_CHARACTER[scalar.raw[0]].findall(scalar.raw[1:-1])
    return line, column + 1 + sum(map(len, spelled[:offset]))


def plain(node: Node) -> Any:
    """Return what a node says as plain data."""
    match node:
        case Scalar():
            return node.value if node.quoted or not isinstance(node.value, str) else node.text
        case Sequence():
            return [plain(item) for item in node.items]
        case Mapping():
            return {key: plain(entry.value) for key, entry in node.entries.items()}
    return None


def without(node: Mapping, *keys: str) -> Mapping:
    """Return a map less some of its keys."""
    return Mapping({key: entry for key, entry in node.entries.items() if key not in keys}, node.at)
