"""A broker whose every step a test takes by hand: what comes to one worker, and what comes of what it sends."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass

from exhaust.broker.handling import failed
from exhaust.broker.interface import Delivery, Handler, Publication, Queue
from exhaust.errors import BrokerError, UncertainError, UnroutableError
from exhaust.routing import QUEUES

QUEUE = QUEUES["activator"][0]


class Post:
    """What a broker keeps: messages for the worker that are not acknowledged, and all that came from it, in order."""

    def __init__(self) -> None:
        self.waiting: list[Delivery] = []
        self.arrived: list[Publication] = []
        self.away = False
        self.unbound: set[str] = set()

    def take(self, sent: Publication) -> None:
        """Take in what somebody else has sent to the worker."""
        what = (sent.exchange, sent.key, sent.id, sent.type, sent.body, sent.time, sent.headers)
        self.waiting.append(Delivery(*what, QUEUE.name, 1))


@dataclass(slots=True)
class Flying:
    """A publication that has no confirm yet."""

    publication: Publication
    future: asyncio.Future[None]
    arrived: bool = False


class Line:
    """One worker's connection to the post, a Broker. Publications arrive in order; once it is cut, nothing does."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self.flying: list[Flying] = []
        self.handler: Handler | None = None
        self.dead = False

    @property
    def connected(self) -> bool:
        return not self.post.away

    async def declare(self, exchanges: Sequence[str], queues: Sequence[Queue]) -> None:
        """All is declared."""

    def publish(self, publication: Publication) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.dead:
            return future
        if self.post.away:
            return failed(BrokerError("away"))
        if publication.key in self.post.unbound:
            return failed(UnroutableError(f"no queue for {publication.key}"))
        self.flying.append(Flying(publication, future))
        return future

    @contextlib.asynccontextmanager
    async def consume(self, queue: Queue, handler: Handler, *, prefetch: int = 256) -> AsyncIterator[None]:
        self.handler = handler
        try:
            yield
        finally:
            self.handler = None

    def arrive(self, most: int) -> None:
        """Let the oldest that are under way arrive."""
        for one in itertools.islice((one for one in self.flying if not one.arrived), most):
            one.arrived = True
            self.post.arrived.append(one.publication)

    def confirm(self, which: slice) -> None:
        """Confirm some of those that have arrived, in whatever order."""
        for one in [one for one in self.flying if one.arrived][which]:
            self.flying.remove(one)
            one.future.set_result(None)

    def cut(self) -> None:
        """Break the connection: nobody knows what has arrived."""
        self.post.away = True
        for one in self.flying:
            one.future.set_exception(UncertainError("the connection broke"))
        self.flying.clear()
