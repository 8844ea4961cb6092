"""Somebody who says again what others said: copies of messages, the same to the byte, late and in another order."""

import asyncio
import contextlib
import random
from collections import Counter

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from tests.soak.listener import FAILURES

EXCHANGES = ("exhaust.telemetry", "exhaust.knowledge", "exhaust.activations", "exhaust.commands", "exhaust.results")
_MOST_COPIES = 4
_LATEST = 10.0


class Echo:
    """Sends up to four copies of each message, each up to ten seconds late; `sent` counts them by exchange."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self._url = url
        self._chance = chance
        self._known: set[str | None] = set()
        self.sent: Counter[str] = Counter()

    async def repeat(self, seconds: float) -> None:
        """Hear for so many seconds what goes through the exchanges, and return when the last copy is sent."""
        async with await aio_pika.connect(self._url) as connection, connection.channel() as channel:
            queue = await channel.declare_queue(exclusive=True)
            for name in EXCHANGES:
                await queue.bind(name, "#")
            async with asyncio.TaskGroup() as copies:

                async def hear(message: AbstractIncomingMessage) -> None:
                    if message.message_id not in self._known:  # our own copies come by as well
                        self._known.add(message.message_id)
                        for _ in range(self._chance.randint(1, _MOST_COPIES)):
                            copies.create_task(self._copy(channel, message, self._chance.uniform(0.0, _LATEST)))

                tag = await queue.consume(hear, no_ack=True)
                await asyncio.sleep(seconds)
                await queue.cancel(tag)

    async def _copy(self, channel: AbstractChannel, message: AbstractIncomingMessage, after: float) -> None:
        await asyncio.sleep(after)
        assert message.exchange is not None
        exchange = await channel.get_exchange(message.exchange, ensure=False)
        copy = aio_pika.Message(
            message.body,
            headers=message.headers,
            content_type=message.content_type,
            delivery_mode=message.delivery_mode,
            expiration=message.expiration,
            message_id=message.message_id,
            timestamp=message.timestamp,
            type=message.type,
        )
        with contextlib.suppress(*FAILURES):
            await exchange.publish(copy, message.routing_key or "", mandatory=False)
            self.sent[message.exchange] += 1
