"""Our own channels on a shared socket: one that publishes with confirms, and one that consumes."""

import asyncio
import struct
from collections.abc import Iterator
from typing import Any

import pamqp.frame
from pamqp import commands
from pamqp.base import Frame

from exhaust.broker import frames
from exhaust.broker.handling import fail, failed
from exhaust.broker.interface import Delivery, Publication
from exhaust.broker.tap import Tap
from exhaust.errors import BrokerError, UncertainError, UnroutableError

# How long the broker may take to answer a question about a channel.
ANSWER_WITHIN = 5.0


class ClosedError(Exception):
    """The channel is gone; the text says why."""


def _close() -> Frame:
    return commands.Channel.Close(reply_code=200, class_id=0, method_id=0)


class Channel:
    """One AMQP channel: asks its questions one after the other, and knows when it was closed and why."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.number = tap.add(self)
        self.closed: str | None = None
        self._loop = asyncio.get_running_loop()
        self._asking = asyncio.Lock()
        self._answer: asyncio.Future[Frame] | None = None
        self._wanted: tuple[str, ...] = ()

    async def ask(self, question: Frame, within: float | None = ANSWER_WITHIN) -> Frame:
        """Send a method and return its answer; raise ClosedError, or TimeoutError unless `within` is None."""
        async with self._asking:
            if self.closed is not None:
                raise ClosedError(self.closed)
            self._answer = self._loop.create_future()
            self._wanted = tuple(question.valid_responses)
            self.tap.write(pamqp.frame.marshal(question, self.number))
            try:
                async with asyncio.timeout(within):
                    return await self._answer
            except TimeoutError:
                self.tap.mute = True
                raise
            finally:
                self._answer = None

    def receive(self, kind: int, data: bytes, start: int, end: int) -> None:
        """Take a frame that is none of the frequent ones."""
        if kind != frames.METHOD:
            return
        frame = pamqp.frame.unmarshal(data[start - 7 : end + 1])[2]
        if isinstance(frame, commands.Channel.Close):
            self.tap.write(pamqp.frame.marshal(commands.Channel.CloseOk(), self.number))
            self.tap.remove(self.number)
            self.lost(str(frame.reply_text))
        elif isinstance(frame, commands.Channel.CloseOk):
            self.tap.remove(self.number)
        if self._answer is not None and frame.name in self._wanted and not self._answer.done():
            self._answer.set_result(frame)  # type: ignore[arg-type]

    def received(self) -> None:
        """Nothing is gathered here."""

    def lost(self, reason: str) -> None:
        self.closed = reason
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ClosedError(reason))

    async def close(self, within: float) -> None:
        """Close it in order if the broker answers in time; it is closed for us in any case."""
        try:
            await self.ask(_close(), within)
        except (ClosedError, TimeoutError):
            return
        finally:
            self.lost("closed")


class _Outstanding:
    """A publication without its confirm yet. One that timed out stays, to be recognised should it be returned."""

    __slots__ = ("due", "future", "publication")

    def __init__(self, publication: Publication, future: asyncio.Future[None], due: float) -> None:
        self.publication, self.future, self.due = publication, future, due


class Publisher(Channel):
    """Writes publications at once and ends each one's future when the broker answers for it, or not in time."""

    def __init__(self, tap: Tap, frame_max: int, confirm_within: float) -> None:
        super().__init__(tap)
        self._frame_max = frame_max
        self._confirm_within = confirm_within
        self._outstanding: dict[int, _Outstanding] = {}
        self._tag = 0
        self._timer: asyncio.TimerHandle | None = None
        self._returned: tuple[str, str] | None = None

    async def open(self) -> None:
        await self.ask(commands.Channel.Open())
        await self.ask(commands.Confirm.Select())

    def publish(self, publication: Publication) -> asyncio.Future[None]:
        if self.closed is not None:
            return failed(BrokerError(f"not published: {self.closed}"))
        if self.tap.full:
            return failed(BrokerError("not published: the broker does not read what was sent before"))
        try:
            data = frames.publish(self.number, publication, self._frame_max)
        except BrokerError as error:
            return failed(error)
        except struct.error as error:
            return failed(BrokerError(f"not published: {publication.id!r} has a header that AMQP cannot hold: {error}"))
        self._tag += 1
        future: asyncio.Future[None] = self._loop.create_future()
        due = self._loop.time() + self._confirm_within
        self._outstanding[self._tag] = _Outstanding(publication, future, due)
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._expire)
        self.tap.write(data)
        return future

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        for waiting in self._outstanding.values():
            if waiting.future.done():
                continue
            if waiting.due > now:
                self._timer = self._loop.call_at(waiting.due, self._expire)
                return
            fail(waiting.future, UncertainError(f"no confirm within {self._confirm_within:g} s"))

    def receive(self, kind: int, data: bytes, start: int, end: int) -> None:
        if kind == frames.METHOD:
            method = frames.method_id.unpack_from(data, start)[0]
            if method in (frames.ACK, frames.NACK):
                tag, multiple = frames.confirm(data, start)
                self._confirm(tag, multiple=multiple, accepted=method == frames.ACK)
            elif method == frames.RETURN:
                self._returned = frames.returned(data, start)
            else:
                super().receive(kind, data, start, end)
        elif kind == frames.HEADER and self._returned is not None:
            self._return(*self._returned, frames.Content(data, start).id)
            self._returned = None

    def _confirm(self, tag: int, *, multiple: bool, accepted: bool) -> None:
        for number in self._up_to(tag) if multiple else (tag,):
            waiting = self._outstanding.pop(number, None)
            if waiting is None or waiting.future.done():
                continue
            if accepted:
                waiting.future.set_result(None)
            else:
                fail(waiting.future, UnroutableError("refused: a queue is full or broken"))

    def _up_to(self, tag: int) -> Iterator[int]:
        while self._outstanding:
            oldest = next(iter(self._outstanding))
            if oldest > tag:
                return
            yield oldest

    def _return(self, exchange: str, key: str, identity: str) -> None:
        # A return carries no number. It precedes its own confirm, but not those of earlier publications.
        for waiting in self._outstanding.values():
            that = waiting.publication
            if that.id == identity and that.key == key and that.exchange == exchange and not waiting.future.done():
                fail(waiting.future, UnroutableError(f"no queue is bound to {exchange!r} for {key!r}"))
                return

    def lost(self, reason: str) -> None:
        """End all that waits: a wrong exchange closes the channel, and its own publications never arrived."""
        if self.closed is not None:
            return
        super().lost(reason)
        if self._timer is not None:
            self._timer.cancel()
        for waiting in self._outstanding.values():
            exchange = waiting.publication.exchange
            if exchange and f"'{exchange}'" in reason:
                kind = UnroutableError if reason.startswith("NOT_FOUND") else BrokerError
                fail(waiting.future, kind(reason))
            else:
                fail(waiting.future, UncertainError(f"no confirm: {reason}"))
        self._outstanding.clear()
        # There is one way to recover: a new connection.
        self.tap.abort(reason)

    async def flushed(self, within: float) -> None:
        """Wait until nothing is outstanding."""
        waiting = [each.future for each in self._outstanding.values() if not each.future.done()]
        if waiting and (await asyncio.wait(waiting, timeout=within))[1]:
            self.tap.mute = True


