"""A file that grows by records of one size, read on wherever rotation takes it: nothing left out, nothing twice.

Where it was read to is known by the inode, the offset and a sum of the last record. So a file that was renamed, or
copied before it was truncated, is found among its neighbours (NAME.1, NAME-20260101) and read to its end first.
"""

import logging
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from emitters.exits.pacct import SIZE, UnusableError, ended

log = logging.getLogger(__name__)

_MOST = 2048  # records at once
_SETTLED = 2  # looks at which a file that was moved away has not grown: somebody may just have been writing to it


class Place(NamedTuple):
    """After which record of which file; `sum` is that record's CRC."""

    inode: int
    offset: int
    sum: int

    @classmethod
    def of(cls, data: Any) -> Self | None:
        """Take one from plain data; None if it is none."""
        whole = isinstance(data, list | tuple) and len(data) == 3 and all(isinstance(one, int) for one in data)
        return cls(*data) if whole and data[1] >= 0 and data[1] % SIZE == 0 else None


class _File:
    """One file, open at an offset. `last` is the record before it, empty at the beginning."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise OSError(0, "it is no regular file")
        self.inode = status.st_ino
        self.offset, self.last = 0, b""

    def close(self) -> None:
        os.close(self._fd)

    @property
    def status(self) -> os.stat_result:
        return os.fstat(self._fd)

    @property
    def place(self) -> Place:
        return Place(self.inode, self.offset, zlib.crc32(self.last) if self.last else 0)

    def first(self) -> bytes:
        return os.pread(self._fd, SIZE, 0)

    def seek(self, offset: int) -> None:
        self.offset, self.last = offset, os.pread(self._fd, SIZE, offset - SIZE) if offset else b""

    def holds(self, place: Place) -> bool:
        """Say whether this is the file of a place, or a copy of it, and stand there if so."""
        if place.offset == 0:
            return place.inode == self.inode
        record = os.pread(self._fd, SIZE, place.offset - SIZE)
        if len(record) < SIZE or zlib.crc32(record) != place.sum:
            return False
        self.offset, self.last = place.offset, record
        return True

    def read(self) -> list[bytes] | None:
        """Return the next whole records, none at the end; None where it was truncated."""
        behind = len(self.last)
        data = os.pread(self._fd, behind + _MOST * SIZE, self.offset - behind)
        if data[:behind] != self.last:
            return None
        return [data[at : at + SIZE] for at in range(behind, len(data) - SIZE + 1, SIZE)]

    def passed(self, record: bytes) -> Place:
        self.offset, self.last = self.offset + SIZE, record
        return self.place


class Trail:
    """Reads on from a place. Without one it begins at the end; with what is written later where there is no file."""

    def __init__(self, path: Path, place: Any) -> None:
        self._path = path
        self._place = Place.of(place)
        self._file: _File | None = None
        self._begun = self._place is not None
        self._quiet = 0

    @property
    def inode(self) -> int:
        """That of the file which is being read, 0 if none is."""
        return self._file.inode if self._file else 0

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def read(self) -> Iterator[tuple[bytes, Place]]:
        """Yield what was not read before, each record with the place after it. Raises OSError as opening does."""
        if self._file is None:
            self._file = self._found()
            self._begun = True
        while file := self._file:
            records = file.read()
            if records is None:
                self._restart(file)
            elif records:
                self._quiet = 0
                for record in records:
                    yield record, file.passed(record)
            elif not self._turned(file):
                break

    def _found(self) -> _File | None:
        """Open the file where to go on."""
        if self._place is None:
            try:
                file = _File(self._path)
            except FileNotFoundError:
                return None
            file.seek(0 if self._begun else file.status.st_size // SIZE * SIZE)
            return file
        if (holder := self._holder(self._place)) is not None:
            return holder
        log.warning("what was read last is in no file any more, reading on at its start", extra={"path": self._path})
        self._place = None
        return self._found()

    def _holder(self, place: Place) -> _File | None:
        """Find the file of a place: by its inode at best, else one that has the same record there."""
        found: _File | None = None
        for file in self._neighbours():
            if not file.holds(place) or (found and file.inode != place.inode):
                file.close()
                continue
            if found:
                found.close()
            found = file
        return found

    def _restart(self, file: _File) -> None:
        """Go on in a copy of what was truncated, if there is one, and then from its start."""
        place = file.place
        if copy := self._holder(place):
            log.info("the file was truncated, reading its copy to the end", extra={"path": self._path})
            file.close()
            self._file = copy
            return
        log.warning("the file was truncated, what was not read before is gone", extra={"path": self._path})
        file.seek(0)

    def _turned(self, file: _File) -> bool:
        """Turn to the file that follows, once this one has been left alone; return whether there is one."""
        try:
            current = self._path.stat()
        except OSError:
            return False
        if current.st_ino == file.inode or not current.st_size:
            return False
        self._quiet += 1
        if self._quiet < _SETTLED or (following := self._following(file)) is None:
            return False
        self._quiet = 0
        file.close()
        self._file = following
        return True

    def _following(self, file: _File) -> _File | None:
        """Open the oldest file that begins after this one's end; the last of them is the one at the path."""
        began, end, written = file.first(), _ended(file.last), file.status.st_mtime_ns
        others: list[tuple[bool, float, int, _File]] = []
        for other in self._neighbours():
            first, current, mtime = other.first(), other.inode == self._inode(), other.status.st_mtime_ns
            later = other.inode != file.inode and first != began and _ended(first) >= end and mtime > written
            if later or current:
                others.append((current, _ended(first), mtime, other))
            else:
                other.close()
        others.sort(key=lambda one: one[:3])
        for *_, other in others[1:]:
            other.close()
        return others[0][3] if others else None

    def _inode(self) -> int:
        try:
            return self._path.stat().st_ino
        except OSError:
            return 0

    def _neighbours(self) -> Iterator[_File]:
        """Open the file at the path, then those beside it that have its name and more, and hold records."""
        with suppress(FileNotFoundError):
            yield _File(self._path)
        for path in sorted(self._path.parent.iterdir()):
            if path.name.startswith(self._path.name) and path != self._path:
                with suppress(OSError):
                    file = _File(path)
                    if file.status.st_size % SIZE == 0 and _ended(file.first()) >= 0:
                        yield file
                    else:
                        file.close()


def _ended(record: bytes) -> float:
    """Return when the process of a record ended, to the second; -1 where it is none."""
    try:
        return ended(record)
    except UnusableError:
        return -1.0
