"""A RabbitMQ that is used for a moment and left as it was found."""

import contextlib
from collections.abc import Sequence

import aio_pika
import aiormq.exceptions

from exhaust.broker.interface import Queue
from exhaust.errors import UnreachableError, UsageError

_CONNECT_WITHIN = 5.0
_FAILURES = (OSError, aiormq.exceptions.AMQPError)


async def absent(url: str, queues: Sequence[Queue]) -> list[Queue]:
    """Return those that the broker does not have. Raises UnreachableError, or UsageError where one is in use."""
    missing = []
    async with await _connect(url) as connection:
        for queue in queues:
            channel = await connection.channel()
            try:
                found = await channel.declare_queue(queue.name, passive=True)
            except aiormq.exceptions.AMQPChannelError:
                missing.append(queue)  # and the broker has closed the channel for asking
                continue
            if found.declaration_result.consumer_count or found.declaration_result.message_count:
                raise UsageError(f"{queue.name} is in use on this broker: take a virtual host of its own")
    return missing


async def remove(url: str, exchanges: Sequence[str], queues: Sequence[Queue]) -> None:
    """Delete queues with what is in them, then those exchanges that nothing is bound to. Raises UnreachableError."""
    async with await _connect(url) as connection:
        channel = await connection.channel()
        for queue in queues:
            await channel.queue_delete(queue.name)
        for exchange in exchanges:
            channel = await connection.channel()  # the broker closes one on which it has said no
            with contextlib.suppress(aiormq.exceptions.AMQPChannelError):
                await channel.exchange_delete(exchange, if_unused=True)


async def _connect(url: str) -> aio_pika.abc.AbstractConnection:
    try:
        return await aio_pika.connect(url, timeout=_CONNECT_WITHIN)
    except (*_FAILURES, ValueError) as exc:
        at = url.rpartition("@")[2]
        raise UnreachableError(f"no RabbitMQ answers at {at}: {exc or type(exc).__name__}") from exc
