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

from emitters.spool.book import Book, Done, Placed, Positions, Segment, encode_confirmed, encode_positions, segment_name
from emitters.spool.disk import Disk, File
from emitters.spool.frames import BATCH, CHECKPOINT, CONFIRMED, HEAD, Numbered, encode
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
_MOST_FORGONE = 1000


class Group:
    """Frames that become durable together: one write, and one sync, of one segment."""

    def __init__(self, segment: int, position: int, begun: int, most: int, *, opens: bool) -> None:
        self.segment = segment
        self.position = position
        self.end = position
        self.opens = opens
        self.batches: list[Placed] = []
        self.numbers: list[Numbered | None] = []
        self.confirmed: list[Done] = []
        self.positions: list[bytes] = []
        self._begun = begun
        self._most = most
        self._parts: list[bytes] = []

    @property
    def data(self) -> bytes:
        return b"".join(self._parts)

    def fits(self, size: int) -> bool:
        """Tell whether there is room for one more frame, of so many bytes beside its head."""
        return self.end + HEAD + size <= self._most

    def add(self, kind: int, body: bytes, rest: bytes = b"", time: float = 0.0, count: int = 0) -> int:
        """Append a frame and return its end."""
        self._parts += encode(self.end, self._begun, kind, body, rest, time, count)
        self.end += HEAD + len(body) + len(rest)
        return self.end

    def batch(
        self, after: int, body: bytes, time: float, count: int, moved: Positions, number: Numbered | None = None
    ) -> Placed | None:
        """Append a batch with where its sources then are, or return None where there is no room for it.

        `after` is the end of the newest batch before this group.
        """
        rest = encode_positions(moved) if moved else b""
        if not self.fits(len(body) + len(rest)):
            return None
        start = self.batches[-1].end if self.batches else after
        placed = Placed(start, self.add(BATCH, body, rest, time, count), time, count, len(body))
        self.batches.append(placed)
        self.numbers.append(number)
        if rest:
            self.positions.append(rest)
        return placed


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
        """Whether anything was confirmed that is not written down yet."""
        return bool(self._confirmed)

    def group(self, *, roll: bool = False) -> Group:
        """Begin a group, with what was confirmed; in a new segment where there is none, or `roll` asks for it.

        Raises StoreError where a checkpoint would be too long.
        """
        confirmed, self._confirmed = self._confirmed, []
        if roll or self._current is None:
            start = self._next
            group = Group(start, start, start, start + self.size, opens=True)
            group.add(CHECKPOINT, self._checkpoint())
        else:
            start = self._current.start
            group = Group(start, self._end, self._synced, start + self.size, opens=False)
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
        """Return what a segment begins with, without positions that nobody asks for where that would be too long."""
        book, bounds = self.book, (min(_MOST_SPANS, self.size // 128), min(_MOST_FORGONE, self.size // 512))
        while len(text := book.checkpoint(*bounds)) > self.size // 2:
            if not (use := book.shorten()):
                raise StoreError(f"a checkpoint of {len(text)} bytes is too long: let emitters keep shorter positions")
            log.error("positions are too long together, forgetting those of one use", extra={"use": use})
        return text

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

    def give_up(self, start: int, end: int, batches: int) -> list[Segment]:
        """Note that a stretch will never be sent; return as `confirm` does."""
        return self._end_with(Done(start, end, batches, lost=True))

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
