"""The floor under the way from a record to a command: its hops, commits and processes, and nothing that thinks.

A source syncs records to a file and publishes them; three stages take what is marked, commit it and send it on; a
fourth hands it over a unix socket to the last, which commits it too and notes how late it is.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.hops import Child
from benchmarks.node import Node
from exhaust.broker.interface import ACKNOWLEDGE, Binding, Delivery, Disposition, Publication, Queue
from exhaust.broker.rabbitmq import RabbitMQ
from exhaust.store import Store

EXCHANGE: Final = "floor"
STAGES: Final = 4
_RECORD: Final = b"x" * 230
_LINE: Final = 16
_TICK: Final = 0.005
_CONNECT_WITHIN: Final = 10.0


def _queue(stage: int) -> Queue:
    return Queue(f"floor.{stage}", (Binding(EXCHANGE, str(stage)),))


def _publication(stage: int, identity: str, body: bytes, due: str = "") -> Publication:
    return Publication(EXCHANGE, str(stage), identity, "floor/1", body, time.time(), {"due": due})


@contextlib.asynccontextmanager
async def _broker(url: str) -> AsyncIterator[RabbitMQ]:
    async with RabbitMQ(url, name="floor") as broker:
        await broker.declare([EXCHANGE], [_queue(stage) for stage in range(STAGES)])
        await broker.wait_connected(_CONNECT_WITHIN)
        yield broker


async def _stage(pipe: Connection, url: str, folder: str, number: int) -> None:
    """Take what is marked, commit it and send it on, until told to end."""
    async with _broker(url) as broker:
        with Store(Path(folder) / f"{number}.db") as store:
            last = number == STAGES - 1
            writer = (await asyncio.open_unix_connection(f"{folder}/last"))[1] if last else None
            sent: list[asyncio.Future[None]] = []

            async def handle(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
                for delivery in deliveries:
                    if due := str(delivery.headers["due"]):
                        store.commit(keep={"floor": _RECORD}, seen={delivery.id: 0.0})
                        if writer is not None:
                            writer.write(due.encode())
                        else:
                            message = _publication(number + 1, delivery.id, _RECORD, due)
                            sent.append(asyncio.ensure_future(broker.publish(message)))
                return [ACKNOWLEDGE] * len(deliveries)

            async with broker.consume(_queue(number), handle):
                pipe.send("ready")
                await asyncio.to_thread(pipe.recv)
            await asyncio.gather(*sent)


async def _last(pipe: Connection, folder: str) -> None:
    """Commit what comes over the socket and note how late it is; each time asked, answer with all since then."""
    late: list[float] = []
    with Store(Path(folder) / "last.db") as store:

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    due = await reader.readexactly(_LINE)
                    store.commit(keep={"floor": _RECORD})
                    late.append(1000 * (time.time() - int(due) / 1e6))
            writer.close()

        async with await asyncio.start_unix_server(take, f"{folder}/last"):
            pipe.send("ready")
            while await asyncio.to_thread(pipe.recv):
                pipe.send(late[:])
                late.clear()


async def _source(pipe: Connection, url: str, folder: str) -> None:
    """Publish at the rate that is asked for, again and again: (records a second, of them marked, seconds)."""
    async with _broker(url) as broker:
        with (Path(folder) / "spool").open("wb", buffering=0) as spool:
            pipe.send("ready")
            while (asked := await asyncio.to_thread(pipe.recv)) is not None:
                pipe.send(await _paced(broker, spool.fileno(), *asked))


async def _paced(broker: RabbitMQ, spool: int, rate: float, marks: float, seconds: float) -> int:
    """Sync what has come due, then publish it: one message, and one for each that is marked; return how many those."""
    began, count, marked = time.time(), 0, 0
    sent: list[asyncio.Future[None]] = []
    while (now := time.time()) < began + seconds:
        due = int((now - began) * rate) - count
        if due > 0:
            publications = [_publication(0, os.urandom(8).hex(), _RECORD * due)]
            while marked < int(marks * (count + due) / rate):
                marked += 1
                moment = str(round((began + marked / marks) * 1e6))
                publications.append(_publication(0, moment, _RECORD, moment))
            count += due
            os.write(spool, _RECORD * due)
            os.fdatasync(spool)
            sent += [asyncio.ensure_future(broker.publish(one)) for one in publications]
        await asyncio.sleep(max(0.0, min(_TICK, began + (count + 1) / rate - time.time())))
    await asyncio.gather(*sent)
    return marked


class Chain:
    """The processes of the floor. Open with `async with`."""

    def __init__(self, folder: Path, node: Node) -> None:
        self._folder = folder
        self._node = node
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True)
        url, folder = self._node.url, str(self._folder)
        try:
            self._last = await self._started(_last, folder)
            for number in range(STAGES):
                await self._started(_stage, url, folder, number)
            self._source = await self._started(_source, url, folder)
        except BaseException:
            self._kill()
            raise
        return self

    async def _started(self, role: Callable[..., Coroutine[Any, Any, None]], *args: object) -> Child:
        child = Child(role, *args)
        self._children.append(child)
        await asyncio.to_thread(child.answer)
        return child

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is not None:
            self._kill()
            return
        for child in reversed(self._children):
            child.pipe.send(None)
            await asyncio.to_thread(child.join)

    def _kill(self) -> None:
        for child in self._children:
            child.kill()

    async def latencies(self, rate: float, marks: float, seconds: float) -> list[float]:
        """Return the milliseconds that each marked record took, of `marks` a second among `rate`."""
        self._source.pipe.send((rate, marks, seconds))
        count = await asyncio.to_thread(self._source.answer)
        late: list[float] = []
        while len(late) < count:
            await asyncio.sleep(_TICK)
            self._last.pipe.send(True)
            late += await asyncio.to_thread(self._last.answer)
        return late
