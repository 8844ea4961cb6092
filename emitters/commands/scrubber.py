"""What must not be seen of a command: what patterns find in it is replaced."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

import re2

from exhaust.errors import ExhaustError

MASK = "***"

_NAME = r"(?:password|passwd|passphrase|passcode|secret|token|credentials?|(?:api|access|private)[-_]?key)"
_IN_TEXT = r"""("(?:[^"\\]|\\.)*"?|'[^']*'?|(?:\\.|[^\s"'\\;&|])+)"""
_IN_WORDS = "(.)"  # where it begins is enough: it goes on to the end of its word, if that is not before it
_WORD = r"""\$'(?:[^'\\]|\\.)*'?|"(?:[^"\\]|\\.)*"?|'[^']*'?|\\.|[\s;&|]|[^\s"'\\;&|$]+|."""

# Of a pattern with groups it is these that are replaced, of one without it is all that it finds.
_EXACT = (
    r"(?i)\b(?:bearer|basic|negotiate)\s+([a-z0-9._~+/-]+=*)",
    r"(?i)[a-z][a-z0-9+.-]*://[^/\s:@]*:([^/\s]+)@",  # scheme://user:x@host
    r"(?i)https?://([^/\s:]+)@",  # a token alone; of other schemes it is a user
)


def _open(value: str, rest: str) -> tuple[str, ...]:
    """Return the patterns of values that end where their word ends; `rest` is what may stand in between."""
    return (
        rf"(?i)--?[a-z0-9_-]*{_NAME}(?:=|\s+){value}",  # --password=x, --token x, -passwd x
        rf"(?i)\s--?(?:[a-z0-9]+[-_])*(?:pass|pwd)(?:=|\s+){value}",  # --pass x, but not --bypass x
        rf"(?i)\b[a-z0-9_]*{_NAME}[a-z0-9_]*={value}",  # PGPASSWORD=x, ?api_key=x
        rf"(?i)\b(?:[a-z0-9_]+_pwd|(?:[a-z0-9_]+_)?pass)={value}",  # MYSQL_PWD=x, but not PWD=x
        rf"\bpass:{value}",  # openssl -passin pass:x
        rf"\b(?:curl|https?)\b{rest}\s(?:-u|--user|--proxy-user)(?:=|\s*)[^\s:]+:{value}",
        rf"\b(?:mysql|mysqldump|mysqladmin|mariadb)\b{rest}\s-p{value}",
        rf"\bsshpass\s+-p\s*{value}",
        rf"\b(?:docker|podman|nerdctl|buildah|helm|oras|skopeo)\b{rest}\slogin\b{rest}\s-p(?:=|\s*){value}",
        rf"\bredis-cli\b{rest}\s-a\s+{value}",
        rf"\bldap[a-z]+\b{rest}\s-w\s*{value}",
        rf"\b(?:smbclient|smbget|rpcclient|net)\b{rest}\s(?:-U|--user(?:name)?)(?:=|\s*)[^\s%]*%{value}",
        rf"(?i)\bconfigure\s+set\s+\S*{_NAME}\S*\s+{value}",  # aws
    )


_HEADER = r"(?i)\b(?:authorization|[a-z-]*api-?key|[a-z-]*token)\s*:\s*"
_OPEN_TEXT, _EXACT_TEXT = _open(_IN_TEXT, "[^;|&]*?"), (*_EXACT, _HEADER + r"""([^"'\r\n]+)""")
_OPEN_WORDS = (*_open(_IN_WORDS, ".*?"), _HEADER + _IN_WORDS)

Span = tuple[int, int]


class PatternError(ExhaustError):
    """A pattern is not of the syntax."""


