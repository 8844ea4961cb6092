"""The files beside a path that were there before: what rotation has moved or copied away."""

import os
import stat
from collections.abc import Container, Iterable, Iterator
from typing import Final, NamedTuple

from emitters.following.complaints import Complaints
from emitters.following.places import Place
from emitters.following.rotation import age, is_compressed, is_rotated
from emitters.following.tail import Tail
from emitters.following.trail import Trail
from emitters.following.tree import Tree, regular

Identity = tuple[int, int]

LOOKS: Final = 10
"""How often we look at most at a directory in which files are renamed meanwhile."""


def identity_of(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


class Sibling(NamedTuple):
    path: str
    name: str
    status: os.stat_result

    @property
    def identity(self) -> Identity:
        return identity_of(self.status)

    @property
    def moment(self) -> int:
        return self.status.st_mtime_ns // 1_000_000


class Siblings:
    """Looks for files by what is in them, and for those that nobody has read."""

    def __init__(self, tree: Tree, complaints: Complaints, encoding: str, most: int) -> None:
        self._tree = tree
        self._complaints = complaints
        self._encoding = encoding
        self._most = most

    def open(self, path: str, name: str, taken: Container[Identity]) -> Tail | None:
        """Open a file that is not among those that are open; `name` is what its records call it."""
        what = "file cannot be followed"
        try:
            links = bool(self._tree.covers(path))  # what lies beside may be given any name, and lead anywhere
            tail = Tail.open(path, name, self._encoding, self._most, links=links)
        except FileNotFoundError:
            return None
        except OSError as exc:
            self._complaints.about(what, path, exc.strerror or str(exc))
            return None
        if tail is None:
            self._complaints.about(what, path, "it is no regular file")
            return None
        self._complaints.withdraw(what, path)
        if tail.identity in taken:
            tail.close()
            return None
        return tail

    def missed(self, trail: Trail, since: int, taken: Container[Identity]) -> list[Sibling]:
        """Return the files of a trail that were written to after a moment and that nobody has read."""
        found = [one for one in self._rotated(trail.path, since, taken) if not is_compressed(one.name)]
        return [one for one in found if not self._is_copy(one, trail)]

    def tell_compressed(self, trail: Trail, since: int) -> None:
        """Tell of files that nobody can read any more, if anything was written to them after a moment."""
        for one in self._rotated(trail.path, since + 1, ()):
            if is_compressed(one.name):
                self._complaints.about("rotated file is compressed", one.path, "what was new in it is not read")

    def _rotated(self, path: str, since: int, taken: Container[Identity]) -> list[Sibling]:
        base = path.rpartition("/")[2]
        found = [
            one
            for one in self._beside(path)
            if one.moment >= since and one.identity not in taken and is_rotated(base, one.name)
        ]
        found.sort(key=lambda one: (one.status.st_mtime_ns, age(base, one.name)))
        return [one for one in found if not self._tree.covers(one.path)]

    def same(
        self, place: Place, path: str, taken: Container[Identity], matched: Iterable[Sibling]
    ) -> tuple[Tail, str] | None:
        """Return the file of a place, opened there, and its path by now: beside the former, or one that is matched."""
        for _ in range(LOOKS):
            found = [one for one in self.at(path) if one.status.st_ino == place.inode]  # as it nearly always is
            found = found or [one for one in (*self._beside(path), *matched) if one.status.st_ino == place.inode]
            found.sort(key=lambda one: one.status.st_dev != place.device)  # that may have another number after a boot
            if (resumed := next(self._resumed(found, place, taken), None)) is not None:
                return resumed
            if all(identity_of(now.status) == one.identity for one in found for now in self.at(one.path)):
                return None
        return None

    def copy(self, place: Place, path: str, taken: Container[Identity]) -> tuple[Tail, str] | None:
        """Return a copy that was made of a file after it had been read up to a place, opened there, and its path."""
        if place.offset == 0:
            return None
        found = [one for one in self._rotated(path, place.moment, taken) if not is_compressed(one.name)]
        return next(self._resumed(found, place, taken), None)

    def _is_copy(self, sibling: Sibling, trail: Trail) -> bool:
        """Tell whether a file is a copy of one of the trail's own, as far as it goes."""
        size = sibling.status.st_size
        tail = self.open(sibling.path, trail.name, ()) if size else None
        if tail is None:
            return False
        try:
            mark = tail.mark_at(size)
            return tail.identity == sibling.identity and any(one.mark_at(size) == mark for one in trail.tails)
        finally:
            tail.close()

    def _resumed(
        self, siblings: Iterable[Sibling], place: Place, taken: Container[Identity]
    ) -> Iterator[tuple[Tail, str]]:
        """Open files that have a place in them, there."""
        for sibling in siblings:
            tail = self.open(sibling.path, place.path, taken)
            if tail is not None and tail.resume(place.offset, place.mark):
                yield tail, sibling.path
            elif tail is not None:
                tail.close()

    def _beside(self, path: str) -> list[Sibling]:
        """Return the other regular files whose names begin as that of a path.

        They may be renamed while we look, so that we see one never or twice: until it is the same twice, look again.
        """
        found = list(self._seen_beside(path))
        for _ in range(LOOKS):
            before, found = found, list(self._seen_beside(path))
            if [(one.name, one.identity) for one in before] == [(one.name, one.identity) for one in found]:
                break
        return found

    def _seen_beside(self, path: str) -> Iterator[Sibling]:
        directory, _, base = path.rpartition("/")
        for name in self._tree.names(directory or "/"):
            if name.startswith(base) and name != base:
                yield from self._at(f"{directory}/{name}")

    @staticmethod
    def _at(path: str) -> Iterator[Sibling]:
        """Return the regular file at a path, not one behind a link."""
        try:
            status = os.lstat(path)
        except OSError:
            return
        if stat.S_ISREG(status.st_mode):
            yield Sibling(path, path.rpartition("/")[2], status)

    @staticmethod
    def at(path: str) -> Iterator[Sibling]:
        """Return the regular file at a path, also behind a link, if there is one."""
        try:
            status = regular(path)
        except OSError:
            return
        if status is not None:
            yield Sibling(path, path.rpartition("/")[2], status)
