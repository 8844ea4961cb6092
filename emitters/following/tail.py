"""One file that is being read: what was added to it since, line by line, whatever it is called by now."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Final, Self
from zlib import crc32

from emitters.following.links import opened
from emitters.following.places import HEAD, TAIL, Place, mark_of
from emitters.following.text import Text
from emitters.following.tree import regular
from exhaust.plugins import Record

_BLOCK: Final = 256 << 10
_WIDEST: Final = 4  # bytes of a character


class Rewritten(Exception):  # noqa: N818  no error: files may be emptied and written anew
    """What was read of a file is in it no more."""


class Tail:
    """An open file, read up to some place.

    `path` is the one under which it was found, as text; `left` since when another file may be there. `unread` is set
    while there may be something to read, `grew` is when there last was. `moment` is when the file had been written to
    by then, milliseconds, and where two say the same `age` tells which is older.
    """

    def __init__(self, fd: int, path: str, encoding: str, most: int) -> None:
        status = os.fstat(fd)
        self.fd = fd
        self.path = path
        self.identity = (status.st_dev, status.st_ino)
        self.part = ""
        self.moment = status.st_mtime_ns // 1_000_000
        self.left: float | None = None
        self.unread = True
        self.grew = 0.0
        self.age = 0
        self.watch = -1
        self._encoding = encoding
        self._most = most
        self._seen = (-1, 0)
        self._seek(0)

    @classmethod
    def open(cls, path: str, name: str, encoding: str, most: int, *, links: bool = True) -> Self | None:
        """Open a file, with `links` also behind a symbolic one; None if it is no regular one. Raises OSError."""
        if regular(path) is None:  # to open a device may do something
            return None
        fd = opened(path, links=links)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return cls(fd, name, encoding, most)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def close(self) -> None:
        os.close(self.fd)

    def _start(self, offset: int, head: bytes, tail: bytes) -> None:
        """Let this be where the next line begins; before it stand `tail` and, in the file's beginning, `head`."""
        self.offset = offset
        self.mark = mark_of(head, tail)
        self._head, self._tail = head, tail
        self._head_sum = crc32(head)
        self._begun = b""  # what is kept of a line that has not ended
        self._length = 0  # of that line so far
        self._text: Text | None = Text(self._encoding, head, self._most) if offset else None

    @property
    def place(self) -> Place:
        """Up to where all its lines were returned."""
        return Place(self.path, *self.identity, self.offset, self.mark, self.moment)

    @property
    def deleted(self) -> bool:
        """Whether the file has no name any more, or cannot be reached at all."""
        try:
            return os.fstat(self.fd).st_nlink == 0
        except OSError:
            return True

    @property
    def rewritten(self) -> bool:
        """Whether what was read of it is not in it any more."""
        try:
            return self.mark_at(self.offset) != self.mark
        except OSError:
            return False

    def resume(self, offset: int, mark: int) -> bool:
        """Go on from a place in this file, or in one of which it is a copy; return whether that place is in it."""
        if self.mark_at(offset) != mark:
            return False
        self._seek(offset)
        return True

    def mark_at(self, offset: int) -> int | None:
        """Return the mark of a place in the file; None where it is shorter."""
        head, tail = self._before(offset)
        whole = len(head) + len(tail) == min(offset, HEAD) + min(offset, TAIL)
        return mark_of(head, tail) if whole else None

    def skip(self) -> None:
        """Go to the end of what is there; to the beginning of the last line, if that has not ended."""
        size = os.fstat(self.fd).st_size
        text = Text(self._encoding, os.pread(self.fd, 4, 0), self._most)
        base = max(0, size - _BLOCK) // text.width * text.width
        end = text.end(os.pread(self.fd, _BLOCK, base), base)
        self._seek(base + end if end or not base else size // text.width * text.width)

    def _seek(self, offset: int) -> None:
        self._start(offset, *self._before(offset))
        self.began = offset

    def _before(self, offset: int) -> tuple[bytes, bytes]:
        """Return the beginning of the file and what is just before a place, as far as they are there."""
        return os.pread(self.fd, min(offset, HEAD), 0), os.pread(self.fd, min(offset, TAIL), max(0, offset - TAIL))

    def again(self) -> None:
        """Read the file from its beginning, or where that is a hole, left by who went on writing, from behind it."""
        self.unread = True
        try:
            self._seek(os.lseek(self.fd, 0, os.SEEK_DATA))
        except OSError:  # there is nothing in it, or this file system does not know
            self._seek(0)

    def look(self) -> None:
        """See whether it was written to."""
        with contextlib.suppress(OSError):
            status = os.fstat(self.fd)
            self.unread = self.unread or (status.st_size, status.st_mtime_ns) != self._seen

    def read(self, now: float) -> list[Record]:
        """Return the lines of the next block. Raises Rewritten, OSError."""
        status = os.fstat(self.fd)
        self._seen = (status.st_size, status.st_mtime_ns)
        if status.st_blocks * 512 < status.st_size and not self._crossed(status.st_size):
            self.unread = False  # until it grows
            return []
        reached, known = self.offset + self._length, len(self._tail)
        size = min(_BLOCK, max(known, status.st_size - reached + known))
        data = os.pread(self.fd, size, reached - known)
        if not data.startswith(self._tail):
            raise Rewritten
        self.unread = size == _BLOCK
        if len(data) == known:
            return []
        if self._text is None:
            self._text = Text(self._encoding, data[known : known + 4], self._most)
        data = data[: len(data) - (reached - known + len(data)) % self._text.width]
        self.moment = status.st_mtime_ns // 1_000_000
        self.grew = now
        if len(self._head) < HEAD:
            self._head = (self._head + data[known:])[:HEAD]
            self._head_sum = crc32(self._head)
        return list(self._records(self._text, data, now))

    def _crossed(self, size: int) -> bool:
        """Go on behind a hole that begins here, if it is large; return whether anything is there. Raises Rewritten.

        It is part of its line, unless the file begins with it.
        """
        reached = self.offset + self._length
        if size - reached < _BLOCK:  # some file systems write all back before they answer: not at each line
            return True
        try:
            data = os.lseek(self.fd, reached, os.SEEK_DATA)
        except OSError as exc:
            data = size if exc.errno == errno.ENXIO else reached  # else this file system does not know
        if data - reached < _BLOCK:
            return True
        if os.pread(self.fd, len(self._tail), reached - len(self._tail)) != self._tail:
            raise Rewritten
        if data >= size:
            return False
        if not reached:
            self._start(data, *self._before(data))
            return True
        self._head, self._tail = self._before(data)
        self._head_sum = crc32(self._head)
        self._begun = (self._begun + bytes(self._most + _WIDEST))[: self._most + _WIDEST]
        self._length += data - reached
        return True

    def _records(self, text: Text, data: bytes, now: float) -> Iterator[Record]:
        """Take the lines out of `data`, which begins with what is known."""
        start = len(self._tail)
        base = self.offset + self._length - start
        width, find = text.width, text.find
        while (at := find(data, start, base)) >= 0:
            line, length, end = data[start:at], at - start, at + width
            if self._length:
                line, length = self._begun + line, self._length + length
                self._begun, self._length = b"", 0
            head = self._head_sum if base + end >= HEAD else crc32(self._head[: base + end])
            self.mark = crc32(data[end - TAIL if end > TAIL else 0 : end], head)
            first, self.offset = self.offset, base + end
            yield self._record(text, line, length, first, now)
            start = end
        rest = data[start:]
        self._length += len(rest)
        self._begun = (self._begun + rest)[: self._most + width]
        self._tail = data[-TAIL:]

    def _record(self, text: Text, line: bytes, length: int, first: int, now: float) -> Record:
        told, more = text.decode(line, length)
        if not first:
            told = told.removeprefix("\ufeff")
        fields = {"path": self.path, "line": told, "offset": first, "inode": self.identity[1]}
        if more:
            fields.update(more)
        device, inode = self.identity
        place = (self.path, device, inode, self.offset, self.mark, self.moment)
        return Record(now, fields, "line", position=(self.part, place))

    def give_up(self, now: float) -> Iterator[Record]:
        """Return what there is of a line that will not end any more."""
        if self._text is None or not self._length:
            return
        reached = self.offset + self._length
        odd = os.pread(self.fd, self._text.width - 1, reached)  # less than a character
        text, line, length, first = self._text, self._begun + odd, self._length + len(odd), self.offset
        head = os.pread(self.fd, min(reached + len(odd), HEAD), 0)
        self._start(reached + len(odd), head, (self._tail + odd)[-TAIL:])
        record = self._record(text, line, length, first, now)
        record.fields["unfinished"] = True
        yield record
