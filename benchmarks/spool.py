"""Where emitters keep records until they are sent: a table of SQLite against a log of segments, side by side.

    python -m benchmarks.spool [--rounds 7] [--batches 400] [--backlog 256] [--quick]

A small urgent batch: from `put` until it is on disk and handed to the broker, one every 2 ms. A flood: batches of 500
records, each as soon as the spool takes it. A backlog: how long a fresh process needs until it could send, and what it
takes of memory for that. CPU is the process's own, of all its threads. The kinds take turns; figures are medians.
"""

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from benchmarks.machine import quantiles, save, table
from emitters.spool.group import Group
from emitters.spool.opening import opened_log
from emitters.spool.parcels import Parcel
from emitters.spool.scribe import Scribe, Then, Thread
from emitters.spool.segments import Log
from emitters.spool.spool import Spool
from exhaust.broker.interface import Broker, Publication
from exhaust.clock import SystemClock
from exhaust.ids import new_id
from exhaust.messages import Batch
from exhaust.outbox import Outbox
from exhaust.store import Store
from exhaust.wire import pack

MOST = 1 << 30
HEADER = ("", "p50 ms", "p99 ms", "CPU µs", "MB/s", "ready s", "more MiB")
RECORD = msgspec.Raw(msgspec.json.encode({"time": 1.7e9, "service": "shop", "state": "running", "text": "x" * 165}))
SMALL, LARGE = 1, 500

Row = dict[str, Any]


def batch(seq: int, records: int) -> Publication:
    """Return a batch as the emitters make them, of records of 230 bytes."""
    raw = cast("list[dict[str, Any]]", [RECORD] * records)
    now = time.time()
    return pack(Batch(id=new_id(now), time=now, host="h", emitter="e", stream="s", epoch=1, seq=seq, records=raw))


class Bare:
    """The disk alone: an append and fdatasync for each batch, with nothing around it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "bare"
        self._bodies = {records: batch(0, records).body for records in (SMALL, LARGE)}

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        with self._path.open("wb", buffering=0) as self._file:
            yield

    async def put(self, records: int) -> None:
        self._file.write(self._bodies[records])
        os.fdatasync(self._file.fileno())

    flood = put


class AtOnce:
    """A Scribe that does the disk's work in the event loop."""

    def do(self, work: Callable[[], Any], then: Then) -> None:
        then(work(), None)

    def close(self) -> None:
        pass


class Ready:
    """A broker that confirms at once, and says that it was asked to publish."""

    connected = True

    def __init__(self) -> None:
        self.published = asyncio.Event()
        self.count = 0

    def publish(self, publication: Publication) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        self.count += 1
        self.published.set()
        return future