class Subscriber(Channel):
    """Collects what one consumer is sent, until somebody takes it."""

    def __init__(self, tap: Tap, queue: str) -> None:
        super().__init__(tap)
        self.queue = queue
        self._arrived: list[tuple[int, Delivery]] = []
        self._waiting: asyncio.Future[None] | None = None
        self._head: tuple[int, bool, str, str] | None = None
        self._content: frames.Content | None = None
        self._pieces: list[bytes] = []
        self._missing = 0
        self._tag = ""

    async def open(self, prefetch: int, *, exclusive: bool = False) -> None:
        """Open the channel and start to consume, however long that takes.

        A quorum queue without a leader answers nobody. To give up would leave a consumer behind that may yet be
        started, and to drop the connection would take the other consumers along; whether the connection carries
        anything at all is for heartbeats and the ping to judge.
        """
        await self.ask(commands.Channel.Open(), None)
        await self.ask(commands.Basic.Qos(prefetch_size=0, prefetch_count=prefetch, global_=False), None)
        await self.start(exclusive=exclusive)

    async def start(self, *, exclusive: bool = False, no_ack: bool = False) -> None:
        begin: Any = commands.Basic.Consume(queue=self.queue, exclusive=exclusive, no_ack=no_ack)
        self._tag = str((await self.ask(begin, None)).consumer_tag)  # type: ignore[attr-defined]

    async def cancel(self, within: float) -> None:
        """Ask for no more; what had arrived and was not taken stays with the broker."""
        await self.ask(commands.Basic.Cancel(consumer_tag=self._tag, nowait=False), within)

    def receive(self, kind: int, data: bytes, start: int, end: int) -> None:
        if kind == frames.BODY:
            self._pieces.append(data[start:end])
            self._missing -= end - start
            if self._missing <= 0:
                self._complete()
        elif kind == frames.HEADER:
            self._content = frames.Content(data, start)
            self._missing = self._content.size
            if not self._missing:
                self._complete()
        elif kind == frames.METHOD:
            method = frames.method_id.unpack_from(data, start)[0]
            if method == frames.DELIVER:
                self._head = frames.delivered(data, start)
            elif method == frames.CANCELLED:
                # The queue was deleted or its leader moved: the channel has no other use.
                self.tap.write(pamqp.frame.marshal(_close(), self.number))
                self.lost("the broker cancelled the consumer")
            else:
                super().receive(kind, data, start, end)

    def _complete(self) -> None:
        if self._head is None or self._content is None:
            return
        tag, redelivered, exchange, key = self._head
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        delivery = frames.delivery(self._content, body, self.queue, exchange, key, redelivered=redelivered)
        self._arrived.append((tag, delivery))

    def received(self) -> None:
        if self._arrived:
            self.wake()

    def wake(self) -> None:
        """Let `take` return, even with nothing."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def lost(self, reason: str) -> None:
        super().lost(reason)
        self._arrived.clear()
        self.wake()

    async def take(self) -> list[tuple[int, Delivery]]:
        """Wait for deliveries and return all that have arrived, with their tags."""
        if not self._arrived and self.closed is None:
            self._waiting = self._loop.create_future()
            await self._waiting
        if self.closed is not None:
            raise ClosedError(self.closed)
        taken, self._arrived = self._arrived, []
        return taken

    def settle(self, tag: int, *, accepted: bool, multiple: bool) -> None:
        """Acknowledge or give back one delivery, or all up to it that are not settled yet."""
        if self.closed is None:
            frame = frames.acknowledge if accepted else frames.requeue
            self.tap.write(frame(self.number, tag, multiple=multiple))
