"""The words of an expression: names, numbers, strings, signs."""

import math
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from exhaust.expressions.errors import ExpressionError

LONGEST: Final = 4096  # characters of an expression


class Token(NamedTuple):
    kind: str  # name, number, string, sign or end
    text: str
    column: int
    value: int | float | str = ""


# Each alternative consumes a character in one way only, so that no text makes the search go back and forth.
_TOKEN = re.compile(
    r"""
      (?P<blank>  (?: [ \t\n\f\r]+ | //[^\n]* )+ )
    | (?P<bytes>  (?: [bB][rR]? | [rR][bB] ) ['"] )
    | (?P<raw>    [rR] (?: \"{3} (?s:.*?) \"{3} | '{3} (?s:.*?) '{3} | "(?!"") [^"\r\n]* " | '(?!'') [^'\r\n]* ' ) )
    | (?P<string> \"{3} (?s: \\. | [^\\] )*? \"{3} | '{3} (?s: \\. | [^\\] )*? '{3}
                | "(?!"") (?: \\. | [^"\\\r\n] )* " | '(?!'') (?: \\. | [^'\\\r\n] )* ' )
    | (?P<double> [0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)? | [0-9]+[eE][+-]?[0-9]+ )
    | (?P<hex>    0[xX][0-9a-fA-F]+ )
    | (?P<int>    [0-9]+ )
    | (?P<name>   [A-Za-z_][A-Za-z0-9_]* )
    | (?P<sign>   && | \|\| | [=!<>]= | [-+*/%<>!?:.,()\[\]{}] )
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(?s:(.)))"
)
_CONTROL: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_HINTS: Final = {"=": "'=='", "&": "'&&'", "|": "'||'", "`": '["…"]', "\u201c": "'\"'", "\u2018": '"\'"'}


def scan(text: str, position: int = 0) -> Iterator[Token]:
    """Tokens from `position` on, an `end` last; columns count from the beginning of the text."""
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise _misfit(text, position)
        if found.lastgroup != "blank":
            yield _token(found)
        position = found.end()
    yield Token("end", "the end", len(text) + 1)


def tokenize(source: str) -> list[Token]:
    if len(source) > LONGEST:
        raise ExpressionError(f"the expression has {len(source):,} characters, {LONGEST:,} are allowed", LONGEST + 1)
    return list(scan(source))


def _token(found: re.Match[str]) -> Token:
    group, text, column = str(found.lastgroup), found[0], found.start() + 1
    if group in ("name", "sign"):
        return Token(group, text, column)
    if group in ("raw", "string"):
        return Token("string", text, column, _string(text, column))
    if group == "bytes":
        raise ExpressionError("bytes are not supported", column)
    return Token("number", text, column, _number(found))


def _number(found: re.Match[str]) -> int | float:
    text, column = found[0], found.start() + 1
    rest = re.compile(r"[A-Za-z0-9_]*").match(found.string, found.end())
    if rest and rest[0]:
        raise ExpressionError(f"{(text + rest[0])[:64]!r} is not a number{_number_hint(rest[0])}", column)
    if found.lastgroup != "double":
        return int(text, 0 if found.lastgroup == "hex" else 10)
    if math.isinf(float(text)):
        raise ExpressionError(f"{text[:64]} does not fit a double", column)
    return float(text)


def _number_hint(rest: str) -> str:
    if rest in ("u", "U"):
        return ": there are no unsigned integers, leave out the u"
    if rest in ("ms", "s", "m", "h", "d"):
        return ', a duration is written duration("5m")'
    return ', a size is written quantity("64MiB")' if rest.endswith("B") else ""


def _string(text: str, column: int) -> str:
    raw = text[0] in "rR"
    quoted = text[1:] if raw else text
    marks = 3 if len(quoted) >= 6 and quoted[:3] in ('"""', "'''") else 1
    inner = quoted[marks:-marks]
    return inner if raw else _ESCAPE.sub(lambda found: _unescape(found, column + marks), inner)


def _unescape(found: re.Match[str], start: int) -> str:
    plain, two, four, eight, octal, _ = found.groups()
    if plain:
        return _CONTROL.get(plain, plain)
    digits = two or four or eight
    code = int(digits, 16) if digits else int(octal, 8) if octal else -1
    if code < 0:
        raise ExpressionError(f"unknown escape {found[0]!r}; r'…' takes text as it is", start + found.start())
    if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        raise ExpressionError(f"{found[0]} is no character", start + found.start())
    return chr(code)


def _misfit(text: str, position: int) -> ExpressionError:
    character = text[position]
    if character in "'\"":
        return ExpressionError("the string is not closed", position + 1)
    hint = f", did you mean {_HINTS[character]}?" if character in _HINTS else ""
    return ExpressionError(f"unexpected character {character!r}{hint}", position + 1)
