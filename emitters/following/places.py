"""Up to where in which file records are safe: small, and found again whatever the file is called by then."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from zlib import crc32

import msgspec

HEAD: Final = 256
TAIL: Final = 64
_MOST_BYTES: Final = 120 << 10  # of all places together, as the runner takes 128 KiB
_NUMBERS: Final = 80  # bytes: all of a place but its path
_PREFIX: Final = "line."
_PART: Final = re.compile(r"line\.\d+")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Up to which `offset` a file was read under a path.

    `mark` is of what is before it: the file's first bytes and the last ones. `moment` is when the file had been written
    to by then, milliseconds.
    """

    path: str
    device: int
    inode: int
    offset: int
    mark: int
    moment: int


def mark_of(head: bytes, tail: bytes) -> int:
    """Return the mark of a place: `head` are the first up to 256 bytes before it, `tail` the last up to 64."""
    return crc32(tail, crc32(head))


class Slots:
    """The parts of the positions: each file has one as long as it is followed, then the next gets it.

    A position only ever goes with a record, so a file that is gone cannot be forgotten by itself: another takes its
    place.
    """

    def __init__(self, positions: Mapping[str, Any], most: int) -> None:
        self.known = dict(places_in(positions))
        self._most = most
        self._sizes = {part: _size(place.path) for part, place in self.known.items()}
        self._total = sum(self._sizes.values())
        self._used: set[str] = set()
        self._free: list[str] = []
        self._next = 1 + max((int(part.removeprefix(_PREFIX)) for part in self.known), default=-1)

    def room(self, paths: Sequence[str]) -> int:
        """Return how many of these files can be followed too."""
        total, most = self._total, self._most - len(self._used)
        for count, path in enumerate(paths[: max(0, most)]):
            freed = self._sizes[self._free[-1 - count]] if count < len(self._free) else 0
            total += _size(path) - freed
            if total > _MOST_BYTES:
                return count
        return min(len(paths), max(0, most))

    def take(self, path: str, part: str = "") -> str:
        """Give a part to a file; if it has one in the positions already, that."""
        if not part and self._free:
            part = self._free.pop()
        elif not part:
            part = f"{_PREFIX}{self._next}"
            self._next += 1
        self._used.add(part)
        self._total += _size(path) - self._sizes.get(part, 0)
        self._sizes[part] = _size(path)
        return part

    def release(self, part: str) -> None:
        """Let another file have a part."""
        self._used.remove(part)
        self._free.append(part)

    def settle(self) -> None:
        """Let others have the parts of files that were not found again."""
        self._free = [part for part in self._sizes if part not in self._used]


def place_in(positions: Mapping[str, Any], part: str) -> Place | None:
    """Return the place that a part of the positions is."""
    return _decode(_encode(positions[part]), type=Place) if part in positions else None


def places_in(positions: Mapping[str, Any]) -> Iterator[tuple[str, Place]]:
    """Return the parts of the positions that are places of files."""
    for part in positions:
        if _PART.fullmatch(part) and (place := place_in(positions, part)) is not None:
            yield part, place


def _size(path: str) -> int:
    return len(_encode(path)) + _NUMBERS
