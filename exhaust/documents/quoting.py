"""Where YAML reads a mark in a plain value as its own: what it took it for, and the line with the value quoted."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LONGEST_LINE = 400  # longer ones are no help in a message, and quoting tries many ends of a value

_LEAD = re.compile(r"[ \t]*(?:- +)*")
_KEY = re.compile(r"""\s*(?P<key>"[^"\n]*"|'[^'\n]*'|[\w./@-]+):(?:[ \t]+|$)""")
_BETWEEN = re.compile(r"[\s,\]}]*")
_NO_ESCAPE = re.compile(r"""\\[^0abt\tnvfre "/\\N_LPxuU]""")
_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^']|'')*[']""")
_OPERATOR_AT_END = re.compile(r"(?:[=!<>]=|&&|\|\||[-<>+*/%?:,]|\bin)$")
_STARTS = {
    "!": "'!' starts a tag, which is refused",
    "*": "'*' starts an alias, which is refused",
    "&": "'&' starts an anchor, which is refused",
    "|": "'|' starts a block of text",
    ">": "'>' starts a block of text",
    "{": "'{' starts a map",
    "[": "'[' starts a list",
    **{mark: f"{mark!r} cannot start a plain value" for mark in "%@`"},
}


class Advice(NamedTuple):
    """`what` names the mark and the quoted line; columns count from 0, the value's end is behind it."""

    key: int | None
    column: int
    end: int
    what: str


class _Element(NamedTuple):
    key: int | None
    start: int
    end: int
    flow: bool
    whole: bool = True  # not the later line of a value that began above


def quoted(text: str) -> str:
    """Text in the quotes that leave it most readable."""
    if '"' in text or "\\" in text:
        return "'" + text.replace("'", "''") + "'"
    return f'"{text}"'


def advise(line: str, column: int | None, *, flow: bool = False) -> Advice | None:
    """Say how to quote the value at a column (from 0), or without one the first in the line that needs it.

    `flow` says that the line stands inside brackets that were opened before it.
    """
    if len(line) > LONGEST_LINE:
        return None
    faulty: list[tuple[_Element, str]] = []
    pointed: _Element | None = None
    for element in _elements(line, flow=flow):
        pointed = element if column is not None and element.start <= column else pointed
        # A list or map is text gone wrong only where the caller points at its bracket.
        if element.start != column and _is_collection(line, element.start):
            continue
        reason = _reason(line[element.start : element.end], flow=element.flow)
        if reason and not (faulty and element.start < faulty[-1][0].end):
            faulty.append((element, reason))
    for element, reason in faulty:
        if column is None or element == pointed:
            return Advice(element.key, element.start, element.end, f"{reason}; {_mended(line, faulty)}")
    return None


def is_cut(text: str, *, expression: bool) -> bool:
    """Tell whether a plain value before a comment looks as if the comment had taken its end."""
    if expression:
        return not balanced(text) or _OPERATOR_AT_END.search(text) is not None
    return not balanced(text.replace("'", ""))


def balanced(text: str) -> bool:
    """Tell whether all quotes and brackets in a text are closed."""
    last = -1
    for position, _, depth in _outside(text + "\n", 0):
        if depth < 0:
            return False
        last = position if depth == 0 else -1
    return last == len(text)


def _mended(line: str, faulty: list[tuple[_Element, str]]) -> str:
    for element, _ in reversed(faulty):
        line = f"{line[: element.start]}{quoted(_meant(line[element.start : element.end]))}{line[element.end :]}"
    line = line.strip()
    if not all(element.whole for element, _ in faulty) or not _is_yaml(line):
        return "if it is text, quote all of it"
    return f"if it is text, quote it: {line}"


def _is_yaml(line: str) -> bool:
    """Tell whether a line is YAML, by itself or as one of several between brackets."""
    for text in (line, f"{line}}}", f"{line}]", f"{{{line}}}", f"[{line}]", f"{{{line}", f"[{line}"):
        try:
            for _ in yaml.parse(text, Loader=LOADER):
                pass
        except yaml.YAMLError:
            continue
        return True
    return False


def _reason(value: str, *, flow: bool) -> str | None:
    first = value[:1]
    if first in ('"', "'"):
        return _reason_in_quotes(value)
    if first and first in _STARTS:
        return _STARTS[first]
    if value[:2] in ("- ", "? "):
        return f"{value[:2]!r} starts a list or a key"
    if " #" in value:
        return "' #' starts a comment"
    if value.find(": ") > 0 or value.endswith(":"):
        return "': ' starts a map"
    if flow and (inside := re.search(r"[][{},]", value)):
        return f"{inside[0]!r} ends a plain value between brackets"
    return None


def _reason_in_quotes(value: str) -> str | None:
    close = _QUOTED.match(value)
    if close is None:
        return None
    if close.end() < len(value):
        return "the text ends at its second quote"
    wrong = _NO_ESCAPE.search(value) if value[0] == '"' else None
    return f"{wrong[0]} is no escape between double quotes" if wrong else None


def _meant(value: str) -> str:
    close = _QUOTED.match(value)
    if close and close.end() == len(value):
        return value[1:-1].replace('\\"', '"')
    return value


def _elements(line: str, *, flow: bool) -> Iterator[_Element]:
    lead = _LEAD.match(line)
    start = lead.end() if lead else 0
    key = _KEY.match(line, start)
    value = key.end() if key else start
    if flow or _is_collection(line, value):
        yield from _flow_elements(line, start)
    else:
        whole = key is not None or line[:start].strip() != ""
        yield _Element(start if key else None, value, _end(line, value, flow=False), False, whole)


def _flow_elements(line: str, position: int) -> Iterator[_Element]:
    while position < len(line):
        key = _KEY.match(line, position)
        start = key.end() if key else position
        at = key.start("key") if key else None
        if _is_collection(line, start):
            yield _Element(at, start, _close(line, start), True)
            position = start + 1
        elif start < len(line):
            end = _end(line, start, flow=True)
            yield _Element(at, start, end, True)
            position = end
        else:
            return
        between = _BETWEEN.match(line, position)
        position = max(between.end() if between else 0, start + 1)


def _is_collection(line: str, start: int) -> bool:
    """Tell a list or map from text that happens to begin with a bracket, as in `[a] == b`."""
    if line[start : start + 1] not in ("[", "{"):
        return False
    rest = line[_close(line, start) :].lstrip()
    return not rest or rest[0] in ",]}#"


def _close(line: str, start: int) -> int:
    for position, mark, depth in _outside(line, start):
        if depth == 1 and mark in ")]}":
            return position + 1
    return len(line)


def _end(line: str, start: int, *, flow: bool) -> int:
    for position, mark, depth in _outside(line, start):
        comment = mark == "#" and line[position - 1 : position] in (" ", "\t")
        if comment and _OPERATOR_AT_END.search(line[start:position].rstrip()):
            continue
        if depth <= 0 and (comment or (flow and mark in ",]}")):
            return start + len(line[start:position].rstrip())
    return len(line.rstrip())


def _outside(text: str, start: int) -> Iterator[tuple[int, str, int]]:
    """Each character outside quotes, with how many brackets are open before it."""
    depth, quote = 0, ""
    for position in range(start, len(text)):
        mark = text[position]
        if quote:
            quote = "" if mark == quote and text[position - 1] != "\\" else quote
        elif mark == '"' or (mark == "'" and not (position > start and text[position - 1].isalnum())):
            quote = mark
        else:
            yield position, mark, depth
            depth += (mark in "([{") - (mark in ")]}")
