"""The emitter of syslog at work on sockets of a test's own, and what it has yielded so far."""

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec

from emitters.syslog import MESSAGE, Syslog, emit
from exhaust.clock import SystemClock
from exhaust.plugins import Lost, Record

PATIENCE = 30.0
EXAMPLES = int(os.environ.get("EXHAUST_EXAMPLES", "300"))
MOST_JSON = 256 << 10


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as asking:
        asking.bind(("127.0.0.1", 0))
        return int(asking.getsockname()[1])


@contextmanager
def short_folder() -> Iterator[Path]:
    """Give a folder whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="sy", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Hearing:
    """What was yielded, which grows while a test waits."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.lost: list[Lost] = []
        self._more = asyncio.Event()

    async def follow(self, records: AsyncGenerator[Record | Lost]) -> None:
        async with aclosing(records):
            async for record in records:
                if isinstance(record, Lost):
                    self.lost.append(record)
                else:
                    assert set(record.fields) <= set(MESSAGE)
                    self.records.append(record)
                self._more.set()
                await asyncio.sleep(0)

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not enough():
                self._more.clear()
                await self._more.wait()

    async def fields(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many records; return their fields, and forget them."""
        await self.until(lambda: len(self.records) >= count)
        found, self.records = [record.fields for record in self.records], []
        assert len(found) == count
        assert all(len(msgspec.json.encode(one)) < MOST_JSON for one in found)
        return found

    @property
    def dropped(self) -> int:
        return sum(lost.count for lost in self.lost)


@asynccontextmanager
async def hearing(positions: Mapping[str, Any] | None = None, **settings: Any) -> AsyncIterator[Hearing]:
    """Run the emitter, with nothing but what is given, until the test is done."""
    given = {"unix": "none", "journal": False, "kmsg": False, **settings}
    one = Hearing()
    records = cast("AsyncGenerator[Record | Lost]", emit(Syslog(**given), SystemClock(), positions or {}))
    task = asyncio.create_task(one.follow(records))
    try:
        for key in ("unix", "unix_stream"):
            if given.get(key, "none") not in ("", "none"):
                await _served(Path(given[key]), task)
        if "tcp" in given:
            await _accepting(given["tcp"], task)
        if "udp" in given:
            await _answering(given["udp"], one, task)
        yield one
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _served(path: Path, task: "asyncio.Task[None]") -> None:
    """Wait until the path is that of a socket that somebody serves, be it for datagrams or streams."""
    async with asyncio.timeout(PATIENCE):
        while not task.done():
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
                try:
                    asking.connect(str(path))
                    return
                except (FileNotFoundError, ConnectionRefusedError):
                    await asyncio.sleep(0.005)
                except OSError:  # of the other kind
                    return
    await task


async def _accepting(address: str, task: "asyncio.Task[None]") -> None:
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(PATIENCE):
        while not task.done():
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
                return
            await asyncio.sleep(0.005)
    await task


async def _answering(address: str, one: Hearing, task: "asyncio.Task[None]") -> None:
    """Send until something is heard: before the socket is bound, datagrams go nowhere."""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        async with asyncio.timeout(PATIENCE):
            while not one.records and not task.done():
                sending.sendto(b"<13>are you there", (host, int(port)))
                for _ in range(20):
                    await asyncio.sleep(0.005)
                    if one.records:
                        break
        await asyncio.sleep(0.1)  # for the case that there were two
    one.records.clear()
