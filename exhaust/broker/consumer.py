"""One consumer of a RabbitMQ queue, over as many connections as it takes."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby

from exhaust.broker.channels import ANSWER_WITHIN, ClosedError, Subscriber
from exhaust.broker.handling import dead_letter, handle, pause_after, redeliver_all
from exhaust.broker.interface import Acknowledge, Delivery, Disposition, Handler, Publication, Queue, Reject
from exhaust.broker.link import Link
from exhaust.errors import BrokerError

_CLOSE_WITHIN = 1.0

log = logging.getLogger(__name__)

Publish = Callable[[Publication], Awaitable[None]]
Declare = Callable[[Sequence[str], Sequence[Queue]], Awaitable[None]]


class Consumer:
    """Consumes in one task, so that its handler never runs twice at once and everything is settled in order."""

    def __init__(
        self, link: Link, queue: Queue, handler: Handler, prefetch: int, publish: Publish, declare: Declare
    ) -> None:
        self._link = link
        self._queue = queue
        self._handler = handler
        self._prefetch = prefetch
        self._publish = publish
        self._declare = declare
        self._failures = 0
        self._stopping = asyncio.Event()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._channel: Subscriber | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once the broker sends what the queue holds."""
        self._task = asyncio.create_task(self._run(), name=f"consume {self._queue.name}")
        await self._started

    async def close(self, within: float | None = None) -> None:
        """Take no more, let the handler end, give the rest back; cancel what takes longer than `within`."""
        self._stopping.set()
        self._started.cancel()
        if self._task is None:
            return
        if self._channel is not None:
            self._channel.wake()
            try:
                await asyncio.wait((self._task,), timeout=within)
            finally:
                self._task.cancel()
        self._task.cancel()
        await asyncio.wait((self._task,), timeout=_CLOSE_WITHIN)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            await self._link.opened.wait()
            try:
                await self._consume()
            except (ClosedError, BrokerError) as error:
                log.warning("consumer interrupted", extra={"queue": self._queue.name, "reason": str(error)})
                await self._pause()
            except Exception:
                # Ours or the broker's fault: either way nothing may stay half consumed, or silently unconsumed.
                log.exception("consumer failed", extra={"queue": self._queue.name})
                with contextlib.suppress(ClosedError):
                    self._link.tap.abort("consumer failed")
                await self._pause()

    async def _pause(self) -> None:
        self._failures += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_after(self._failures)):
                await self._stopping.wait()

    async def _consume(self) -> None:
        # A queue that was deleted under its consumer is made again here.
        await self._declare((), (self._queue,))
        channel = Subscriber(self._link.tap, self._queue.name)
        overdue = asyncio.get_running_loop().call_later(ANSWER_WITHIN, self._report_overdue)
        try:
            await channel.open(self._prefetch, exclusive=not self._queue.leader)
        finally:
            overdue.cancel()
        self._channel = channel
        if not self._started.done():
            self._started.set_result(None)
        try:
            while not self._stopping.is_set():
                if taken := await channel.take():
                    await self._work(channel, taken)
            if not channel.tap.mute:
                await channel.cancel(_CLOSE_WITHIN)
                await channel.close(_CLOSE_WITHIN)
        except TimeoutError:
            pass
        finally:
            self._channel = None

    def _report_overdue(self) -> None:
        log.warning("the broker does not let us consume: has the queue a leader?", extra={"queue": self._queue.name})

    async def _work(self, channel: Subscriber, taken: list[tuple[int, Delivery]]) -> None:
        deliveries = [delivery for _, delivery in taken]
        dispositions = await handle(self._handler, deliveries)
        if dispositions is None:
            # Given back only after the pause: the broker would send it again at once.
            await self._pause()
            dispositions = redeliver_all(deliveries)
        else:
            self._failures = 0
        accepted = await self._accepted(deliveries, dispositions)
        numbered = zip((tag for tag, _ in taken), accepted, strict=True)
        for verdict, run in groupby(numbered, key=lambda each: each[1]):
            tags = [tag for tag, _ in run]
            channel.settle(tags[-1], accepted=verdict, multiple=len(tags) > 1)

    async def _accepted(self, deliveries: Sequence[Delivery], dispositions: Sequence[Disposition]) -> list[bool]:
        """Tell which deliveries the queue may forget: what is done with, and what is safe among the dead letters."""
        accepted = [isinstance(disposition, Acknowledge) for disposition in dispositions]
        buried = {
            index: asyncio.ensure_future(self._publish(dead_letter(deliveries[index], disposition.reason)))
            for index, disposition in enumerate(dispositions)
            if isinstance(disposition, Reject)
        }
        for index, burial in buried.items():
            try:
                await burial
                accepted[index] = True
            except BrokerError as error:
                log.warning("dead letter not kept", extra={"queue": self._queue.name, "reason": str(error)})
        if not all(accepted[index] for index in buried):
            await self._pause()
        return accepted
