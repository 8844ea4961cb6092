"""Files whose content matters: which of them were changed, by comparing what is there with what was known of it."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from emitters.following.changes import Change, fields_of, kind_of, moved, since
from emitters.following.complaints import Complaints
from emitters.following.inotify import ATTRIB, CLOSE_WRITE, MODIFY, NAMES, Notice
from emitters.following.tree import Tree
from emitters.following.version import Names, Seen, Version, observe, stamp_of
from emitters.following.versions import MOST_VERSIONS, Versions
from emitters.following.watches import Watches, overflowed
from exhaust.plugins import Record

PART: Final = "change"
WATCHED: Final = NAMES | CLOSE_WRITE | MODIFY | ATTRIB

_SETTLE: Final = 0.1  # seconds without news after which a writer is taken to be done
_PATIENCE: Final = 2.0  # and the most that one is waited for
_AT_ONCE: Final = 32  # files that are read in one go

_NOTHING: Final = Version(since=0.0)


class Catalogue:
    """All catalogued files, with the labels of the first entry that names them."""

    def __init__(
        self,
        entries: Sequence[tuple[Sequence[str], Mapping[str, str]]],
        watches: Watches,
        complaints: Complaints,
        versions: Versions,
        positions: Mapping[str, Any],
        most_files: int,
    ) -> None:
        self._labels = {pattern: labels for patterns, labels in reversed(entries) for pattern in patterns}
        self._tree = Tree([one for patterns, _ in entries for one in patterns], complaints, beneath=True)
        self._watches = watches
        self._complaints = complaints
        self._versions = versions
        self._positions = positions
        self._most_files = most_files
        self._known: dict[str, list[Version]] = {}
        self._patterns: dict[str, str] = {}
        self._due: dict[str, tuple[float, float]] = {}
        self._new: set[str] = set()
        self._silent: set[str] = set()
        self._untidy = False
        self._number = 0
        self._renamed: set[str] = set()  # since the last scan
        self._names = Names()
        self._stale = True

    @property
    def due(self) -> float:
        """When to ask for records at the latest, by the event loop's clock."""
        return min((due for _, due in self._due.values()), default=math.inf)

    def start(self) -> None:
        """Recall what is known, but for what no record that is safe has told of."""
        known = self._versions.load(lambda path: bool(self._tree.covers(path)))
        numbers = [version.number for versions in known.values() for version in versions]
        told = [version.safe for versions in known.values() for version in versions]
        safe = max([self._safe, *told])
        self._number = max([safe, *numbers])
        for path, versions in known.items():
            self._known[path] = [version for version in versions if version.number <= safe]
            if self._known[path] != versions:
                self._versions.keep(path, self._known[path])
        self._new = set(self._tree.patterns) - self._versions.patterns()

    @property
    def _safe(self) -> int:
        return msgspec.json.decode(msgspec.json.encode(self._positions.get(PART, 0)), type=int)

    def notice(self, notice: Notice, directory: str) -> None:
        """Take what the kernel tells."""
        if overflowed(notice) or not notice.name:
            self._stale = True
        elif directory and self._tree.matters(directory, notice.name):
            self._stale = self._stale or bool(notice.mask & NAMES)
            path = f"{directory.rstrip('/')}/{notice.name}"
            if path in self._patterns and notice.mask & NAMES:
                self._renamed.add(path)
            elif path in self._patterns:
                self._touch(path, asyncio.get_running_loop().time())

    def beat(self) -> None:
        self._stale = True

    @property
    def stale(self) -> bool:
        """Whether files may be others than those that are known."""
        return self._stale

    def _touch(self, path: str, now: float) -> None:
        """Look at a path once its writer is done. `now` is the event loop's."""
        first, _ = self._due.get(path, (now, now))
        self._due[path] = first, min(now + _SETTLE, first + _PATIENCE)

    def scan(self) -> None:
        """See which files may have changed."""
        self._stale = False
        found = self._tree.find()
        self._watches.directories(self._tree.directories, WATCHED)
        if len(found) > self._most_files:
            left_out = f"{len(found) - self._most_files} are left out"
            self._complaints.about("more files than can be catalogued", "", left_out)
            found = dict(sorted(found.items())[: self._most_files])
        self._patterns = {path: self._tree.covers(path) for path in self._known} | found
        now = asyncio.get_running_loop().time()  # one for all: where a file was and is by now is looked at together
        for path in self._patterns:
            if path in self._renamed or (path not in self._due and stamp_of(path) != self._now(path).stamp):
                self._touch(path, now)
        self._renamed.clear()

    def _now(self, path: str) -> Version:
        """Return the newest version that is known of a path."""
        return self._known[path][-1] if self._known.get(path) else _NOTHING

    async def records(self, now: float) -> list[Record]:
        """Return what has changed, as far as its writers seem to be done; of very many only some."""
        moment = asyncio.get_running_loop().time()
        due = [path for path, (_, due) in self._due.items() if due <= moment][:_AT_ONCE]
        if not due:
            self._finish()
            return []
        changes = []
        for path, seen in zip(due, await asyncio.to_thread(self._observed, due, now), strict=True):
            first, _ = self._due.pop(path)
            if isinstance(seen, Seen) and not seen.settled and moment < first + _PATIENCE:
                self._due[path] = first, moment + _SETTLE
            elif isinstance(seen, OSError):
                self._complaints.about("file cannot be read", path, seen.strerror or str(seen))
                self._silent.update([path] if path not in self._known else [])
            elif (change := self._compared(path, seen, now)) is not None:
                changes.append(change)
        told = [self._told(change, now) for change in moved(changes)]
        await asyncio.to_thread(self._keep, [change for change, _ in told])
        self._finish()
        return [record for _, record in told if record is not None]

    def _finish(self) -> None:
        """Once all files are known that were there at the first start, tell of others that come."""
        if self._new and not self._due:
            self._versions.add_patterns(self._tree.patterns)
            self._new.clear()

    def _observed(self, paths: Sequence[str], now: float) -> list[Seen | OSError | None]:
        """Read files and store what is in them, one after the other."""
        found: list[Seen | OSError | None] = []
        self._names.refresh()
        for path in paths:
            try:
                seen = observe(path, now, self._names)
            except OSError as exc:
                found.append(exc)
                continue
            if seen is not None and seen.settled and seen.content is not None:
                self._versions.store(path, seen.version, seen.content)
            found.append(seen and seen._replace(content=None))
        return found

    def _compared(self, path: str, seen: Seen | None, now: float) -> Change | None:
        """Return what has become of a path since it was last looked at; None where that is nothing."""
        self._complaints.withdraw("file cannot be read", path)
        before = self._now(path)
        after = Version(since=now) if seen is None else seen.version
        kind = kind_of(before, after)
        if not kind:
            if before.sha256:
                self._known[path][-1] = msgspec.structs.replace(before, stamp=after.stamp)
            return None
        first = path not in self._known and (path in self._silent or self._patterns.get(path) in self._new)
        self._silent.discard(path)
        return Change(path, "" if first else kind, before, after)

    def _told(self, change: Change, now: float) -> tuple[Change, Record | None]:
        """Note a change; return it as it is to be kept, with its record if there is one."""
        if change.kind:
            self._number += 1
        number = self._number if change.kind or change.before.sha256 else 0
        time = since(change, now)
        after = msgspec.structs.replace(change.after, since=time, number=number, safe=self._safe)
        change = change._replace(after=after)
        known = [*self._known.get(change.path, ()), after]
        self._known[change.path] = known[-MOST_VERSIONS:]
        self._untidy = self._untidy or len(known) > MOST_VERSIONS
        if not change.kind:
            return change, None
        fields = fields_of(change) | {"labels": dict(self._labels.get(self._tree.covers(change.path), {}))}
        if copy := self._versions.copy(change.before):
            fields["copy"] = copy
        return change, Record(time, fields, "change", position=(PART, number))

    def _keep(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._versions.keep(change.path, self._known[change.path])
        self._versions.settle()
        gone = sorted(
            (path for path in self._known if not self._now(path).sha256), key=lambda one: self._now(one).since
        )
        for path in gone[: -self._most_files]:
            del self._known[path]
            self._versions.forget(path)
            self._untidy = True
        if self._untidy:
            self._versions.tidy()
            self._untidy = False
