"""A reader of files that can be killed, and what is done to logs: for tests of the emitter of files."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from emitters.file import LINE, File, emit
from emitters.following.complaints import Complaints
from emitters.following.follower import Follower, Wanted
from emitters.following.watches import Watches
from exhaust.clock import SystemClock, VirtualClock
from exhaust.plugins import Record


@dataclass
class Reader:
    """A follower that can be killed: what it yielded is safe only as far as `safe` says."""

    patterns: tuple[str, ...]
    notified: bool = False
    most_files: int = 500
    state: Path | None = None
    from_end: bool = False
    now: float = 1000.0
    positions: dict[str, Any] = field(default_factory=dict)
    safe: list[Record] = field(default_factory=list)
    unsafe: list[Record] = field(default_factory=list)
    opened: ExitStack = field(default_factory=ExitStack)

    def start(self) -> "Reader":
        complaints = Complaints()
        wanted = Wanted(self.patterns, "utf-8", 128 << 10, self.most_files, self.from_end, self.state)
        self.watches = self.opened.enter_context(closing(Watches(complaints, wanted=self.notified)))
        self.follower = self.opened.enter_context(closing(Follower(wanted, self.watches, complaints, self.positions)))
        self.follower.start(self.now)
        return self

    def rounds(self, most: int = 1_000_000) -> "Reader":
        """Read on as one does who is told, or who polls."""
        if self.notified:
            for notice, directory in self.watches.take():
                self.follower.notice(notice, directory)
        else:
            self.unsafe += self.follower.beat(self.now)
        for _ in range(most):
            if self.follower.stale:
                self.follower.scan(self.now)
            self.unsafe += self.follower.round(self.now)
            if not self.follower.busy:
                break
        return self

    def later(self, seconds: float = 100.0) -> "Reader":
        self.now += seconds
        for _ in range(2):
            self.unsafe += self.follower.beat(self.now)
            self.rounds()
        return self

    def store(self, share: float = 1.0) -> "Reader":
        """Let the first of the records that are not safe be so from now on."""
        count = round(share * len(self.unsafe))
        for record in self.unsafe[:count]:
            assert record.position is not None
            self.positions[record.position[0]] = record.position[1]
        self.safe += self.unsafe[:count]
        del self.unsafe[:count]
        return self

    def kill(self) -> "Reader":
        self.opened.close()
        self.unsafe.clear()
        return self

    @property
    def lines(self) -> list[str]:
        return [record.fields["line"] for record in self.safe + self.unsafe]


def write(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def rotate(path: Path, keep: int = 9) -> None:
    """Rename path.1 to path.2 and so on, and path to path.1, as logrotate does without `copytruncate`."""
    for number in reversed(range(1, keep)):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.rename(path.with_name(f"{path.name}.{number + 1}"))
    path.rename(path.with_name(f"{path.name}.1"))


def copytruncate(path: Path, keep: int = 9) -> None:
    for number in reversed(range(1, keep)):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.rename(path.with_name(f"{path.name}.{number + 1}"))
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)


class Reading:
    """What comes of files, record by record."""

    def __init__(self, given: File, clock: VirtualClock | None = None) -> None:
        self.records = cast("AsyncGenerator[Record]", emit(given, clock or SystemClock(), {}))

    async def take(self, count: int) -> list[Record]:
        found = []
        async with asyncio.timeout(20):
            for _ in range(count):
                found.append(await anext(self.records))  # noqa: PERF401  there may be more
        assert all(set(record.fields) <= set(LINE) for record in found)
        return found

    async def lines(self, count: int) -> list[str]:
        return [record.fields["line"] for record in await self.take(count)]


@asynccontextmanager
async def reading(clock: VirtualClock | None = None, **given: Any) -> AsyncIterator[Reading]:
    it = Reading(File(**{"from_": "begin", **given}), clock)
    async with aclosing(it.records):
        yield it


def put(path: Path, content: str | bytes) -> None:
    """Append to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(content.encode() if isinstance(content, str) else content)
