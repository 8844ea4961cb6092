"""Follows files: which there are, which were rotated away, and what was added to each."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emitters.following.beginnings import Beginnings
from emitters.following.complaints import Complaints, hidden
from emitters.following.inotify import ATTRIB, DELETE_SELF, IGNORED, MODIFY, MOVE_SELF, Notice
from emitters.following.places import Place, Slots, place_in, places_in
from emitters.following.rotation import age
from emitters.following.siblings import LOOKS, Identity, Sibling, Siblings, identity_of
from emitters.following.tail import Tail
from emitters.following.trail import Trail
from emitters.following.tree import Tree, regular
from emitters.following.watches import Watches, overflowed
from exhaust.plugins import Record

Found = tuple[Tail, str]


@dataclass(frozen=True)
class Wanted:
    """Which files to follow, and how to read them."""

    patterns: Sequence[str]
    encoding: str
    most_line: int
    most_files: int
    from_end: bool
    state: Path | None


class Follower:
    """All files that are followed. What it holds is opened by `start`, and closed by `close`."""

    def __init__(self, wanted: Wanted, watches: Watches, complaints: Complaints, positions: Mapping[str, Any]) -> None:
        self._watches = watches
        self._complaints = complaints
        self._tree = Tree(wanted.patterns, complaints, siblings=True)
        self._siblings = Siblings(self._tree, complaints, wanted.encoding, wanted.most_line)
        self._positions = positions
        self._most_files = wanted.most_files
        self._slots = Slots(positions, 2 * wanted.most_files)  # with what is rotated and not yet read
        self._beginnings = Beginnings(wanted.state, wanted.patterns)
        self._from_end = wanted.from_end
        self._trails: dict[str, Trail] = {}
        self._tails: dict[Identity, Tail] = {}
        self._watched: dict[int, tuple[Tail, Trail]] = {}
        self._busy: dict[Trail, None] = {}
        self._here: dict[Identity, str] = {}
        self._begun: dict[Identity, tuple[str, Place]] = {}
        self._left_out: set[str] = set()
        self._owed: list[Record] = []
        self._stale = False

    @property
    def busy(self) -> bool:
        """Whether there may be more to read at once."""
        return self.reading or self._stale

    @property
    def reading(self) -> bool:
        """Whether there may be more to read in what is known."""
        return bool(self._busy or self._owed)

    @property
    def stale(self) -> bool:
        """Whether files may be others than those that are known."""
        return self._stale

    def close(self) -> None:
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()

    def start(self, now: float) -> None:
        """Find the files of the positions again, and all others."""
        matched = [one for path in self._tree.find() for one in self._siblings.at(path)]
        lost = []
        for trail, part, place in self._restored():
            found = self._siblings.same(place, trail.path, self._tails, matched)
            if not self._restore(trail, part, place, found, now):
                lost.append((trail, part, place))
        for trail, part, place in lost:  # only now: what is a copy of one may be known itself
            found = self._siblings.copy(place, trail.path, self._tails)
            if not self._restore(trail, part, place, found, now) and not trail.tails:
                self._siblings.tell_compressed(trail, place.moment)
        self._slots.settle()
        self.scan(now, {one for one in self._tree.patterns if one not in self._beginnings.known})
        self._beginnings.keep(self._begun.values())

    def _restored(self) -> list[tuple[Trail, str, Place]]:
        """Return the places that are known, the newest first, with their trails and parts of the positions."""
        further = {(place.path, place.inode) for place in self._slots.known.values()}
        begun = [one for one in self._beginnings.places() if (one.path, one.inode) not in further]
        known = [*self._slots.known.items(), *(("", place) for place in begun)]
        known.sort(key=lambda one: one[1].moment, reverse=True)
        found = []
        for part, place in known:
            path = hidden(place.path)
            if self._tree.covers(path):
                trail = self._trails.setdefault(path, Trail(path, self._complaints))
                trail.moment = place.moment
                found.append((trail, part, place))
        return found

    def _restore(self, trail: Trail, part: str, place: Place, found: Found | None, now: float) -> bool:
        """Go on in the file of a place; return whether there is one."""
        if found is None:
            return False
        tail, there = found
        if not part:
            self._begun[tail.identity] = self._tree.covers(trail.path), place
        tail.left = None if there == trail.path else now
        tail.age = age(trail.path, there)
        self._add(trail, tail, part)
        trail.tails.sort(key=lambda one: (one.left is None, one.moment, one.age))
        return True

    def notice(self, notice: Notice, directory: str) -> None:
        """Take what the kernel tells."""
        if overflowed(notice):
            self._stale = True
            self._look()
        elif directory:
            gone = notice.mask & (IGNORED | DELETE_SELF | MOVE_SELF)
            self._stale = self._stale or bool(gone) or self._tree.matters(directory, notice.name)
        elif known := self._watched.get(notice.watch):
            tail, trail = known
            tail.unread = True
            self._busy[trail] = None
            self._stale = self._stale or bool(notice.mask & ~MODIFY)

    def beat(self, now: float) -> Iterator[Record]:
        """Look at everything, and let go of what is over; return lines that will not end any more."""
        self._stale = True
        self._look()
        for trail in list(self._trails.values()):
            for tail, over in trail.finished(now):
                yield from tail.give_up(now)
                if over and tail.identity not in self._here and self._forgets(tail):
                    self._drop(trail, tail)
            if not trail.tails and trail.path not in self._here.values():
                del self._trails[trail.path]

    def round(self, now: float) -> Iterator[Record]:
        """Read a block of each path that has something new."""
        owed, self._owed = self._owed, []
        yield from owed
        for trail in list(self._busy):
            records, rewritten = trail.read(now)
            yield from records
            if rewritten is not None:
                self._read_again(trail, rewritten, now)
            elif not trail.unread:
                self._busy.pop(trail, None)

    def _look(self) -> None:
        for trail in self._trails.values():
            for tail in trail.tails:
                tail.look()
            if trail.unread:
                self._busy[trail] = None

    def _forgets(self, tail: Tail) -> bool:
        """Tell whether all that was read of a file is safe; where it was begun is forgotten once more is known."""
        place = place_in(self._positions, tail.part)
        safe = place is not None and (place.inode, place.offset) == (tail.identity[1], tail.offset)
        if tail.offset != tail.began and not safe:
            return False
        if tail.identity not in self._begun:
            return True
        if not any(place.path == tail.path for _, place in places_in(self._positions)):
            return tail.deleted  # that it was there tells which files have come since
        del self._begun[tail.identity]
        self._beginnings.keep(self._begun.values())
        return True

    def scan(self, now: float, first: frozenset[str] | set[str] = frozenset()) -> None:
        """See which files are where; those of the patterns in `first` are followed for the first time ever."""
        self._stale = False
        found = self._tree.find()
        self._watches.directories(self._tree.directories)
        there = self._there(found)
        self._here = {identity_of(status): path for path, status in there.items()}
        for trail in self._trails.values():
            self._place(trail, there.get(trail.path), now)
        new = [path for path, status in there.items() if identity_of(status) not in self._tails]
        known = {(place.path, place.inode): place for _, place in places_in(self._positions)} if new else {}
        for path in sorted(new, key=lambda path: there[path].st_mtime_ns):
            if (tail := self._arrive(path, now)) is None:
                continue
            if found[path] in first:
                self._begin(tail, found[path])
            elif place := known.get((tail.path, tail.identity[1])):
                tail.resume(place.offset, place.mark)  # it has been away
        for trail in self._trails.values():
            if trail.newest is None or trail.newest.left is not None:
                self._catch_up(trail, trail.moment, now)

    def _there(self, found: Mapping[str, str]) -> dict[str, os.stat_result]:
        """Return the regular files at these paths, the newest ones where there are too many."""
        there: dict[str, os.stat_result] = {}
        full = len(self._trails) >= self._most_files or not self._slots.room([""])
        self._left_out = {path for path in self._left_out if full and path in found}
        for path in found:
            if path in self._left_out:
                continue
            try:
                status = regular(path)
            except OSError as exc:
                if not isinstance(exc, FileNotFoundError | NotADirectoryError):
                    self._complaints.about("file cannot be followed", path, exc.strerror or str(exc))
                continue
            if status is not None:
                there[path] = status
            else:
                self._complaints.about("file cannot be followed", path, "it is no regular file")
        return self._within_limits(there)

    def _within_limits(self, there: dict[str, os.stat_result]) -> dict[str, os.stat_result]:
        """Leave out what there is no room for: of new files those that were written to longest ago."""
        new = [path for path, one in there.items() if path not in self._trails and identity_of(one) not in self._tails]
        new.sort(key=lambda path: there[path].st_mtime_ns, reverse=True)
        beyond = new[min(self._slots.room(new), max(0, self._most_files - len(self._trails))) :]
        self._left_out.update(beyond)
        if self._left_out:
            self._complaints.about("more files than can be followed", "", f"{len(self._left_out)} are left out")
        return {path: there[path] for path in there.keys() - beyond}

    @staticmethod
    def _place(trail: Trail, status: os.stat_result | None, now: float) -> None:
        """Note which of a trail's files is at its path."""
        identity = None if status is None else identity_of(status)
        for tail in trail.tails:
            if tail.identity == identity:
                tail.left = None
            elif tail.left is None:
                tail.left = now

    def _begin(self, tail: Tail, pattern: str) -> None:
        """Note where a file is read from that was there when its pattern was followed for the first time ever."""
        if self._from_end:
            tail.skip()
        self._begun[tail.identity] = pattern, tail.place

    def _arrive(self, path: str, now: float) -> Tail | None:
        """Follow a file that is new at a path, after those that were there in between."""
        trail = self._trails.get(path) or Trail(path, self._complaints)
        since = trail.moment
        self._catch_up(trail, since, now)
        tail = self._opened(trail, path)
        if tail is None:
            return None
        if Path(path).is_symlink():
            self._complaints.about("symbolic link is followed", path, os.path.realpath(path), logging.INFO)
        self._trails[path] = trail
        self._add(trail, tail)
        self._catch_up(trail, since, now)
        return tail

    def _catch_up(self, trail: Trail, since: int, now: float) -> None:
        """Follow what was at a path after that moment and was rotated away before it was seen there."""
        for tail in list(trail.tails):
            if tail.rewritten:
                self._read_again(trail, tail, now)
        for _ in range(LOOKS if since else 0):
            missed = self._siblings.missed(trail, since, self._tails)
            if not missed:
                return
            for sibling in missed:
                self._adopt(sibling, trail, now)

    def _adopt(self, sibling: Sibling, trail: Trail, now: float) -> None:
        if (tail := self._opened(trail, sibling.path)) is not None:
            tail.left = now
            self._add(trail, tail)

    def _opened(self, trail: Trail, path: str) -> Tail | None:
        """Open one more file of a trail, if there is room for it."""
        if not self._slots.room([trail.name]):
            self._complaints.about("more files than can be followed", path, "it is left out")
            return None
        return self._siblings.open(path, trail.name, self._tails)

    def _read_again(self, trail: Trail, tail: Tail, now: float) -> None:
        """Read on in a copy that was made of a file before it was emptied, if there is one; then from its beginning."""
        found = self._siblings.copy(tail.place, trail.path, self._tails)
        if found is not None:
            copy = found[0]
            copy.left = now
            self._register(trail, copy, tail.part)  # it is what the place of that part is in from now on
            tail.part = self._slots.take(trail.name)
            trail.tails.insert(trail.tails.index(tail), copy)
        else:
            self._owed += tail.give_up(now)
        tail.again()
        self._busy[trail] = None

    def _add(self, trail: Trail, tail: Tail, part: str = "") -> None:
        self._register(trail, tail, part)
        trail.add(tail)

    def _register(self, trail: Trail, tail: Tail, part: str = "") -> None:
        tail.part = self._slots.take(trail.name, part)
        tail.watch = self._watches.add(f"/proc/self/fd/{tail.fd}", MODIFY | ATTRIB | MOVE_SELF)
        self._tails[tail.identity] = tail
        self._watched[tail.watch] = tail, trail
        self._busy[trail] = None

    def _drop(self, trail: Trail, tail: Tail) -> None:
        self._watches.remove(tail.watch)
        self._watched.pop(tail.watch, None)
        del self._tails[tail.identity]
        self._slots.release(tail.part)
        trail.drop(tail)
        tail.close()