class Scrubber:
    """Replaces what patterns find: those of one's own in `secrets`, and with `known` those of what is common.

    Their syntax is RE2's, so that nobody's command can keep us busy. What is known begins where a pattern finds it and
    ends as the shell would end it, quotes included; among arguments with the argument.
    """

    def __init__(self, secrets: Sequence[str] = (), *, known: bool = True) -> None:
        own = [_compiled(pattern) for pattern in secrets]
        self._text = _Patterns(_OPEN_TEXT if known else (), _EXACT_TEXT if known else (), own)
        self._words = _Patterns(_OPEN_WORDS if known else (), _EXACT if known else (), own)

    def text(self, text: str) -> tuple[str, bool]:
        """Return a text without what must not be seen, and whether there was any."""
        spans = self._text.spans(text, _shell_end)
        return _masked(text, 0, spans), bool(spans)

    def words(self, words: Sequence[str]) -> tuple[list[str], bool]:
        """Likewise of the arguments of a program, as one would type them, with a space between."""
        ends = [end - 1 for end in accumulate(len(word) + 1 for word in words)]
        spans = self._words.spans(" ".join(words), lambda _: lambda span: (span[0], ends[bisect_left(ends, span[0])]))
        if not spans:
            return list(words), False
        return [_masked(word, end - len(word), spans) for word, end in zip(words, ends, strict=True)], True


class _Patterns:
    """Patterns of what is to be widened, of what is not, and of one's own."""

    def __init__(self, widened: Sequence[str], exact: Sequence[str], own: "Sequence[re2._Regexp[str]]") -> None:
        patterns = [f"(?s){pattern}" for pattern in (*widened, *exact)]
        self._widened = [_compiled(pattern) for pattern in patterns[: len(widened)]]
        self._exact = [_compiled(pattern) for pattern in patterns[len(widened) :]]
        self._own = own
        self._any = _compiled("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None

    def spans(self, text: str, widening: Callable[[str], Callable[[Span], Span]]) -> list[Span]:
        """Return where it is that a text must not be seen, in order and apart."""
        found = [span for pattern in self._own for span in _spans(pattern, text)]
        if self._any is not None and self._any.search(text):
            found += [span for pattern in self._exact for span in _spans(pattern, text)]
            if wide := [span for pattern in self._widened for span in _spans(pattern, text)]:
                found += map(widening(text), wide)
        return _merged(found)


def _compiled(pattern: str) -> "re2._Regexp[str]":
    try:
        return re2.compile(pattern)
    except re2.error as exc:
        reason = exc.args[0]
        text = reason.decode() if isinstance(reason, bytes) else reason
        raise PatternError(f"'{pattern}' is no regular expression of RE2: {text}") from exc


_PIECES = _compiled(f"(?s){_WORD}")


def _shell_end(text: str) -> Callable[[Span], Span]:
    """Return what widens a span to the end of the shell's word that it is in, unless it is within quotes."""
    begins: list[int] = []
    quoted: list[bool] = []
    separate: list[bool] = []
    for match in _PIECES.finditer(text):
        piece = match.group()
        begins.append(match.start())
        quoted.append(piece[0] in "\"'" or piece.startswith("$'"))
        separate.append(len(piece) == 1 and (piece in ";&|" or piece.isspace()))
    until = [*begins[1:], len(text)]  # by piece, where its word ends
    for at in range(len(begins) - 2, -1, -1):
        if not separate[at + 1] and not separate[at]:
            until[at] = until[at + 1]

    def widened(span: Span) -> Span:
        at = bisect_right(begins, span[0]) - 1
        if quoted[at] and span[0] > begins[at]:
            return span
        return span[0], max(span[1], until[at])

    return widened


def _spans(pattern: "re2._Regexp[str]", text: str) -> list[Span]:
    groups = range(1, pattern.groups + 1) if pattern.groups else (0,)
    return [match.span(group) for match in pattern.finditer(text) for group in groups if match.start(group) >= 0]


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _masked(piece: str, at: int, spans: Sequence[Span]) -> str:
    """Mask the parts of a piece, which stands at `at` in the text that the spans are of."""
    masked, done = "", 0
    for start, end in ((max(0, start - at), min(len(piece), end - at)) for start, end in spans):
        if start < end:
            masked += piece[done:start] + MASK
            done = end
    return masked + piece[done:]
