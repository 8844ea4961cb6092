"""Makes the book anew from the files: from the newest checkpoint on, whatever a crash or the disk did to them."""

import contextlib
import logging
import re
from collections.abc import Iterator

import msgspec

from emitters.spool.book import Book, Placed, Segment, segment_name
from emitters.spool.disk import Disk
from emitters.spool.frames import (
    BATCH,
    CHECKPOINT,
    CONFIRMED,
    UNTOLD,
    Frame,
    Hole,
    decode,
    dropped_of,
    number_of,
    scan,
    sound,
)
from emitters.spool.quarantine import Quarantine

log = logging.getLogger(__name__)

_NAME = re.compile(r"0[0-9a-f]{15}\.log")
_SPARE = re.compile(r"spare\.[0-9]+")
_FIRST_READ = 256 << 10


class Recovery:
    """One look through the files. It holds one segment in memory at a time, and is stopped by nothing in them."""

    def __init__(self, disk: Disk, quarantine: Quarantine) -> None:
        self.book = Book()
        self.next = 0  # where the next segment may start
        self.base = 0  # the segment with the newest checkpoint
        self.lost: list[tuple[str, str, int]] = []
        self._disk = disk
        self._quarantine = quarantine
        self._sizes: dict[int, int] = {}
        self._used = 0

    def run(self, least: int) -> None:
        """Read what is there; segments are at least so long. Raises OSError where the folder cannot be read."""
        names = self._disk.sizes()
        self._sizes = {int(name[:16], 16): size for name, size in sorted(names.items()) if _NAME.fullmatch(name)}
        for name in names:
            if _SPARE.fullmatch(name):  # it may be from a life of this folder that somebody has put back
                self._disk.unlink(name)
        starts = list(self._sizes)
        self.base = next((start for start in reversed(starts) if self._restore(start)), 0)
        for start in starts:
            if start >= self.base:
                self._replay(start)
        self._clip()
        if starts:
            self.next = starts[-1] + max(least, self._sizes[starts[-1]])
            self._cut(starts[-1])

    def _restore(self, start: int) -> bool:
        frame = decode(self._read(start, _FIRST_READ) or b"", 0, start) or decode(self._read(start) or b"", 0, start)
        return frame is not None and frame.kind == CHECKPOINT and self.book.restore(frame.body)

    def _read(self, start: int, most: int | None = None) -> bytes | None:
        """Return a segment's bytes; None where the disk does not give them."""
        try:
            file = self._disk.open(segment_name(start))
            try:
                return file.read(most or self._sizes[start], 0)
            finally:
                file.close()
        except OSError as exc:
            log.error("part of the spool cannot be read", extra={"file": segment_name(start), "error": str(exc)})
            return None

    def _replay(self, start: int) -> None:
        segment = Segment(start, start, self._sizes[start])
        self.book.segments.append(segment)
        data = self._read(start)
        if data is None:  # all of it counts as unsent, until it can be read or proves to be lost
            self.book.add(Placed(self.book.reached, start + segment.size, 0.0, 0, 0))
            return
        stands, remains = sound(scan(data, start))
        for one in stands:
            self._used = one.end
            if isinstance(one, Hole):
                self._set_aside(data, start, one.position, one.end)
                self.lost += one.lost
                segment.holed = True
                self.book.reached = max(self.book.reached, one.end)
            else:
                self._apply(one)
        if remains:
            self._set_aside(data, start, remains[0].position, remains[-1].end)

    def _set_aside(self, data: bytes, start: int, position: int, end: int) -> None:
        log.warning("garbled bytes in the spool", extra={"position": position, "bytes": end - position})
        self._quarantine.put(position, data[position - start : end - start])

    def _apply(self, frame: Frame) -> None:
        book = self.book
        with contextlib.suppress(msgspec.MsgspecError):  # whole, but of another version: what it says is not needed
            if frame.kind == BATCH:
                placed = Placed(book.reached, frame.end, frame.time, frame.records, len(frame.body))
                book.add(placed, number := number_of(frame.body))
                if number is not None:
                    book.dropped.remove((number.emitter, number.stream), dropped_of(frame.body))
                if frame.rest:
                    book.apply_positions(frame.rest)
            elif frame.kind == CONFIRMED:
                book.apply_confirmed(frame.body)
            elif frame.kind == UNTOLD:
                book.apply_untold(frame.body)

    def _clip(self) -> None:
        """Forget what is said to be unsent and is in no file."""
        self._miss([one for one in self.book.segments if one.start not in self._sizes])
        for start, end in list(self._gaps()):
            self.book.unsent.remove(start, end)

    def _miss(self, missing: list[Segment]) -> None:
        """Let go of segments whose files are gone: nothing of most is unsent, they were removed for that."""
        book = self.book
        removed = [one for one in missing if book.needs(one)]
        if removed:
            batches = sum(one.batches for one in removed)
            log.error("files of the spool are missing", extra={"files": [one.name for one in removed], "lost": batches})
        for one in missing:
            one.holed = one.holed or one in removed
            book.forgo(one)
            book.segments.remove(one)

    def _gaps(self) -> Iterator[tuple[int, int]]:
        reached = 0
        for segment in self.book.segments:
            if segment.start > reached:
                yield reached, segment.start
            reached = segment.start + self._sizes[segment.start]
        yield reached, max([reached, *(end for _, end in self.book.unsent)])

    def _cut(self, start: int) -> None:
        """Give back what the newest segment does not use; nothing is ever written behind what was found in it."""
        segment = self.book.segments[-1]
        used = max(self._used, segment.end) - start
        if used < segment.size and self.book.needs(segment):
            with contextlib.suppress(OSError):
                file = self._disk.open(segment.name)
                try:
                    file.truncate(used)
                    file.sync()
                    segment.size = used
                finally:
                    file.close()
