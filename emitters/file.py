"""Files of this host: the lines that are added to logs, and the changes of files whose content matters.

Logs are followed by what is in them rather than by name, through rotation by renaming and by copying, also while nobody
looks. What cannot be had: lines that were written between the copy and the truncation, those of a file that was copied
and emptied before any line of it was read, and what is only in compressed files by now. Where a pattern matches copies
too, their lines come twice.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from emitters.following.catalogue import Catalogue
from emitters.following.complaints import Complaints
from emitters.following.follower import Follower, Wanted
from emitters.following.inotify import unusable
from emitters.following.pace import Pace
from emitters.following.text import MOST, codec_of
from emitters.following.tree import parts_of
from emitters.following.versions import Versions
from emitters.following.watches import Bell, Watches
from exhaust.clock import Clock
from exhaust.plugins import Emitter, Fields, Record, Settings
from exhaust.settings import Duration, Size

LINE: Fields = {
    "path": "string: the file that it was written to, by the name under which it was found, whatever it is called "
    r"since; bytes that are no UTF-8 are \xNN",
    "line": r"string: without what ends it; bytes that are none of the encoding are \xNN",
    "offset": "int: where it begins in the file, bytes",
    "inode": "int: the file's number in its file system",
    "cut": "bool: true where the line is longer than what is sent of it, else missing",
    "bytes": "int: the length of a line that is cut, bytes",
    "encoding_errors": "bool: true where bytes are none of the encoding, else missing",
    "unfinished": "bool: true where the file was rotated, emptied or deleted before the line had ended, else missing",
}
CHANGE: Fields = {
    "path": r"string: the file, absolute; bytes that are no UTF-8 are \xNN",
    "kind": "string: created, modified, deleted, moved (from a catalogued path to another) or attributes (mode, owner, "
    "group or what a symbolic link points at)",
    "labels": "map: the labels of the first entry of `changes` that names the file",
    "sha256": "string: sum of the content, hexadecimal; empty where the file is not there any more",
    "previous_sha256": "string: the same of the version that was in force before; empty where there was none",
    "size_bytes": "int: length of the content, bytes",
    "mode": "string: permissions, octal such as 0644",
    "owner": "string: name of its user, the number of one without",
    "group": "string: name of its group, the number of one without",
    "previous_path": "string: where it was moved from",
    "previous_size_bytes": "int: length before, where that was another",
    "previous_mode": "string: permissions before, where they were others",
    "previous_owner": "string: name of its user before, where it was another",
    "previous_group": "string: name of its group before, where it was another",
    "copy": "string: path of a copy of the version before, where one is kept",
    "target": "string: the file that a symbolic link leads to",
    "partial": "bool: true where the content is longer than 16 MiB: the sum is of its size, time and ends then",
}

Patterns = tuple[str, ...]


class Changes(Settings, frozen=True):
    """Files whose content matters, and labels for their records. A directory stands for all that is in it."""

    files: Annotated[Patterns, msgspec.Meta(min_length=1)]
    labels: dict[str, str] = {}

    def __post_init__(self) -> None:
        for pattern in self.files:
            parts_of(pattern)


class File(Settings, frozen=True):
    """`paths` are logs to follow, `changes` files to compare with what they were.

    In paths `*` and `?` stand for text within a name, `**` for any directories; what begins with a dot is matched only
    by what does so, too. Files that are there at the very first start are read `from` their `end` or `begin`; all that
    come later from their beginning. Every so often all is looked at, in case that the kernel did not tell; without
    `inotify` only then. Of a line `most_line_bytes` are sent. At most so many files (`most_files`) are followed, those
    that were written to last, and as many catalogued. `state` is the installation's state directory: in it are copies
    of the last 3 versions of each catalogued file, 64 MiB of all together.

    A symbolic link, also to a directory, is followed only where root made it or who owns what it leads to, else it is
    logged and left alone: a program may write a log, and must not have others' files sent by its name. What lies beside
    a log, as rotated copies do, is read only where it is none. After a look at directories that takes long, ten times
    as long passes until the next (at most a minute). A file system that does not answer at all holds up all emitters:
    patterns should not lead to one over a network.
    """

    paths: Patterns = ()
    changes: tuple[Changes, ...] = ()
    encoding: str = "utf-8"
    from_: Literal["begin", "end"] = "end"
    every: Annotated[Duration, msgspec.Meta(ge=0.1)] = 5.0
    most_line_bytes: Annotated[Size, msgspec.Meta(ge=1024, le=MOST)] = 128 << 10
    most_files: Annotated[int, msgspec.Meta(ge=1, le=2000)] = 500
    inotify: bool = True
    state: str = ""

    def __post_init__(self) -> None:
        codec_of(self.encoding)
        for pattern in self.paths:
            parts_of(pattern)

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that there can be records of."""
        return ("line",) * bool(self.paths) + ("change",) * bool(self.changes) or tuple(STREAMS)

    def within(self, name: str) -> Path | None:
        """Return a path in the state directory, None without one."""
        return Path(self.state) / name if self.state else None


