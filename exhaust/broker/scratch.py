"""A RabbitMQ that is used for a moment and left as it was found."""

from collections.abc import Sequence

import aio_pika
import aiormq.exceptions

from exhaust.broker.interface import Queue
from exhaust.errors import UnreachableError

_CONNECT_WITHIN = 5.0
_FAILURES = (OSError, aiormq.exceptions.AMQPError)


async def in_use(url: str, queues: Sequence[Queue]) -> str | None:
    """Return the name of a queue that somebody consumes from. Raises UnreachableError."""
    async with await _connect(url) as connection:
        for queue in queues:
            channel = await connection.channel()
            try:
                found = await channel.declare_queue(queue.name, passive=True)
            except aiormq.exceptions.AMQPChannelError:
                continue  # there is none; and the broker has closed the channel for asking
            if found.declaration_result.consumer_count:
                return queue.name
    return None


async def remove(url: str, exchanges: Sequence[str], queues: Sequence[Queue]) -> None:
    """Delete queues with what is in them, then exchanges. Raises UnreachableError."""
    async with await _connect(url) as connection, connection.channel() as channel:
        for queue in queues:
            await channel.queue_delete(queue.name)
        for exchange in exchanges:
            await channel.exchange_delete(exchange)


async def _connect(url: str) -> aio_pika.abc.AbstractConnection:
    try:
        return await aio_pika.connect(url, timeout=_CONNECT_WITHIN)
    except (*_FAILURES, ValueError) as exc:
        at = url.rpartition("@")[2]
        raise UnreachableError(f"no RabbitMQ answers at {at}: {exc or type(exc).__name__}") from exc
