"""The log's frames: a header with a checksum and a text, each knowing its own place, so that none is taken for another.

    magic 4 · position 8 · length of the body 4 · of the rest 4 · begun 4 · time 8 · count 4 · kind 1 · CRC32 4

All little-endian; body and rest follow. The position is the frame's first byte in the log, the checksum covers all but
itself. Frames that are written and synced together say where the first of them began (`begun` bytes before): all that
is older was on disk when they were written. The magic is no UTF-8, and all texts are: none holds what looks like a
frame.
"""

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

CHECKPOINT, BATCH, CONFIRMED, UNTOLD = 1, 2, 3, 4

_MAGIC = b"\xffEx\xfe"
_HEADER = struct.Struct("<4sQIIIdIB")
_CHECKSUM = struct.Struct("<I")
_reasons = msgspec.json.Decoder(dict[str, int]).decode
HEAD = _HEADER.size + _CHECKSUM.size
_LONGEST = 64 << 20
_MOST_RECORDS = 100_000
_STREAM = re.compile(rb'"emitter":"([^"\\]{1,100})","stream":"([^"\\]{1,100})"')
_NUMBER = re.compile(_STREAM.pattern + rb',"epoch":([0-9]{1,16}),"seq":([0-9]{1,13})[,}]')
_DROPPED = re.compile(rb',"seq":[0-9]{1,13},"dropped":(\{"[^{}]*\})')
_STREAM_WITHIN = 1024


class Frame(NamedTuple):
    """One frame that is whole; from position `begun` on it was written and synced together with others."""

    position: int
    end: int
    kind: int
    begun: int
    time: float
    records: int
    body: bytes
    rest: bytes


class Numbered(NamedTuple):
    """The number of a batch."""

    emitter: str
    stream: str
    epoch: int
    seq: int


class Hole(NamedTuple):
    """A stretch without a whole frame; `lost` is what its ruins say of batches: emitter, stream, records."""

    position: int
    end: int
    lost: tuple[tuple[str, str, int], ...] = ()


def encode(position: int, begun: int, kind: int, body: bytes, rest: bytes, time: float, count: int) -> list[bytes]:
    """Return a frame in pieces, ready to be joined."""
    head = _HEADER.pack(_MAGIC, position, len(body), len(rest), position - begun, time, count, kind)
    checksum = zlib.crc32(body, zlib.crc32(head))
    return [head, _CHECKSUM.pack(zlib.crc32(rest, checksum) if rest else checksum), body, rest]


def claimed(data: bytes, at: int, position: int) -> int:
    """Return how long the frame is whose header stands at `at` and names this position; 0 where there is none."""
    if len(data) - at < HEAD or not data.startswith(_MAGIC, at):
        return 0
    _, place, body, rest, *_ = _HEADER.unpack_from(data, at)
    size: int = HEAD + body + rest
    return size if place == position and size <= _LONGEST else 0


def decode(data: bytes, at: int, position: int) -> Frame | None:
    """Return the frame of this position at `at`; None where there is none, or not all of it."""
    if len(data) - at < HEAD:
        return None
    magic, place, length, extra, back, time, count, kind = _HEADER.unpack_from(data, at)
    body = at + HEAD
    rest = body + length
    end = rest + extra
    if magic != _MAGIC or place != position or end > len(data):
        return None
    text, more = data[body:rest], data[rest:end]
    checksum = zlib.crc32(text, zlib.crc32(data[at : at + _HEADER.size]))
    if zlib.crc32(more, checksum) != _CHECKSUM.unpack_from(data, at + _HEADER.size)[0]:
        return None
    return Frame(position, position + end - at, kind, position - back, time, count, text, more)


def number_of(body: bytes) -> Numbered | None:
    """Return the number of a batch, as the beginning of its text says; None where that does not."""
    found = _NUMBER.search(body, 0, _STREAM_WITHIN)
    if found is None:
        return None
    emitter, stream, epoch, seq = found.groups()
    return Numbered(emitter.decode(errors="replace"), stream.decode(errors="replace"), int(epoch), int(seq))


def dropped_of(body: bytes) -> dict[str, int]:
    """Return what a batch tells of dropped records, by reason, as the beginning of its text says."""
    found = _DROPPED.search(body, 0, _STREAM_WITHIN)
    return {} if found is None else _reasons(found[1])


def scan(data: bytes, position: int) -> Iterator[Frame | Hole]:
    """Yield the frames of `data`, which begins at this position of the log, and a hole where one is garbled.

    Behind the last frame there is a hole only as far as traces of frames reach: files are longer than what is in them.
    """
    first, at = position, 0
    while True:
        if (frame := decode(data, at, first + at)) is not None:
            yield frame
            at = frame.end - first
            continue
        ruins = _Ruins(first, at)
        following = ruins.search(data)
        if ruins.end > at:
            yield Hole(first + at, first + ruins.end, tuple(ruins.lost))
        if following is None:
            return
        at = following


class _Ruins:
    """What can be told of garbled frames: how far they reach, and of which streams how many records were in them."""

    def __init__(self, first: int, at: int) -> None:
        self._first = first
        self._at = at
        self.end = at
        self.lost: list[tuple[str, str, int]] = []

    def search(self, data: bytes) -> int | None:
        """Look for the next whole frame and return where in `data` it stands; None where there is none."""
        at = data.find(_MAGIC, self._at)
        while at >= 0:
            if decode(data, at, self._first + at) is not None:
                self.end = at
                return at
            if size := claimed(data, at, self._first + at):
                self._note(data, at, size)
            at = data.find(_MAGIC, at + 1)
        return None

    def _note(self, data: bytes, at: int, size: int) -> None:
        self.end = max(self.end, min(at + size, len(data)))
        count = _HEADER.unpack_from(data, at)[6]
        named = _STREAM.search(data, at + HEAD, at + HEAD + min(size, _STREAM_WITHIN))
        if named is not None and count <= _MOST_RECORDS:
            self.lost.append((named[1].decode(errors="replace"), named[2].decode(errors="replace"), count))


def sound(found: Iterable[Frame | Hole]) -> tuple[list[Frame | Hole], list[Frame | Hole]]:
    """Split what was found into what stands, and the remains of a last write that was never synced.

    A hole, and what follows it, is such a remain unless a later frame was begun when all up to there was on disk.
    """
    stands: list[Frame | Hole] = []
    doubtful: list[Frame | Hole] = []
    for one in found:
        if not doubtful and isinstance(one, Frame):
            stands.append(one)
            continue
        doubtful.append(one)
        if isinstance(one, Frame):
            proven = next((n for n, other in enumerate(doubtful) if other.position >= one.begun), len(doubtful))
            while proven < len(doubtful) and isinstance(doubtful[proven], Frame):
                proven += 1
            stands += doubtful[:proven]
            del doubtful[:proven]
    return stands, doubtful
