"""The broker that is RabbitMQ: aio-pika connects and declares, our own channels on its sockets carry the messages.

Two connections, since the broker stops reading from one that publishes when it runs out of memory or disk: the other
goes on consuming and acknowledging. Each is kept open by a link; every way to lose something (the connection, a
channel closed by the server, a deleted queue, a cancelled consumer) is mended by making it anew.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from types import TracebackType
from typing import Self

from yarl import URL

from exhaust.broker import topology
from exhaust.broker.channels import Publisher
from exhaust.broker.consumer import Consumer
from exhaust.broker.handling import failed
from exhaust.broker.interface import Handler, Publication, Queue
from exhaust.broker.link import FAILURES, Link, explain
from exhaust.broker.ping import Ping
from exhaust.broker.tap import Tap
from exhaust.errors import BrokerError, UnreachableError

_HANDLERS_WITHIN = 1.0
_FLUSH_WITHIN = 1.5


class RabbitMQ:
    """A Broker. Entering it starts to connect and does not wait; `declare` and `consume` do.

    The exchanges and queues that it is given exist on every connection before anything is published on it: what is
    confirmed is in all the queues that are to have it. Those of `existing` are left to whoever declares them.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        exchanges: Sequence[str] = (),
        queues: Sequence[Queue] = (),
        existing: bool = False,
        confirm_within: float = 5.0,
        heartbeat: int = 10,
        ping_every: float = 5.0,
    ) -> None:
        self._url = _checked(url)
        self._name = name
        self._confirm_within = confirm_within
        self._exchanges: dict[str, None] = {} if existing else dict.fromkeys(exchanges)
        self._queues: dict[str, Queue] = {} if existing else {queue.name: queue for queue in queues}
        self._existing = existing
        self._declaring = asyncio.Lock()
        self._declared: Tap | None = None
        self._publisher: Publisher | None = None
        self._consumers: set[Consumer] = set()
        self._publishing = Link(self._url, f"{name} publishing", heartbeat, self._restore_publishing)
        self._consuming = Link(self._url, f"{name} consuming", heartbeat, self._restore)
        queue = f"exhaust.ping.{name}.{secrets.token_hex(6)}"
        self._ping = Ping(queue, ping_every, self._publishing, self._consuming, self.publish)

    def __repr__(self) -> str:
        return f"RabbitMQ({self._url.with_password(None).human_repr()!r}, name={self._name!r})"

    @property
    def connected(self) -> bool:
        """Both connections are open and what was declared is restored."""
        return self._publishing.opened.is_set() and self._consuming.opened.is_set()

    @property
    def blocked(self) -> bool:
        """The broker is short of memory or disk: it takes no publications, and confirms none."""
        return self._publishing.blocked

    @property
    def stuck(self) -> asyncio.Event:
        """Set when both connections claim to be open but three messages in a row to ourselves did not arrive.

        A broker that is down is not stuck, nor is one that refuses publications in an alarm.
        """
        return self._ping.stuck

    @property
    def last_error(self) -> str | None:
        """Why it is not connected, if known."""
        return self._publishing.failed or self._consuming.failed

    async def wait_connected(self, within: float) -> None:
        """Return once connected; raise UnreachableError with the last error after `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._publishing.opened.wait()
                await self._consuming.opened.wait()
        except TimeoutError:
            raise UnreachableError(self.last_error or explain(TimeoutError(), self._url)) from None

    async def __aenter__(self) -> Self:
        self._publishing.start()
        self._consuming.start()
        self._ping.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._ping.close()
        await asyncio.gather(*(consumer.close(_HANDLERS_WITHIN) for consumer in list(self._consumers)))
        if self._publisher is not None:
            await self._publisher.flushed(_FLUSH_WITHIN)
        publisher, self._publisher = self._publisher, None
        await asyncio.gather(self._consuming.close(), self._publishing.close())
        if publisher is not None:
            publisher.lost("closed")

    async def declare(self, exchanges: Sequence[str], queues: Sequence[Queue]) -> None:
        """Make sure that these exist; they are declared anew on every new connection."""
        await self._declare(exchanges, queues)
        self._exchanges |= dict.fromkeys(exchanges)
        self._queues |= {queue.name: queue for queue in queues}

    async def _declare(self, exchanges: Sequence[str], queues: Sequence[Queue]) -> None:
        # Not over the connection that publishes: in an alarm the broker reads nothing from that one.
        link = self._consuming
        while True:
            await link.opened.wait()
            try:
                async with self._declaring:
                    return await topology.declare(link.tap, exchanges, queues)
            except BrokerError:
                raise
            except FAILURES:
                # The connection went in the middle: the link is at it already.
                await asyncio.sleep(0.1)

    async def _restore(self, link: Link) -> None:
        if self._exchanges or self._queues:
            async with self._declaring:
                # What the other connection has declared is there as long as that connection is.
                if self._declared is None or self._declared.ended.is_set():
                    await topology.declare(link.tap, tuple(self._exchanges), tuple(self._queues.values()))
                    self._declared = link.tap

    async def _restore_publishing(self, link: Link) -> None:
        await self._restore(link)
        publisher = Publisher(link.tap, link.frame_max, self._confirm_within)
        await publisher.open()
        self._publisher = publisher

    def publish(self, publication: Publication) -> Awaitable[None]:
        """Send now, in the order of the calls; what is returned ends with the confirm."""
        if self._publisher is None or not self._publishing.opened.is_set():
            return failed(BrokerError(f"not published: {self.last_error or 'not connected'}"))
        return self._publisher.publish(publication)

    @contextlib.asynccontextmanager
    async def consume(self, queue: Queue, handler: Handler, *, prefetch: int = 256) -> AsyncIterator[None]:
        """Consume while the context is open; entering it waits until the broker agreed."""
        declare = _leave if self._existing else self._declare
        consumer = Consumer(self._consuming, queue, handler, prefetch, self.publish, declare)
        self._consumers.add(consumer)
        try:
            await consumer.start()
            yield
        finally:
            await consumer.close()
            self._consumers.discard(consumer)


async def _leave(exchanges: Sequence[str], queues: Sequence[Queue]) -> None:
    """Declare nothing."""


def _checked(url: str) -> URL:
    with contextlib.suppress(ValueError):
        parsed = URL(url)
        if parsed.scheme in ("amqp", "amqps") and parsed.host:
            return parsed
    raise UnreachableError("the broker's URL must be amqp://user:password@host:port/vhost (or amqps://)")
