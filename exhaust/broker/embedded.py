"""The broker inside one process: no server, nothing durable, the same behaviour.

A publication is confirmed only when every bound queue's consumer has acknowledged it, so that whoever published it
keeps it until then: spools and outboxes stay the only durable places. What is dead counts as acknowledged, but where
somebody reads the dead letters, only once they have.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from exhaust.broker.handling import (
    DEAD,
    DEAD_QUEUE,
    MOST_DEAD,
    dead_letter,
    fail,
    failed,
    handle,
    pause_after,
    redeliver_all,
)
from exhaust.broker.interface import Acknowledge, Delivery, Disposition, Handler, Publication, Queue, Reject
from exhaust.errors import BrokerError, UncertainError, UnroutableError

_MOST_ROUTES = 10_000
_HANDLERS_WITHIN = 1.0


def words_of(text: str) -> Sequence[str]:
    """Cut a key or a pattern at its dots; an empty one has no words."""
    return text.split(".") if text else []


def matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Tell whether a binding's pattern covers a key, both cut at the dots."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(matches(pattern[1:], words[start:]) for start in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])


class _Receipt:
    """What a publisher awaits: done once each queue that got the message is done with it."""

    __slots__ = ("future", "left")

    def __init__(self, future: asyncio.Future[None], left: int) -> None:
        self.future, self.left = future, left

    def sign(self) -> None:
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: BrokerError) -> None:
        fail(self.future, error)


class _Message:
    """A publication in one queue."""

    __slots__ = ("attempts", "due", "publication", "receipt", "timer")

    def __init__(self, publication: Publication, receipt: _Receipt | None, due: float | None) -> None:
        self.publication, self.receipt, self.due = publication, receipt, due
        self.attempts = 0
        self.timer: asyncio.TimerHandle | None = None

    def sign(self) -> None:
        if self.receipt is not None:
            self.receipt.sign()


class _Queue:
    """Messages in order, and the consumers in line for them: only the first gets any."""

    def __init__(self, declared: Queue) -> None:
        self.declared = declared
        self.ready: deque[_Message] = deque()
        self.line: list[_Consumer] = []
        self.read = False

    def wake(self) -> None:
        if self.line and self.ready:
            self.line[0].wake()

    def take(self, most: int) -> list[_Message]:
        taken = [self.ready.popleft() for _ in range(min(most, len(self.ready)))]
        for message in taken:
            message.attempts += 1
            if message.timer is not None:
                message.timer.cancel()
        return taken


class _Consumer:
    """One handler in line at a queue."""

    def __init__(self, broker: "Embedded", queue: _Queue, handler: Handler, prefetch: int) -> None:
        self._broker = broker
        self._queue = queue
        self._handler = handler
        self._prefetch = prefetch
        self._failures = 0
        self._stopping = asyncio.Event()
        self._waiting: asyncio.Future[None] | None = None
        self._task = asyncio.create_task(self._run(), name=f"consume {queue.declared.name}")
        queue.line.append(self)
        queue.read = True
        queue.wake()

    def wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def close(self, within: float | None = None) -> None:
        """Take no more and let the handler end; cancel it after `within` seconds."""
        self._stopping.set()
        self.wake()
        try:
            await asyncio.wait((self._task,), timeout=within)
        finally:
            self._task.cancel()
            if self in self._queue.line:
                self._queue.line.remove(self)
            self._queue.wake()
        await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while not self._stopping.is_set():
            if self._queue.line[0] is self and self._queue.ready:
                await self._work(self._queue.take(self._prefetch))
                if self._queue.ready:
                    await asyncio.sleep(0)  # a handler that never waits must not keep others from running
            else:
                self._waiting = asyncio.get_running_loop().create_future()
                await self._waiting

    async def _work(self, taken: list[_Message]) -> None:
        queue = self._queue.declared
        deliveries = [_delivery(message, queue.name) for message in taken]
        dispositions: Sequence[Disposition] | None = None
        try:
            dispositions = await handle(self._handler, deliveries)
            if dispositions is None:
                await self._pause()
        finally:
            self._settle(taken, deliveries, dispositions or redeliver_all(deliveries))
        self._failures = 0 if dispositions is not None else self._failures

    async def _pause(self) -> None:
        self._failures += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_after(self._failures)):
                await self._stopping.wait()

    def _settle(
        self, taken: list[_Message], deliveries: Sequence[Delivery], dispositions: Sequence[Disposition]
    ) -> None:
        again: list[_Message] = []
        for message, delivery, disposition in zip(taken, deliveries, dispositions, strict=True):
            if isinstance(disposition, Acknowledge):
                message.sign()
            elif isinstance(disposition, Reject):
                self._broker.bury(message, delivery, disposition.reason)
            elif self._queue.declared.leader and message.attempts > self._queue.declared.delivery_limit:
                self._broker.bury(message, delivery, "delivery_limit")
            else:
                again.append(message)
        self._queue.ready.extendleft(reversed(again))
        for message in again:
            self._broker.arm(self._queue, message)


def _delivery(message: _Message, queue: str) -> Delivery:
    that = message.publication
    return Delivery(
        that.exchange, that.key, that.id, that.type, that.body, that.time, that.headers, queue, message.attempts
    )


class Embedded:
    """A Broker. Every `declare`, `publish` and `consume` is in one process and one event loop."""

    def __init__(self) -> None:
        self._open = False
        self._exchanges: set[str] = {DEAD}
        self._queues: dict[str, _Queue] = {DEAD: _Queue(DEAD_QUEUE)}
        self._routes: dict[tuple[str, str], tuple[_Queue, ...]] = {}
        self._consumers: set[_Consumer] = set()
        self._outstanding: set[asyncio.Future[None]] = set()

    @property
    def connected(self) -> bool:
        return self._open

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._open = False
        await asyncio.gather(*(consumer.close(_HANDLERS_WITHIN) for consumer in list(self._consumers)))
        for queue in self._queues.values():
            for message in queue.ready:
                if message.timer is not None:
                    message.timer.cancel()
        for future in list(self._outstanding):
            fail(future, UncertainError("closed before it was acknowledged"))

    async def declare(self, exchanges: Sequence[str], queues: Sequence[Queue]) -> None:
        """Make sure that these exist and are bound; a queue that exists otherwise is an error."""
        self._exchanges.update(exchanges)
        for queue in queues:
            if unknown := {binding.exchange for binding in queue.bindings} - self._exchanges:
                raise BrokerError(f"cannot declare: queue {queue.name!r} is bound to unknown exchanges {unknown}")
            known = self._queues.setdefault(queue.name, _Queue(queue))
            if queue.name != DEAD and replace(known.declared, bindings=()) != replace(queue, bindings=()):
                raise BrokerError(f"cannot declare: queue {queue.name!r} exists with other properties")
            bindings = dict.fromkeys((*known.declared.bindings, *queue.bindings))
            known.declared = replace(known.declared, bindings=tuple(bindings))
        self._routes.clear()

    @contextlib.asynccontextmanager
    async def consume(self, queue: Queue, handler: Handler, *, prefetch: int = 256) -> AsyncIterator[None]:
        """Consume while the context is open; behind others of the same queue it waits for its turn."""
        await self.declare((), (queue,))
        consumer = _Consumer(self, self._queues[queue.name], handler, prefetch)
        self._consumers.add(consumer)
        try:
            yield
        finally:
            self._consumers.discard(consumer)
            await consumer.close()

    def publish(self, publication: Publication) -> Awaitable[None]:
        """Hand it to the queues now; what is returned ends when all of their consumers have acknowledged."""
        if not self._open:
            return failed(BrokerError("not published: the broker is closed"))
        queues = self._route(publication.exchange, publication.key)
        if not queues:
            return failed(UnroutableError(f"no queue is bound to {publication.exchange!r} for {publication.key!r}"))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outstanding.add(future)
        future.add_done_callback(self._outstanding.discard)
        receipt = _Receipt(future, len(queues))
        for queue in queues:
            self._put(queue, publication, receipt)
        return future

    def _route(self, exchange: str, key: str) -> tuple[_Queue, ...]:
        if not exchange:  # the exchange without a name writes into the queue that the key names
            return (self._queues[key],) if key in self._queues else ()
        found = self._routes.get((exchange, key))
        if found is None:
            words = words_of(key)
            found = tuple(
                queue
                for queue in self._queues.values()
                if any(
                    binding.exchange == exchange and matches(words_of(binding.pattern), words)
                    for binding in queue.declared.bindings
                )
            )
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            self._routes[exchange, key] = found
        return found

    def _put(self, queue: _Queue, publication: Publication, receipt: _Receipt | None) -> None:
        if queue.declared.name == DEAD:
            # The end of the road: kept as long as there is room, whether or not anybody looks at it.
            if receipt is not None and not queue.read:
                receipt.sign()
                receipt = None
            if len(queue.ready) >= MOST_DEAD:
                queue.ready.popleft().sign()
        elif queue.declared.most is not None and len(queue.ready) >= queue.declared.most:
            if receipt is not None:
                receipt.fail(BrokerError(f"refused: queue {queue.declared.name!r} is full"))
            return
        due = None if publication.expires is None else asyncio.get_running_loop().time() + publication.expires
        message = _Message(publication, receipt, due)
        queue.ready.append(message)
        self.arm(queue, message)
        queue.wake()

    def arm(self, queue: _Queue, message: _Message) -> None:
        """Let a message that waits expire when it is due."""
        if message.due is not None:
            message.timer = asyncio.get_running_loop().call_at(message.due, self._expire, queue, message)

    def _expire(self, queue: _Queue, message: _Message) -> None:
        with contextlib.suppress(ValueError):
            queue.ready.remove(message)
            self.bury(message, _delivery(message, queue.declared.name), "expired")

    def bury(self, message: _Message, delivery: Delivery, reason: str) -> None:
        """Move it to the dead letters, or to where its queue sends what expires; its receipt goes along."""
        queue = self._queues[delivery.queue].declared
        dead = dead_letter(delivery, reason)
        if reason == "expired" and queue.expires_to is not None:
            exchange, key = queue.expires_to
            targets = self._route(exchange, key)
            dead = replace(dead, exchange=exchange, key=key)
        else:
            targets = (self._queues[DEAD],)
        if message.receipt is not None:
            message.receipt.left += len(targets)
        for target in targets:
            self._put(target, dead, message.receipt)
        message.sign()
