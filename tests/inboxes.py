"""One worker with a decider that counts, on a real store, before a broker whose every step a test takes by hand.

A crash is what a crash leaves: a copy of the store's files as they are at that instant, which a new worker opens. What
the old one still does then reaches nobody.
"""

import asyncio
import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from msgspec.structs import replace as replaced

from exhaust.broker.interface import ACKNOWLEDGE, Delivery, Disposition, Handler
from exhaust.clock import VirtualClock
from exhaust.ids import derived_id
from exhaust.messages import Fact, Sighting
from exhaust.store import Store
from exhaust.wire import pack
from exhaust.worker import Effect, Keep, Rows, Worker
from tests.posting import QUEUE, Line, Post
from tests.quick import QuickLoop

# What a message leads to is in its name: a sighting to each host that it names, news of which only the newest matters,
# something to remember, or nothing.
KINDS = ("a", "b", "a.b", "a.a", "news", "keep", "wait", "idle", "poison")
HOSTS = ("a", "b")
# What a crash leaves is a copy here, so that a disk's own pace would add nothing but time.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
# Few, so that the log is often written back into the file, and overwritten.
_LOG_PAGES = 12
Moment = Literal["before the commit", "amid the commit", "after the commit"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)


def fact(name: str, kind: str) -> Fact:
    about: dict[str, Any] = {"host": "h", "labels": {}, "state": "open", "reason": "asserted", "severity": "info"}
    return Fact(id=name, time=1.0, name=kind, episode=name, since=1.0, valid_until=2.0, **about)


class Counting:
    """A decider that counts what each message has done, and numbers what it says to each host.

    In its rows: `did/<id>` how often, `said/<host>` the last number, as of `news`, `wait/<id>` what is written later.
    """

    due = math.inf

    def recall(self, rows: Rows) -> None:
        self.rows = {key: json.loads(value) for prefix in ("did/", "said/") for key, value in rows(prefix)}

    def resume(self, now: float) -> Iterable[Effect]:
        return ()

    def handle(self, message: Any, received: float) -> Iterator[Effect]:
        kind = message.name
        if kind == "wait":
            yield Keep(f"wait/{message.id}", 1, wait=True)
        elif kind != "idle":
            yield self._count(f"did/{message.id}")
        for host in kind.split(".") if kind.partition(".")[0] in HOSTS else ():
            yield self._count(f"said/{host}")
            number = self.rows[f"said/{host}"]
            own = derived_id("sighting/1", (message.id,), host, ordinal=number)
            yield Sighting(id=own, time=1.0, execution=message.id, host=host, holds="true", samples=number)
        if kind == "news":
            yield self._count("said/news")
            number = self.rows["said/news"]
            yield replaced(fact(f"news of {message.id}", "news"), episode="open", value=number)
        if kind == "poison":
            raise ZeroDivisionError("a bug")

    def _count(self, key: str) -> Keep:
        self.rows[key] = self.rows.get(key, 0) + 1
        return Keep(key, self.rows[key])

    def tick(self, now: float) -> Iterable[Effect]:
        return ()

    def status(self) -> dict[str, Any]:
        return {}

    def performed(self, work: Any, outcome: Any, now: float) -> Iterable[Effect]:
        return ()


class Disk(Store):
    """A store whose process may die around its next commit but `spared`; the files that are left are copied to `left`.

    Amid the commit, as much of what it writes is written as `torn` says, from 0 to 1.
    """

    def __init__(self, path: Path, line: Line) -> None:
        super().__init__(path, log_pages=_LOG_PAGES)
        self.path = path
        self._line = line
        self.dies: Moment | None = None
        self.spared = 0
        self.torn = 0.5
        self.left: Path | None = None

    def commit(self, **what: Any) -> list[int]:
        if self.dies is None or self.spared:
            self.spared -= self.dies is not None
            return super().commit(**what)
        dies, self.dies, before = self.dies, None, self.files()
        if dies == "before the commit":
            self.die()
        numbers = super().commit(**what)
        if dies != "before the commit":
            self.die(before if dies == "amid the commit" else None)
        return numbers

    def files(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.path, Path(f"{self.path}-wal"))]

    def die(self, before: list[bytes] | None = None) -> None:
        """Leave the files as they are; but of the log, where it differs from `before`, only a part was written."""
        base, log = self.files()
        if before is not None and before[0] == base:  # else the log was just emptied, which is another matter
            differs = [n for n, (old, new) in enumerate(zip(before[1], log, strict=False)) if old != new]
            cut = differs[int(self.torn * (len(differs) - 1))] if differs else len(log)
            log = log[:cut] + before[1][cut:]
        self.left = self.path.with_stem(f"{self.path.stem}-")
        self.left.write_bytes(base)
        Path(f"{self.left}-wal").write_bytes(log)
        self._line.dead = True

    def rows_in_all(self) -> int:
        """Return how many rows there are of whatever kind."""
        tables = ("state", "inbox", "outbox")
        return sum(self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)

    def stored(self) -> dict[str, int]:
        """Read what is committed, over a connection of its own."""
        with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as other:
            return {key: int(value) for key, value in other.execute("SELECT key, value FROM state")}


