"""A message to ourselves through the broker, to notice connections that are open and yet carry nothing."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from pamqp import commands

from exhaust.broker.channels import Subscriber
from exhaust.broker.interface import Publication
from exhaust.broker.link import FAILURES, Link

_MISSES = 3

log = logging.getLogger(__name__)


class Ping:
    """Publishes on one link, expects it on the other; after three misses in a row `stuck` is set."""

    def __init__(
        self,
        queue: str,
        every: float,
        publishing: Link,
        consuming: Link,
        publish: Callable[[Publication], Awaitable[None]],
    ) -> None:
        self.stuck = asyncio.Event()
        self._queue = queue
        self._every = every
        self._publishing = publishing
        self._consuming = consuming
        self._publish = publish
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="ping")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        misses, channel = 0, None
        while True:
            await self._publishing.opened.wait()
            await self._consuming.opened.wait()
            try:
                if channel is None or channel.closed is not None:
                    channel, misses = await self._open(), 0
                await asyncio.sleep(self._every)
                arrived = await self._round_trip(channel)
            except FAILURES:
                channel = None
                await asyncio.sleep(self._every)
                continue
            # Publications that an alarm holds up say nothing about the connections.
            misses = 0 if arrived or self._publishing.blocked else misses + 1
            if misses == _MISSES:
                log.error("stuck: connected, but our own messages do not arrive", extra={"queue": self._queue})
                self.stuck.set()

    async def _open(self) -> Subscriber:
        channel = Subscriber(self._consuming.tap, self._queue)
        await channel.ask(commands.Channel.Open())
        await channel.ask(commands.Queue.Declare(queue=self._queue, exclusive=True, auto_delete=True))
        await channel.start(no_ack=True)
        return channel

    async def _round_trip(self, channel: Subscriber) -> bool:
        wanted = f"ping {time.monotonic()}"
        self._publish(Publication("", self._queue, wanted, "ping", b"", time.time()))
        try:
            async with asyncio.timeout(self._every):
                while all(delivery.id != wanted for _, delivery in await channel.take()):
                    pass
        except TimeoutError:
            return False
        return True
