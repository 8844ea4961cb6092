"""YAML as a tree of nodes that know where they stand; what is wrong with a file comes back as faults."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml import events

from exhaust.documents.decoding import LARGEST_FILE, UnreadableError, decode
from exhaust.documents.nodes import (
    At,
    Broken,
    Entry,
    Fault,
    Mapping,
    Node,
    Scalar,
    Sequence,
    child,
    got,
    position_inside,
)
from exhaust.documents.quoting import LOADER, Advice, advise, balanced, is_cut, quoted

__all__ = [
    "LARGEST_FILE",
    "At",
    "Broken",
    "Fault",
    "Mapping",
    "Node",
    "Scalar",
    "Sequence",
    "child",
    "compose",
    "got",
    "position_inside",
    "read",
    "read_tree",
]

DEEPEST = 20
MOST_FAULTS = 1000  # of one file: past that, a file is not what it was thought to be
EXPRESSION_KEYS = frozenset({"when", "until", "where", "value", "if", "resets"})
_PROSE_KEYS = frozenset({"summary", "text"})

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "": None}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_COMMENT = re.compile(r"[ \t]+#")
_BEGINS = re.compile(r"\s*(?:- |[\w./@\"'-]+:(?:\s|$)|[\w-]*$)")  # another entry, rather than a value's next line


def compose(text: bytes, file: str, loader: Any = LOADER) -> tuple[Mapping | None, list[Fault]]:
    """Read one YAML document; None where nothing in it can be used."""
    faults: list[Fault] = []
    try:
        decoded = decode(text, file)
        composer = _Composer(decoded, file, faults)
        return composer.document(yaml.parse(decoded, Loader=loader)), faults
    except UnreadableError as exc:
        faults.append(exc.fault)
        return None, faults


def read(path: Path, shown: str) -> tuple[Mapping | None, list[Fault]]:
    """Read one file, called `shown` in its faults."""
    try:
        with path.open("rb") as stream:
            text = stream.read(LARGEST_FILE + 1)
    except OSError as exc:
        return None, [Fault(shown, 1, 1, f"cannot be read: {exc.strerror}")]
    return compose(text, shown)


def read_tree(path: Path | str) -> tuple[list[Mapping], list[Fault]]:
    """Read a file, or the `*.yaml` and `*.yml` files of a directory by name; faults name files as `path` does."""
    faults: list[Fault] = []
    documents = []
    for file, shown in _files(Path(path), str(path), faults):
        document, found = read(file, shown)
        faults += found
        if document is not None:
            documents.append(document)
    return documents, faults


def _files(path: Path, shown: str, faults: list[Fault]) -> list[tuple[Path, str]]:
    if not path.is_dir():
        return [(path, shown)]
    try:
        names = sorted(entry.name for entry in path.iterdir() if entry.suffix in (".yaml", ".yml"))
    except OSError as exc:
        faults.append(Fault(shown, 1, 1, f"cannot be read: {exc.strerror}"))
        return []
    names = [name for name in names if not name.startswith(".") and not (path / name).is_dir()]
    if not names:
        faults.append(Fault(shown, 1, 1, "no *.yaml file in this directory"))
    return [(path / name, f"{shown.rstrip('/')}/{name}") for name in names]


class _Composer:
    def __init__(self, text: str, file: str, faults: list[Fault]) -> None:
        self._file = file
        self._lines = text.splitlines()
        self._faults = faults
        self._trail: list[str | int] = []
        self._flow: list[bool] = []
        self._key_at: At | None = None
        self._plain_end: Any = None  # where the last plain value ends
        self._misread_to = (0, 0)  # line and column of the end of what was told to be quoted
        self._events: Iterator[Any] = iter(())

    def document(self, parsed: Iterator[Any]) -> Mapping | None:
        self._events = parsed
        try:
            return self._document()
        except yaml.YAMLError as exc:
            fault = self._syntax_fault(exc)
            # What the parser stumbles over has often been told already, by its cause.
            if (fault.line, fault.column) > self._misread_to:
                self._faults.append(fault)
            return None
        except (ValueError, OverflowError) as exc:  # the parser in Python, of an escape beyond Unicode
            self._faults.append(Fault(self._file, 1, 1, f"not YAML: {exc}"))
            return None

    def _document(self) -> Mapping | None:
        next(self._events)
        if isinstance(next(self._events), events.StreamEndEvent):
            return Mapping({}, At(self._file, 1, 1))
        root = self._node(next(self._events))
        next(self._events)
        after = next(self._events)
        if not isinstance(after, events.StreamEndEvent):
            self._tell(self._at(after.start_mark), "a second document begins here; a file holds one")
        if isinstance(root, Mapping):
            return root
        if isinstance(root, Scalar) and root.value is None:
            return Mapping({}, root.at)
        if not isinstance(root, Broken):
            self._tell(root.at, f"expected a map, got {got(root)}")
        return None

    def _node(self, event: Any) -> Node:
        kind = type(event)
        if kind is events.AliasEvent:
            return self._refuse(event.start_mark, "aliases are refused")
        refused = None
        if event.anchor or event.tag:
            refused = self._refuse(event.start_mark, "anchors are refused" if event.anchor else "tags are refused")
        if kind is events.ScalarEvent:
            return refused or self._scalar(event)
        if len(self._trail) >= DEEPEST:
            self._stop(self._at(event.start_mark), f"nested deeper than {DEEPEST} levels")
        self._flow.append(bool(event.flow_style))
        node = self._sequence(event) if isinstance(event, events.SequenceStartEvent) else self._mapping(event)
        self._flow.pop()
        self._trail.pop()
        return refused or node

    def _sequence(self, start: Any) -> Node:
        items: list[Node] = []
        self._trail.append(0)
        while not isinstance(event := next(self._events), events.SequenceEndEvent):
            self._trail[-1] = len(items)
            items.append(self._node(event))
        return Sequence(tuple(items), self._at(start.start_mark))

    def _mapping(self, start: Any) -> Node:
        entries: dict[str, Entry] = {}
        misread: Broken | None = None
        self._trail.append("")
        while not isinstance(event := next(self._events), events.MappingEndEvent):
            key = self._key(event, start)
            second = next(self._events)
            # Where brackets hold a key alone, its missing value begins where the key ends: there is no colon.
            if isinstance(key, Scalar) and start.flow_style and second.start_mark.index == event.end_mark.index:
                key = self._refuse_lone_key(key, start.start_mark)
            value = self._node(second)
            if isinstance(key, Broken):
                misread = key
            elif key and key.text in entries:
                first = entries[key.text].key.at.line
                self._tell(key.at, f"key {key.text!r} is given twice, first in line {first}", outer=True)
            elif key:
                entries[key.text] = Entry(key, value)
        return misread if misread and len(self._trail) > 1 else Mapping(entries, self._at(start.start_mark))

    def _key(self, event: Any, start: Any) -> Scalar | Broken | None:
        """Broken where the whole map is text that was misread, None where the entry alone is refused."""
        self._trail[-1] = "?"
        key = self._node(event)
        if isinstance(key, Broken):
            return None
        if not isinstance(key, Scalar):
            what = f"a key is text, got {got(key)}"
            if start.flow_style:
                return self._refuse(start.start_mark, what, outer=True)
            self._tell(key.at, what, outer=True)
            return None
        self._key_at = key.at
        self._trail[-1] = key.text
        if not isinstance(key.value, str):
            hint = f"; write {quoted(key.text)}" if key.text else ""
            self._tell(key.at, f"a key is text, got {got(key)}{hint}", outer=True)
            return None
        if key.text == "<<" and not key.quoted:
            self._tell(key.at, "merge keys are refused", outer=True)
            return None
        if not key.quoted and not _NAME.fullmatch(key.text) and (" ? " in key.text or not balanced(key.text)):
            return self._refuse(event.start_mark, f"the key {key.text!r} looks like an expression", outer=True)
        return key

    def _refuse_lone_key(self, key: Scalar, opened: Any) -> Broken:
        if re.match(r"[\w-]+:", key.text) and not key.quoted:
            self._tell(key.at, f"{key.text!r} is a key without a value: ':' needs a space behind it", outer=True)
            return Broken(key.at)
        if not _NAME.fullmatch(key.text):
            return self._refuse(opened, f"the key {key.text!r} has no value", outer=True)
        self._tell(key.at, f"the key {key.text!r} has no value", outer=True)
        return Broken(key.at)

    def _scalar(self, event: Any) -> Node:
        start, end = event.start_mark, event.end_mark
        at = self._at(start)
        line = self._line(start)
        if event.style:
            raw = line[start.column : end.column] if start.line == end.line else ""
            return Scalar(event.value, event.value, True, at, raw)
        text = event.value
        self._plain_end = end if text else self._plain_end
        if _COMMENT.match(line, end.column) and start.line == end.line:
            expression = bool(self._trail) and self._trail[-1] in EXPRESSION_KEYS
            if is_cut(text, expression=expression):
                return self._refuse(start, "' #' starts a comment")
            if expression or "${{" in text or (self._trail and self._trail[-1] in _PROSE_KEYS):
                self._doubt_comment(line, start, end)
        try:
            return Scalar(_typed(text), text, False, at, text if start.line == end.line else "")
        except OverflowError:
            self._tell(at, f"{text[:60]} is too large a number; if it is text, quote it")
            return Broken(at)

    def _doubt_comment(self, line: str, start: Any, end: Any) -> None:
        """Ask whether what follows a text for people is meant to be part of it: `#` and a word, without a space."""
        rest = line[end.column :].lstrip()
        if rest[1:2].isalnum() and not any(self._flow):
            meant = f"{line[: start.column]}{quoted(line[start.column :].rstrip())}".strip()
            what = f"what follows ' #' is a comment; if it is text, quote it: {meant}"
            self._faults.append(self._at(start).fault(what, self._path(), "warning"))

    def _refuse(self, mark: Any, what: str, *, outer: bool = False) -> Broken:
        """Tell of what YAML may have misread, with advice to quote it."""
        at = self._at(mark)
        advice = self._advice(mark, mark.column)
        self._tell(at, advice.what if advice else what, outer=outer)
        self._misread_to = max(self._misread_to, (at.line, advice.end if advice else at.column))
        return Broken(at)

    def _advice(self, mark: Any, column: int | None) -> Advice | None:
        line = self._line(mark)
        inside = any(self._flow) and not re.search(r"[\[{]", line[: mark.column + 1])
        return advise(line, column, flow=inside)

    def _syntax_fault(self, exc: yaml.YAMLError) -> Fault:
        problem: Any = getattr(exc, "problem_mark", None)
        context: Any = getattr(exc, "context_mark", None)
        if problem and (fault := self._comment_fault(problem)):
            return fault
        for mark, exact in ((problem, True), (context, False)):
            advice = self._advice(mark, mark.column if exact else None) if mark else None
            if advice:
                key = At(self._file, mark.line + 1, (advice.key or 0) + 1)
                path = self._path() if advice.key is not None and key == self._key_at else ""
                return Fault(self._file, mark.line + 1, advice.column + 1, advice.what, path)
        if problem and self._line(problem)[problem.column :].startswith("\t"):
            return self._at(problem).fault("a tab cannot indent; use spaces")
        what, place = _syntax_problem(exc, problem, context)
        return (self._at(place) if place else At(self._file, 1, 1)).fault(what)

    def _comment_fault(self, problem: Any) -> Fault | None:
        """Tell of a comment that has ended a plain value whose next line is what the parser stumbles over."""
        end = self._plain_end
        if end is None or problem.line <= end.line or _BEGINS.match(self._line(problem)):
            return None
        between = [self._line(end)[end.column :], *self._lines[end.line + 1 : problem.line]]
        if any(text.strip() and not text.lstrip().startswith("#") for text in between):
            return None
        for number, text in enumerate(between):
            if "#" in text:
                what = (
                    f"a comment ends a plain value, and this one goes on in line {problem.line + 1}: move the comment"
                )
                column = text.index("#") + (end.column if number == 0 else 0) + 1
                return Fault(self._file, end.line + number + 1, column, what, self._path())
        return None

    def _path(self, *, outer: bool = False) -> str:
        path = ""
        for key in self._trail[:-1] if outer else self._trail:
            path = child(path, key)
        return path

    def _line(self, mark: Any) -> str:
        return self._lines[mark.line] if mark.line < len(self._lines) else ""

    def _at(self, mark: Any) -> At:
        return At(self._file, mark.line + 1, mark.column + 1)

    def _tell(self, at: At, what: str, *, outer: bool = False) -> None:
        """Add a fault; `outer` for one of a key, which is told of the map that holds it."""
        if (at.line, at.column) <= self._misread_to:
            return  # only an echo of what was misread
        if len(self._faults) >= MOST_FAULTS:
            self._stop(at, "too many faults: the rest of the file is not read")
        self._faults.append(at.fault(what, self._path(outer=outer)))

    def _stop(self, at: At, what: str) -> NoReturn:
        raise UnreadableError(at.fault(what, self._path()))


def _typed(text: str) -> str | int | float | bool | None:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    if number[1] or number[2]:
        real = float(text)
        if math.isinf(real):
            raise OverflowError
        return real
    if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 64:
        raise OverflowError
    return int(text)


def _syntax_problem(exc: Any, problem: Any, context: Any) -> tuple[str, Any]:
    """What the parser says in our words, and the mark to show (none where it has none)."""
    said = str(getattr(exc, "problem", None) or exc).splitlines()[0]
    during = str(getattr(exc, "context", None) or "")
    if "quoted scalar" in during and ("end of stream" in said or "document indicator" in said):
        return "the quote that begins here is never closed", context
    if "mapping values are not allowed" in said:
        return "no key can stand here; is the indentation right?", problem
    begun = f" ({during} that begins in line {context.line + 1})" if during and context else ""
    return f"not YAML: {said}{begun}", problem