Make = Callable[[Disk, Line, VirtualClock], Worker]


def counting(disk: Disk, line: Line, clock: VirtualClock, worker: type[Worker] = Worker) -> Worker:
    """Return a worker that counts."""
    return worker("test", Counting(), disk, line, clock, [QUEUE])


class Bench:
    """The post, and one worker after another as `make` makes them; `disk` may be a faulty one."""

    def __init__(self, folder: Path, make: Make = counting, disk: type[Disk] = Disk) -> None:
        self.loop = QuickLoop()
        self.clock = VirtualClock(100.0)
        self.post = Post()
        self._make = make
        self._disk = disk
        self._folder = folder
        self._count = 0
        self.kinds: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.open(None)

    # The worker's life

    def open(self, left: Path | None) -> None:
        """Start a worker on the files that are `left`, or on none."""
        self.line = Line(self.post)
        self.disk = self._disk(left or self._folder / "inbox.db", self.line).__enter__()
        self.until = asyncio.Event()
        self.worker = self._make(self.disk, self.line, self.clock)
        self._task = self.loop.create_task(self.worker.run(self.until))
        self.turn()
        assert self.line.handler is not None

    def crash(self) -> None:
        """End the worker without a word, and start the next one on what is on disk now, or was when it died."""
        if self.disk.left is None:
            self.disk.die()
        left = self.disk.left
        self.leave()
        self.post.waiting = [replace(one, attempt=one.attempt + 1) for one in self.post.waiting]
        self.open(left)

    def stop(self) -> None:
        """End the worker in order, and start the next one."""
        self.until.set()
        while not self._task.done():
            self.wait(0.1)
        self._task.result()
        path = self.disk.path
        self.leave()
        self.open(path)

    def leave(self) -> None:
        """Let go of the worker, whatever it does."""
        self._task.cancel()
        self.loop.run_until_complete(asyncio.wait([self._task]))
        if not self._task.cancelled():
            self._task.exception()
        self.disk.__exit__(None, None, None)

    def close(self) -> None:
        self.leave()
        self.loop.close()

    def turn(self) -> None:
        """Let the loop run until nothing is left to do at once."""
        self.loop.run_until_complete(_turns())

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def settle(self) -> None:
        """Put all in order, hand over and confirm whatever there is, and wait."""
        self.post.away = False
        self.post.unbound.clear()
        for _ in range(1000):
            self.deliver(8)
            self.wait(0.5)
            self.line.arrive(1000)
            self.line.confirm(slice(None))
            self.turn()
            if not self.post.waiting and not self.disk.backlog():
                return
        raise AssertionError(f"{len(self.post.waiting)} messages wait, {self.disk.backlog()} are not sent")

    # What comes in

    def give(self, kind: str) -> None:
        """Let a new message come to the worker's queue."""
        self._count += 1
        name = f"m{self._count}"
        self.kinds[name] = kind
        self.give_again(name)

    def give_again(self, name: str) -> None:
        self.post.take(pack(fact(name, self.kinds[name])))

    def deliver(self, most: int, *, and_die: bool = False) -> None:
        """Hand the oldest over; unless the worker died meanwhile, the post hears what becomes of each."""
        given = self.post.waiting[:most]
        if not given:
            return
        assert self.line.handler is not None
        answers: Sequence[Disposition] = self.loop.run_until_complete(_called(self.line.handler, given))
        if and_die and not self.line.dead:
            self.disk.die()
        if self.line.dead:
            return
        for delivery, answer in zip(given, answers, strict=True):
            self.post.waiting.remove(delivery)
            (self.acknowledged if answer == ACKNOWLEDGE else self.refused).add(delivery.id)
        self.turn()


async def _turns() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


async def _called(handler: Handler, given: Sequence[Delivery]) -> Sequence[Disposition]:
    return await handler(given)
