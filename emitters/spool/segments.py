"""The log: frames in segment files of a fixed length, written over beforehand, so that a sync commits nothing else.

A frame's number is its byte position in the whole log, which only grows. Where writing has failed nothing is written
again: the segment is cut there and the next begins. What is in memory belongs to the event loop; methods that reach for
the disk say so, and are called one after another.
"""

import contextlib
import errno
import logging
from collections.abc import Sequence
from typing import Any

from emitters.spool.book import Book, Bounds, Done, Placed, Segment, encode_confirmed, segment_name
from emitters.spool.disk import Disk, File
from emitters.spool.frames import CHECKPOINT, CONFIRMED, HEAD, UNTOLD
from emitters.spool.group import Group
from emitters.spool.quarantine import Quarantine
from emitters.spool.reading import Reader
from emitters.spool.recovery import Recovery
from exhaust.errors import StoreError

log = logging.getLogger(__name__)

MOST = 256 << 20
_SEGMENT = 8 << 20
_STEP = 1 << 20
_SPARES = 1
_MOST_SPANS = 512
_MOST_NUMBERS = 1000
_MOST_UNTOLD = 1000


class Log:
    """The segments of one folder. Nobody else may have it open."""

    def __init__(self, disk: Disk, *, most: int = MOST) -> None:
        self.size = min(_SEGMENT, most // 16)
        self.book = Book()
        self.quarantine = Quarantine(disk)
        self.reader = Reader(disk, self.quarantine)
        self.lost: list[tuple[str, str, int]] = []  # what recovery found garbled: emitter, stream, records
        self._disk = disk
        self._limit = most - (1 + _SPARES) * self.size  # the rest of the newest segment, and the spare ones
        self._next = 0
        self._anchor = 0  # the segment that begins with the newest checkpoint
        self._current: Segment | None = None
        self._synced = 0
        self._end = 0
        self._confirmed: list[Done] = []
        self._changes = (0, 0)
        self._unnumbered = False
        self._bounds = Bounds(
            min(_MOST_SPANS, self.size // 128),
            min(_MOST_NUMBERS, self.size // 512),
            min(_MOST_UNTOLD, self.size // 512),
            min(_MOST_UNTOLD, self.size // 512),
        )
        self._file: File | None = None
        self._spares: list[str] = []
        self._making: tuple[File, str, int] | None = None
        self._numbers = 0

    # What reaches for the disk

    def recover(self) -> None:
        """Read what is there. Raises OSError where the folder cannot be read. Reaches for the disk."""
        recovery = Recovery(self._disk, self.quarantine)
        self.quarantine.look()
        recovery.run(self.size)
        self.book, self.lost = recovery.book, recovery.lost
        self._next, self._anchor = recovery.next, recovery.base
        self.recycle(self._free())
        self._changes = self.book.changes
        self._checkpoint()  # what is too long goes now: once it was asked for, it would end this life like the last

    def write(self, group: Group, *, sync: bool = True) -> None:
        """Write a group, or leave nothing of it behind and raise OSError. Reaches for the disk."""
        try:
            if group.opens:
                self._close()
                self._file = self._fresh(segment_name(group.segment))
                self._disk.sync()
            if self._file is None:
                raise OSError(errno.EBADF, "no segment is open")
            self._file.write(group.data, group.position - group.segment)
            if sync:
                self._file.sync()
        except OSError:
            self._undo(group)
            raise

    def _fresh(self, name: str) -> File:
        if not self._spares:
            self.prepare(self.size // _STEP + 1)
        self._disk.rename(self._spares.pop(), name)
        return self._disk.open(name)

    def _undo(self, group: Group) -> None:
        # What cannot be undone does no harm: the next checkpoint does not count it among the unsent.
        with contextlib.suppress(OSError):
            if group.opens:
                self._disk.unlink(segment_name(group.segment))
            elif self._file is not None:
                self._file.truncate(group.position - group.segment)
                self._file.sync()
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def prepare(self, steps: int = 1) -> None:
        """Do some steps towards one more spare segment, written over its whole length. Reaches for the disk."""
        if self._making is None:
            self._numbers += 1
            name = f"spare.{self._numbers}"
            self._making = self._disk.create(name), name, 0
        file, name, done = self._making
        try:
            for _ in range(steps):
                step = min(_STEP, self.size - done)
                file.write(bytes(step), done)
                done += step
            file.sync()
        except OSError:
            self._making = None
            with contextlib.suppress(OSError):
                file.close()
                self._disk.unlink(name)
            raise
        self._making = (file, name, done) if done < self.size else None
        if self._making is None:
            file.close()
            self._spares.append(name)

    def recycle(self, segments: Sequence[Segment]) -> None:
        """Remove the files of segments that nobody needs, or keep them as spare ones. Reaches for the disk."""
        for segment in segments:
            with contextlib.suppress(OSError):
                if segment.size == self.size and len(self._spares) < _SPARES:
                    self._numbers += 1
                    self._disk.rename(segment.name, f"spare.{self._numbers}")
                    self._spares.append(f"spare.{self._numbers}")
                else:
                    self._disk.unlink(segment.name)

    def close(self) -> None:
        """Let go of the files."""
        self._close()
        if self._making is not None:
            with contextlib.suppress(OSError):
                self._making[0].close()
            self._making = None

    # What is in memory

    @property
    def used(self) -> int:
        """Bytes of the disk that what is unsent holds."""
        book, current = self.book, self._current
        held = sum(one.size for one in book.segments if one is not current)
        if current is not None and current.batches and book.unsent:
            held += current.end - max(current.start, book.unsent.first[0])
        return held

    @property
    def level(self) -> float:
        """How full the log is; 1 and above is full."""
        return self.used / self._limit

    @property
    def wants_spare(self) -> bool:
        """Whether the newest segment nears its end, and the next is not there yet."""
        half = self._current is not None and 2 * (self._end - self._current.start) > self.size
        return half and not self._spares and self.used + 2 * self.size <= self._limit

    @property
    def owes(self) -> bool:
        """Whether anything was confirmed, or came to what is untold, that is not written down yet, and can be."""
        return bool(self._confirmed) or (bool(text := self._untold()) and (self._has_room(text) or self.level < 1))

    def _untold(self) -> bytes:
        """Return what is untold, as far as that has changed since it was written down."""
        changes = self.book.changes
        if changes == self._changes:
            return b""
        return self.book.untold(self._bounds, forgone=changes[1] != self._changes[1])

    def _has_room(self, text: bytes) -> bool:
        return self._current is not None and self._end + HEAD + len(text) <= self._current.start + self.size

    def group(self, *, roll: bool = False) -> Group:
        """Begin a group, with what was confirmed and is untold; in a new segment where that needs one, or `roll` does.

        Raises StoreError where a checkpoint would be too long.
        """
        confirmed, self._confirmed = self._confirmed, []
        untold = self._untold()
        if roll or self._current is None or (untold and not self._has_room(untold) and self.level < 1):
            start = self._next
            group = Group(start, start, start, start + self.size, opens=True)
            group.add(CHECKPOINT, self._checkpoint())
            group.changes = self.book.changes
        else:
            start = self._current.start
            group = Group(start, self._end, self._synced, start + self.size, opens=False)
            if untold and group.fits(len(untold)):  # before what was given up is called done with
                group.add(UNTOLD, untold)
                group.changes = self.book.changes
            if confirmed and group.fits(len(text := encode_confirmed(confirmed))):
                group.add(CONFIRMED, text)
        group.confirmed = confirmed
        return group

    def rolled(self, group: Group) -> Group:
        """Begin a group in a new segment instead of one that has no batch yet. Raises StoreError as `group` does."""
        other = self.group(roll=True)
        other.confirmed = [*group.confirmed, *other.confirmed]
        return other

    def _checkpoint(self) -> bytes:
        """Return what a segment begins with, without what can best be spared where that would be too long."""
        book, most, whole = self.book, self.size // 2, self._bounds
        choices = (whole, whole._replace(numbers=0), whole._replace(numbers=0, forgone=0))
        while (bounds := next((one for one in choices if len(book.checkpoint(one)) <= most), None)) is None:
            if not (use := book.shorten()):
                size = len(book.checkpoint(choices[-1]))
                raise StoreError(f"a checkpoint of {size} bytes is too long: let emitters keep shorter positions")
            log.error("positions are too long together, forgetting those of one use", extra={"use": use})
        if bounds is not whole and not self._unnumbered:
            log.error("a checkpoint is too long, it goes without numbers", extra={"forgone": bounds.forgone > 0})
        self._unnumbered = bounds is not whole
        return book.checkpoint(bounds)

    def accept(self, group: Group, *, synced: bool = True) -> list[Segment]:
        """Take a group that was written into account; return the segments that nobody needs any more."""
        if group.opens:
            self._current = Segment(group.segment, group.segment, self.size)
            self._next, self._anchor = group.segment + self.size, group.segment
            self.book.segments.append(self._current)
        for placed, number in zip(group.batches, group.numbers, strict=True):
            self.book.add(placed, number)
        for moved in group.positions:
            self.book.apply_positions(moved)
        self._end = group.end
        self._changes = group.changes or self._changes
        if synced:
            self._synced = group.end
        return self._free() if group.opens else []

    def reject(self, group: Group) -> None:
        """Forget a group that was not written: nothing is put where it would have been."""
        self._confirmed = [*group.confirmed, *self._confirmed]
        self._next = group.segment + self.size
        if self._current is not None and not group.opens:
            self._current.size = self._end - self._current.start
        self._current = None

    def confirm(self, placed: Placed) -> list[Segment]:
        """Note that a batch is safe elsewhere; return the segments that nobody needs any more."""
        if not self.book.unsent.covers(placed.start, placed.end):  # given up meanwhile
            return []
        return self._end_with(Done(placed.start, placed.end, 1), placed.time)

    def give_up(self, start: int, end: int, batches: int, *, lost: bool = True) -> list[Segment]:
        """Note that a stretch will never be sent; return as `confirm` does.

        Where its numbers are `lost`, all of its segment are called forgone once that is done with.
        """
        return self._end_with(Done(start, end, batches, lost))

    def _end_with(self, done: Done, time: float = 0.0) -> list[Segment]:
        segment = self.book.remove(done, time)
        if segment is None:
            return []
        last = self._confirmed[-1] if self._confirmed else None
        if last is not None and last.end == done.start and last.start >= segment.start and last.lost == done.lost:
            self._confirmed[-1] = Done(last.start, done.end, last.batches + done.batches, done.lost)
        else:
            self._confirmed.append(done)
        return self._free() if segment is not self._current else []

    def _free(self) -> list[Segment]:
        book = self.book
        free = [one for one in book.segments if one.start < self._anchor and not book.needs(one)]
        if free:
            book.segments = [one for one in book.segments if one not in free]
            for one in free:
                book.forgo(one)
        return free

    def outdated(self, before: float) -> list[Segment]:
        """Return the sealed segments with anything unsent whose newest batch is older than that."""
        book = self.book
        return [one for one in book.segments if one is not self._current and book.needs(one) and one.newest < before]

    def status(self) -> dict[str, Any]:
        """Return what an operator wants to know of it."""
        return {
            "unsent": self.book.batches,
            "bytes": self.book.unsent.size,
            "disk": sum(one.size for one in self.book.segments) + len(self._spares) * self.size,
            "quarantined": self.quarantine.size,
        }
