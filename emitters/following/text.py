"""How bytes become lines of text, in any encoding."""

import codecs
import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec

MOST: Final = 192 << 10
"""The most bytes of a line that are sent."""

_SURELY_SMALL: Final = 32 << 10  # of bytes or characters: as JSON none takes more than six times that
_MOST_JSON: Final = 200 << 10
_MARKS: Final = {
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
_PLAIN: Final[Mapping[str, Any]] = {}
_BROKEN: Final[Mapping[str, Any]] = {"encoding_errors": True}
_NATIVE: Final = "le" if sys.byteorder == "little" else "be"

_encode = msgspec.json.Encoder().encode


def codec_of(encoding: str) -> str:
    """Return an encoding's own name. Raises ValueError where it is unknown, or no line ends in it by itself."""
    try:
        name = codecs.lookup(encoding).name
        twice = "\n\n".encode(_ordered(name, b""))
    except (LookupError, UnicodeError, ValueError) as exc:
        raise ValueError(f"no encoding of text is called {encoding!r}") from exc
    if len(twice) not in (2, 4, 8) or twice[: len(twice) // 2] * 2 != twice:
        raise ValueError(f"lines cannot be told apart in encoding {encoding!r}")
    return name


def _ordered(name: str, head: bytes) -> str:
    """Return a codec that needs no mark of byte order: `head` is how the file begins."""
    if name == "utf-8-sig":
        return "utf-8"
    if name in ("utf-16", "utf-32"):
        for order in ("le", "be"):
            if head.startswith(_MARKS[f"{name}-{order}"]):
                return f"{name}-{order}"
        return f"{name}-{_NATIVE}"
    return name


class Text:
    """The encoding of one file: `head` is how it begins, `most` how many bytes of a line are decoded."""

    def __init__(self, name: str, head: bytes, most: int) -> None:
        self._codec = _ordered(name, head)
        self._most = most
        self._small = min(most, _SURELY_SMALL)
        self.ending = "\n".encode(self._codec)
        self.width = len(self.ending)

    def find(self, data: bytes, start: int, base: int) -> int:
        """Return the index of the next line ending, -1 if there is none; `base` is where in the file `data` begins."""
        at = data.find(self.ending, start)
        while at >= 0 and (base + at) % self.width:
            at = data.find(self.ending, at + 1)
        return at

    def end(self, data: bytes, base: int) -> int:
        """Return the index behind the last line ending, 0 if there is none."""
        at = data.rfind(self.ending)
        while at >= 0 and (base + at) % self.width:
            at = data.rfind(self.ending, 0, at + self.width - 1)
        return at + self.width if at >= 0 else 0

    def decode(self, line: bytes, length: int) -> tuple[str, Mapping[str, Any]]:
        r"""Return a line's text, and what a record says of it: bytes that are none of the encoding become \xNN.

        `length` is that of the whole line, of which `line` may be only the beginning.
        """
        if length > self._small:
            return self._long(line, length)
        try:
            text, told = line.decode(self._codec), _PLAIN
        except UnicodeDecodeError:
            text, told = line.decode(self._codec, "backslashreplace"), _BROKEN
        return text.removesuffix("\r"), told

    def _long(self, line: bytes, length: int) -> tuple[str, Mapping[str, Any]]:
        cut, told = length > self._most, dict(_PLAIN)
        line = line[: self._most]
        try:
            text = self._begun(line, "strict", final=not cut)
        except UnicodeDecodeError:
            text, told = self._begun(line, "backslashreplace", final=not cut), dict(_BROKEN)
        if not cut:
            text = text.removesuffix("\r")
        if len(text) > _SURELY_SMALL and len(_encode(text)) > _MOST_JSON:
            text, cut = text[:_SURELY_SMALL], True
        return text, told | ({"cut": True, "bytes": length} if cut else {})

    def _begun(self, line: bytes, errors: str, *, final: bool) -> str:
        """Decode; where that is not all of a line, leave out a character that was cut in two."""
        return codecs.getincrementaldecoder(self._codec)(errors).decode(line, final)
