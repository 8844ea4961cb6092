"""Exchanges and queues as RabbitMQ is told of them, so that none depends on a default of the server's version."""

from collections.abc import Iterator, Sequence
from typing import Any

import pamqp.frame
from pamqp import commands
from pamqp.base import Frame

from exhaust.broker.channels import Channel, ClosedError
from exhaust.broker.handling import DEAD, DEAD_QUEUE, MOST_DEAD, MOST_DEAD_BYTES
from exhaust.broker.interface import Queue
from exhaust.broker.tap import Tap
from exhaust.errors import BrokerError


def arguments(queue: Queue) -> dict[str, Any]:
    """Return the arguments that a queue is declared with."""
    if queue.name == DEAD:
        return {"x-queue-type": "classic", "x-max-length": MOST_DEAD, **_shedding(MOST_DEAD_BYTES)}
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
        told |= _shedding(queue.keep)
    return told


def _shedding(most: int) -> dict[str, Any]:
    """Return what bounds a queue by bytes: its oldest go first."""
    return {"x-max-length-bytes": most, "x-overflow": "drop-head"}


async def declare(tap: Tap, exchanges: Sequence[str], queues: Sequence[Queue]) -> None:
    """Make them exist, with the dead letters' own; raise BrokerError if they exist otherwise than asked for.

    All is asked for in one go, and only the last question is answered: a broker far away, or slow, is waited for once.
    """
    channel = Channel(tap)
    try:
        await channel.ask(commands.Channel.Open(), None)
        for frame in _frames(exchanges, queues):
            tap.write(pamqp.frame.marshal(frame, channel.number))
        await channel.ask(commands.Exchange.Declare(exchange=DEAD, exchange_type="topic", durable=True), None)
        await channel.ask(commands.Channel.Close(reply_code=200, class_id=0, method_id=0), None)
    except ClosedError as error:
        if tap.ended.is_set():
            raise
        raise BrokerError(f"cannot declare: {error}{_remedy(str(error))}") from error


def _frames(exchanges: Sequence[str], queues: Sequence[Queue]) -> Iterator[Frame]:
    for exchange in dict.fromkeys((DEAD, *exchanges)):
        yield commands.Exchange.Declare(exchange=exchange, exchange_type="topic", durable=True, nowait=True)
    for queue in dict.fromkeys((DEAD_QUEUE, *queues)):
        yield commands.Queue.Declare(queue=queue.name, durable=True, nowait=True, arguments=arguments(queue))
        for binding in queue.bindings:
            yield commands.Queue.Bind(
                queue=queue.name, exchange=binding.exchange, routing_key=binding.pattern, nowait=True
            )


def _remedy(reason: str) -> str:
    """Return what helps where it exists otherwise: what was made by another version, or by hand."""
    return ": delete it once it is empty, and it is made anew" if reason.startswith("PRECONDITION_FAILED") else ""
