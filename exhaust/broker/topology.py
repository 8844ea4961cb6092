"""Exchanges and queues as RabbitMQ is told of them, so that none depends on a default of the server's version."""

from collections.abc import Sequence
from typing import Any

import aio_pika
import aiormq.exceptions

from exhaust.broker.handling import DEAD, DEAD_QUEUE, MOST_DEAD
from exhaust.broker.interface import Queue
from exhaust.errors import BrokerError


def arguments(queue: Queue) -> dict[str, Any]:
    """Return the arguments that a queue is declared with."""
    if queue.name == DEAD:
        return {"x-queue-type": "classic", "x-max-length": MOST_DEAD, "x-overflow": "drop-head"}
    exchange, key = queue.expires_to or (DEAD, queue.name)
    told: dict[str, Any] = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": key}
    if queue.leader:
        told |= {"x-queue-type": "quorum", "x-single-active-consumer": True, "x-delivery-limit": queue.delivery_limit}
    else:
        told["x-queue-type"] = "classic"
    if queue.most is not None:
        told |= {"x-max-length": queue.most, "x-overflow": "reject-publish"}
    if queue.keep is not None:
        del told["x-dead-letter-exchange"], told["x-dead-letter-routing-key"]  # what is lost for want of room is lost
        told |= {"x-max-length-bytes": queue.keep, "x-overflow": "drop-head"}
    return told


async def declare(connection: aio_pika.Connection, exchanges: Sequence[str], queues: Sequence[Queue]) -> None:
    """Make them exist, with the dead letters' own; raise BrokerError if they exist otherwise than asked for."""
    try:
        async with connection.channel(publisher_confirms=False) as channel:
            for exchange in dict.fromkeys((*exchanges, DEAD)):
                await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
            for queue in dict.fromkeys((DEAD_QUEUE, *queues)):
                declared = await channel.declare_queue(queue.name, durable=True, arguments=arguments(queue))
                for binding in queue.bindings:
                    await declared.bind(binding.exchange, binding.pattern)
    except aiormq.exceptions.AMQPChannelError as error:
        raise BrokerError(f"cannot declare: {error}{_remedy(error)}") from error


def _remedy(error: aiormq.exceptions.AMQPChannelError) -> str:
    """Return what helps where it exists otherwise: what was made by another version, or by hand."""
    otherwise = isinstance(error, aiormq.exceptions.ChannelPreconditionFailed)
    return ": delete it once it is empty, and it is made anew" if otherwise else ""