class Table:
    """A table of SQLite and an outbox: each batch is a commit, which also deletes what was confirmed before it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seq = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        with Store(self._folder / "spool.db") as store:
            self._store = store
            self._outbox = Outbox(store, cast("Broker", Ready()))
            sending = asyncio.create_task(self._outbox.run())
            await self.put(SMALL)
            await asyncio.sleep(0.01)
            yield
            sending.cancel()
            await asyncio.wait([sending])

    async def put(self, records: int) -> None:
        publications = [batch(self._seq, records)]
        self._seq += 1
        numbers = self._store.commit(send=publications, sent=self._outbox.confirmed())
        self._outbox.post(numbers, publications)

    async def flood(self, records: int) -> None:
        await self.put(records)
        await asyncio.sleep(0)


class Segments:
    """The log, written in a thread of its own or in the event loop."""

    def __init__(self, folder: Path, scribe: Callable[[], Scribe]) -> None:
        self._folder = folder
        self._scribe = scribe

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        with opened_log(self._folder / "spool", most=MOST) as log:
            self._broker = Ready()
            broker = cast("Broker", self._broker)
            self._spool = Spool(log, broker, "h", SystemClock(), scribe=self._scribe())
            sending = asyncio.create_task(self._spool.run())
            await self.put(1)
            yield
            await self._spool.synced()
            sending.cancel()
            await asyncio.wait([sending])
            self._spool.close()

    def _put(self, records: int) -> None:
        self._spool.put([Parcel(("e", "s"), [RECORD] * records, records * len(RECORD))])

    async def put(self, records: int) -> None:
        self._broker.published.clear()
        self._put(records)
        await self._broker.published.wait()

    async def flood(self, records: int) -> None:
        self._put(records)
        if self._spool.tight:
            await self._spool.room("audit", waits=True)
        await asyncio.sleep(0)


Kind = Callable[[Path], Bare | Table | Segments]
KINDS: dict[str, Kind] = {
    "append and fdatasync": Bare,
    "SQLite": Table,
    "log, thread": lambda folder: Segments(folder, Thread),
    "log, event loop": lambda folder: Segments(folder, AtOnce),
}


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="exhaust-spool-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


async def urgent(kind: Kind, batches: int) -> Row:
    """Return the latency in ms and the CPU in µs of small batches, one by one."""
    with scratch() as folder:
        store = kind(folder)
        async with store.open():
            delays, used = [], 0.0
            for _ in range(batches):
                await asyncio.sleep(0.002)
                began, cpu = time.perf_counter(), time.process_time()
                await store.put(SMALL)
                delays.append(1000 * (time.perf_counter() - began))
                used += time.process_time() - cpu
    p50, p99 = quantiles(delays)
    return {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "cpu_us": round(1e6 * used / batches)}


async def flooded(kind: Kind, batches: int) -> Row:
    """Return MB/s and the CPU in µs of batches of 500 records."""
    with scratch() as folder:
        store = kind(folder)
        async with store.open():
            began, cpu = time.perf_counter(), time.process_time()
            for _ in range(batches):
                await store.flood(LARGE)
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
    size = batches * LARGE * (len(RECORD) + 1) / 1e6
    return {"mb_per_s": round(size / seconds, 1), "cpu_us": round(1e6 * used / batches)}


def fill_store(folder: Path, size: int, records: int) -> None:
    """Leave a backlog of so many bytes in a table."""
    made = 0
    with Store(folder / "spool.db") as store:
        while made < size:
            page = [batch(seq, records) for seq in range(max(1, 2000 // records))]
            store.commit(send=page)
            made += sum(len(one.body) for one in page)


def fill_log(folder: Path, size: int, records: int) -> None:
    """Leave a backlog of so many bytes in a log, sixteen batches written at a time."""
    made = 0
    with opened_log(folder / "spool", most=MOST) as log:
        group = log.group()
        while made < size:
            one = batch(0, records)
            if group.batch(log.book.reached, one.body, one.time, records, {}) is None:
                write(log, group)
                group = log.group(roll=True)
                continue
            made += len(one.body)
            if len(group.batches) == 16:
                write(log, group)
                group = log.group()
        write(log, group)


def write(log: Log, group: Group) -> None:
    log.write(group, sync=group.opens)
    log.recycle(log.accept(group))


def spoil(folder: Path) -> None:
    """Garble every checkpoint, so that all must be read."""
    for path in (folder / "spool").glob("*.log"):
        with path.open("r+b") as file:
            file.seek(60)
            file.write(b"\0")


def open_store(folder: Path) -> int:
    """Open the table as a sender must: it has to know how much is in it."""
    last = size = 0
    with Store(folder / "spool.db") as store:
        while page := store.unsent(last, 64):
            size += sum(len(one.body) for _, one in page)
            last = page[-1][0]
    return size


def open_log(folder: Path) -> int:
    with opened_log(folder / "spool", most=MOST) as log:
        return log.book.unsent.size


OPENED: dict[str, Callable[[Path], int]] = {"SQLite": open_store, "log": open_log}
FILLED: dict[str, Callable[[Path, int, int], None]] = {"SQLite": fill_store, "log": fill_log}


def backlog(kind: str, size: int, records: int, *, spoiled: bool = False) -> Row:
    """Return how long a fresh process takes until it could send, and the most memory that it takes more than before."""
    with scratch() as folder:
        FILLED[kind](folder, size, records)
        if spoiled:
            spoil(folder)
        command = [sys.executable, "-m", "benchmarks.spool", "--open", kind, "--folder", str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, before, after = map(float, done.stdout.split())
    return {"ready_s": round(seconds, 3), "more_mib": round(after - before, 1), "memory_mib": round(after, 1)}


def opened(kind: str, folder: Path) -> None:
    """Open a backlog and print the seconds, and the peak of our memory before and after, in MiB."""
    before, began = peak(), time.perf_counter()
    OPENED[kind](folder)
    print(time.perf_counter() - began, before, peak())


def peak() -> float:
    """Return the most memory that this process has had, in MiB."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024


def measure(rounds: int, batches: int, size: int) -> Iterator[Row]:
    for what, run in (("urgent", urgent), ("flood", flooded)):
        found: dict[str, list[Row]] = {}
        for _ in range(rounds):
            for name, kind in KINDS.items():
                found.setdefault(f"{what}, {name}", []).append(asyncio.run(run(kind, batches)))
        for case, rows in found.items():
            yield {"case": case, **{key: statistics.median(row[key] for row in rows) for key in rows[0]}}
    for what, records in (("of 115 kB", LARGE), ("of 0.5 kB", SMALL)):
        for name in OPENED:
            yield {"case": f"backlog {what}, {name}", **backlog(name, size, records)}
    yield {"case": "backlog of 0.5 kB, log, no checkpoint", **backlog("log", size, SMALL, spoiled=True)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spool", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=400, help="of each kind in each round")
    parser.add_argument("--backlog", type=int, default=256, metavar="MIB")
    parser.add_argument("--quick", action="store_true", help="only see whether it works")
    parser.add_argument("--open", choices=OPENED, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        opened(options.open, options.folder)
        return
    rounds, batches, size = (1, 50, 8) if options.quick else (options.rounds, options.batches, options.backlog)
    rows = []
    columns = ("case", "p50_ms", "p99_ms", "cpu_us", "mb_per_s", "ready_s", "more_mib")
    for row in measure(rounds, batches, size << 20):
        rows.append(row)
        print(".", end="", flush=True)
    text = table(HEADER, [[row.get(column) for column in columns] for row in rows])
    print(f"\n{text}")
    title = f"The spool: SQLite against a log of segments ({rounds} times {batches} batches, a backlog of {size} MiB)"
    save("spool", title=title, command="make bench-spool", text=text, rows=rows, quick=options.quick)


if __name__ == "__main__":
    main()
