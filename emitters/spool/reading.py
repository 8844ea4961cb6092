"""Reads the log back, a little at a time, past whatever is garbled in it."""

import errno

from emitters.spool.book import Segment
from emitters.spool.disk import Disk, File
from emitters.spool.frames import HEAD, Frame, Hole, claimed, decode, scan
from emitters.spool.quarantine import Quarantine

_CHUNK = 512 << 10
_SECTOR = 4096


class Reader:
    """Reads segments. What is garbled goes to the quarantine."""

    def __init__(self, disk: Disk, quarantine: Quarantine) -> None:
        self._disk = disk
        self._quarantine = quarantine

    def read(self, segment: Segment, position: int, until: int) -> tuple[list[Frame | Hole], int]:
        """Return what is in a segment from a position on, some of it, and where to go on. Raises OSError.

        What the disk does not have any more is a hole; an error that may pass is raised.
        """
        try:
            file = self._disk.open(segment.name)
        except FileNotFoundError:
            return [Hole(position, until)], until
        try:
            data = _read(file, position - segment.start, min(_CHUNK, until - position))
            found: list[Frame | Hole] = []
            at = 0
            while at < len(data) and (frame := decode(data, at, position + at)) is not None:
                found.append(frame)
                at = frame.end - position
            if not found and position < until:
                found = [self._search(file, segment, position, until)]
        finally:
            file.close()
        return found, found[-1].end if found else until

    def _search(self, file: File, segment: Segment, position: int, until: int) -> Frame | Hole:
        """Return the frame at a position, however large, or the hole there."""
        at = position - segment.start
        size = claimed(_read(file, at, HEAD), 0, position)
        if size and (frame := decode(_read(file, at, size), 0, position)) is not None:
            return frame
        data = _read(file, at, until - position)
        hole = next((one for one in scan(data, position) if isinstance(one, Hole)), Hole(position, until))
        self._quarantine.put(position, data[: hole.end - position])
        return hole


def _read(file: File, at: int, size: int) -> bytes:
    """Return these bytes of a file, zeros for the sectors that the disk cannot read any more."""
    try:
        return file.read(size, at)
    except OSError as exc:
        if exc.errno != errno.EIO:
            raise
    if size <= _SECTOR:
        return bytes(size)
    return b"".join(_read(file, at + done, min(_SECTOR, size - done)) for done in range(0, size, _SECTOR))
