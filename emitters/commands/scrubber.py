"""What must not be seen of a command: what patterns find in it is replaced."""

from collections.abc import Sequence
from itertools import accumulate

import re2

from exhaust.errors import ExhaustError

MASK = "***"

# Of a pattern with groups it is these that are replaced, of one without it is all that it finds.
_VALUE = r"""("[^"]*"|'[^']*'|[^\s"';&|]+)"""
_NAME = r"(?:password|passwd|passphrase|passcode|secret|token|credentials?|(?:api|access|private)[-_]?key)"
KNOWN = (
    rf"(?i)--?[a-z0-9_-]*{_NAME}(?:=|\s+){_VALUE}",  # --password=x, --token x, -passwd x
    rf"(?i)\s--?(?:[a-z0-9]+[-_])*(?:pass|pwd)(?:=|\s+){_VALUE}",  # --pass x, but not --bypass x
    rf"(?i)\b[a-z0-9_]*{_NAME}[a-z0-9_]*={_VALUE}",  # PGPASSWORD=x, ?api_key=x
    rf"(?i)\b(?:[a-z0-9_]+_pwd|(?:[a-z0-9_]+_)?pass)={_VALUE}",  # MYSQL_PWD=x, but not PWD=x
    rf"\bpass:{_VALUE}",  # openssl -passin pass:x
    r"(?i)\b(?:bearer|basic|negotiate)\s+([a-z0-9._~+/-]+=*)",
    r"""(?i)\b(?:authorization|[a-z-]*api-?key|[a-z-]*token)\s*:\s*([^"'\r\n]+)""",  # a header
    r"[a-z][a-z0-9+.-]*://[^/\s:@]*:([^/\s@]+)@",  # scheme://user:x@host
    rf"\b(?:curl|https?)\b[^;|&]*?\s(?:-u|--user|--proxy-user)(?:=|\s*)[^\s:]+:{_VALUE}",
    rf"\b(?:mysql|mysqldump|mysqladmin|mariadb)\b[^;|&]*?\s-p{_VALUE}",
    rf"\bsshpass\s+-p\s*{_VALUE}",
)


class PatternError(ExhaustError):
    """A pattern is not of the syntax."""


class Scrubber:
    """Replaces what patterns find. Their syntax is RE2's, so that nobody's command can keep us busy."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [_compiled(pattern) for pattern in patterns]
        self._any = _compiled("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None

    def text(self, text: str) -> tuple[str, bool]:
        """Return a text without what must not be seen, and whether there was any."""
        (scrubbed,), found = self._pieces([text], text, "")
        return scrubbed, found

    def words(self, words: Sequence[str]) -> tuple[list[str], bool]:
        """Likewise of the arguments of a program, as one would type them, with a space between."""
        return self._pieces(words, " ".join(words), " ")

    def _pieces(self, pieces: Sequence[str], text: str, between: str) -> tuple[list[str], bool]:
        if self._any is None or not self._any.search(text):
            return list(pieces), False
        spans = _merged([span for pattern in self._patterns for span in _spans(pattern, text)])
        if not spans:
            return list(pieces), False
        ends = list(accumulate(len(piece) + len(between) for piece in pieces))
        return [
            _masked(piece, end - len(piece) - len(between), spans) for piece, end in zip(pieces, ends, strict=True)
        ], True


def _compiled(pattern: str) -> "re2._Regexp[str]":
    try:
        return re2.compile(pattern)
    except re2.error as exc:
        reason = exc.args[0]
        text = reason.decode() if isinstance(reason, bytes) else reason
        raise PatternError(f"'{pattern}' is no regular expression of RE2: {text}") from exc


def _spans(pattern: "re2._Regexp[str]", text: str) -> list[tuple[int, int]]:
    groups = range(1, pattern.groups + 1) if pattern.groups else (0,)
    return [match.span(group) for match in pattern.finditer(text) for group in groups if match.start(group) >= 0]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _masked(piece: str, at: int, spans: Sequence[tuple[int, int]]) -> str:
    """Mask the parts of a piece, which stands at `at` in the text that the spans are of."""
    masked, done = "", 0
    for start, end in ((max(0, start - at), min(len(piece), end - at)) for start, end in spans):
        if start < end:
            masked += piece[done:start] + MASK
            done = end
    return masked + piece[done:]
