"""All that was written under one path: the file there now, and those before it that are not yet read to their end."""

from collections.abc import Iterator

from emitters.following.complaints import Complaints, shown
from emitters.following.tail import Rewritten, Tail
from exhaust.plugins import Record

_PATIENCE = 5.0  # seconds of silence after which a line that has not ended in a file that is gone never will
_LATECOMERS = 60.0  # seconds for which somebody may still write to a file that was moved away


class Trail:
    """The files of a path, oldest first, which is the order to read them in."""

    def __init__(self, path: str, complaints: Complaints) -> None:
        self.path = path
        self.name = shown(path)
        self.tails: list[Tail] = []
        self._complaints = complaints
        self._moment = 0

    @property
    def moment(self) -> int:
        """When the newest of the files that are known was written to when last looked at, milliseconds; 0 for none."""
        return max([self._moment, *(tail.moment for tail in self.tails)])

    @moment.setter
    def moment(self, moment: int) -> None:
        self._moment = max(self._moment, moment)

    @property
    def newest(self) -> Tail | None:
        return self.tails[-1] if self.tails else None

    @property
    def unread(self) -> bool:
        return any(tail.unread for tail in self.tails)

    def add(self, tail: Tail) -> None:
        """Add a file that is newer than the others, but for one that is at the path now."""
        newest = self.newest
        there = newest is not None and newest.left is None and tail.left is not None
        self.tails.insert(len(self.tails) - there, tail)

    def read(self, now: float) -> tuple[list[Record], Tail | None]:
        """Return the records of a block of the oldest file that has one; or, without any, a file that was rewritten."""
        for tail in self.tails:
            if tail.unread:
                try:
                    records = tail.read(now)
                except Rewritten:
                    return [], tail
                except OSError as exc:
                    tail.unread = False
                    self._complaints.about("file cannot be read", self.path, exc.strerror or str(exc))
                    continue
                if records or tail.unread:
                    return records, None
        return [], None

    def finished(self, now: float) -> Iterator[tuple[Tail, bool]]:
        """Return the files that are read to their end and have been quiet for a while, and whether each can be closed.

        One that was only moved away is kept while nothing newer is known: it tells which others are older.
        """
        for tail in list(self.tails):
            if tail.left is None or tail.unread:
                continue
            quiet = now - max(tail.left, tail.grew)
            if quiet >= _PATIENCE:
                old = quiet >= _LATECOMERS and tail.moment < self.moment
                yield tail, tail.deleted or old

    def drop(self, tail: Tail) -> None:
        self.moment = tail.moment
        self.tails.remove(tail)