STREAMS: Mapping[str, Fields] = {"line": LINE, "change": CHANGE}


class _Observer:
    """Both streams of one use, each with notices of its own: a directory may be watched for either in another way."""

    def __init__(self, settings: File, clock: Clock, positions: Mapping[str, Any], opened: ExitStack) -> None:
        self._settings = settings
        self._clock = clock
        self._opened = opened
        self._complaints = Complaints()
        self._bell = Bell()
        self._overdue = False
        self._seeking = Pace()
        self._comparing = Pace()
        self._watched: list[tuple[Watches, Follower | Catalogue]] = []
        self._follower = self._followed(positions) if settings.paths else None
        self._catalogue = self._catalogued(positions) if settings.changes else None

    def _watches(self) -> Watches:
        watches = self._opened.enter_context(closing(Watches(self._complaints, wanted=self._settings.inotify)))
        self._bell.hear(watches)
        return watches

    def _followed(self, positions: Mapping[str, Any]) -> Follower:
        settings, watches = self._settings, self._watches()
        wanted = Wanted(
            patterns=settings.paths,
            encoding=codec_of(settings.encoding),
            most_line=settings.most_line_bytes,
            most_files=settings.most_files,
            from_end=settings.from_ == "end",
            state=settings.within("followed.json"),
        )
        follower = Follower(wanted, watches, self._complaints, positions)
        self._opened.enter_context(closing(follower)).start(self._clock.now())
        self._watched.append((watches, follower))
        return follower

    def _catalogued(self, positions: Mapping[str, Any]) -> Catalogue:
        settings, watches = self._settings, self._watches()
        entries = [(entry.files, entry.labels) for entry in settings.changes]
        versions = Versions(settings.within("catalogue"), self._complaints)
        catalogue = Catalogue(entries, watches, self._complaints, versions, positions, settings.most_files)
        catalogue.start()
        self._watched.append((watches, catalogue))
        return catalogue

    async def beat(self) -> None:
        """See to it that everything is looked at now and then."""
        async for _ in self._clock.every(self._settings.every):
            self._overdue = True
            self._bell.ring()

    def lines(self) -> Iterator[Record]:
        """Return the lines of a block of each file that has something new."""
        for watches, whose in self._watched:
            for notice, directory in watches.take():
                whose.notice(notice, directory)
        overdue, self._overdue = self._overdue, False
        if overdue and self._catalogue is not None:
            self._catalogue.beat()
        if self._follower is not None:
            now = self._clock.now()
            if overdue:
                yield from self._follower.beat(now)
            if self._follower.stale and self._seeking.free:
                with self._seeking.looking():
                    self._follower.scan(now)
            yield from self._follower.round(now)

    async def changes(self) -> Sequence[Record]:
        """Return what has changed of the catalogued files."""
        if self._catalogue is None:
            return ()
        if self._catalogue.stale and self._comparing.free:
            with self._comparing.looking():
                self._catalogue.scan()
        return await self._catalogue.records(self._clock.now())

    @property
    def _due(self) -> float:
        """When there may be something to do even if nobody rings, by the event loop's clock."""
        due = math.inf
        if self._follower is not None and self._follower.stale:
            due = self._seeking.due
        if self._catalogue is not None:
            due = min(due, self._catalogue.due, self._comparing.due if self._catalogue.stale else math.inf)
        return due

    async def rest(self) -> None:
        """Return when there may be more."""
        due = self._due - asyncio.get_running_loop().time()
        if due <= 0 or (self._follower is not None and self._follower.reading):
            await asyncio.sleep(0)
        else:
            await self._bell.wait(None if due == math.inf else due)


async def emit(settings: File, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
    with ExitStack() as opened:
        observer = _Observer(settings, clock, positions, opened)
        beating = asyncio.create_task(observer.beat(), name="file")
        opened.callback(beating.cancel)
        while not beating.done():
            for record in observer.lines():
                yield record
            for record in await observer.changes():
                yield record
            await observer.rest()
        beating.result()


def sources() -> Mapping[str, str]:
    """Return how files can be observed here."""
    return {"inotify": unusable(), "polling": ""}


EMITTER = Emitter("file", File, emit, STREAMS, sources=sources, waits=True, keeps="logs")
