"""Somebody outside who listens at the exchanges: a durable queue of its own, and every batch that comes to it."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from types import TracebackType
from typing import Self

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from tests.soak.ledgers import Batch, ranges

EXCHANGES = ("exhaust.telemetry", "exhaust.backlog")
QUEUE = "soak.listener"
FAILURES = (aio_pika.exceptions.AMQPError, OSError, TimeoutError, RuntimeError)
_PREFETCH = 500
_HEARTBEAT = 5
_CONNECT_WITHIN = 5.0
_PAUSE = 0.5


def read_batch(message: AbstractIncomingMessage) -> Batch:
    """Return what a batch holds: the numbers of its body, by the headers' epoch and sequence number."""
    body = json.loads(message.body)
    numbers = [record["n"] for record in body["records"] if "n" in record]
    emitter, stream, epoch, seq = (str(message.headers[name]) for name in ("emitter", "stream", "epoch", "seq"))
    told = (body.get("dropped") or {}, body.get("forgone") or ())
    return Batch(emitter, stream, int(epoch), int(seq), tuple(ranges(numbers)), *told)


class Listener:
    """Open with `async with`, before anything is published: its queue is there from then on, and `take` is called."""

    def __init__(self, url: str, take: Callable[[Batch], None]) -> None:
        self._url = f"{url}?heartbeat={_HEARTBEAT}"
        self._take = take
        self._bound = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="listener")
        await self._bound.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(*FAILURES):
                await self._listen()
            await asyncio.sleep(_PAUSE)

    async def _listen(self) -> None:
        connection = await aio_pika.connect(self._url, timeout=_CONNECT_WITHIN)
        lost = asyncio.Event()
        connection.close_callbacks.add(lambda *_: lost.set())
        try:
            channel = await connection.channel()
            channel.close_callbacks.add(lambda *_: lost.set())
            await channel.set_qos(_PREFETCH)
            queue = await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
            for name in EXCHANGES:
                exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
                await queue.bind(exchange, "#")
            self._bound.set()
            await queue.consume(self._hear)
            await lost.wait()
        finally:
            with contextlib.suppress(*FAILURES):
                await asyncio.wait_for(connection.close(), _CONNECT_WITHIN)

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        self._take(read_batch(message))
        await message.ack()
