"""The socket of one aio-pika connection, shared: its own frames go through, those of our channels come to us directly.

aio-pika is handed this as its transport factory and knows nothing of channels from FIRST_CHANNEL up. It keeps the
handshake, credentials, TLS, heartbeats and topology; every message passes by its tasks, queues and frame objects.
"""

import asyncio
import time
from typing import Any, Protocol

import aiormq.exceptions
from aiormq.connection import TransportFactory
from yarl import URL

from exhaust.broker import frames

# aio-pika numbers its channels upwards from 1 and uses one at a time here.
FIRST_CHANNEL = 64
# Beyond this the broker reads too slowly, or not at all: a publication is refused instead of kept in memory.
_MOST_UNSENT = 8 * 1024 * 1024
_MOST_GATHERED = 256 * 1024


class Receiver(Protocol):
    """A channel of ours, as the socket sees it."""

    def receive(self, kind: int, data: bytes, start: int, end: int) -> None:
        """Take one frame, whose payload is data[start:end]."""

    def received(self) -> None:
        """All that came in one piece has been handed over."""

    def lost(self, reason: str) -> None:
        """The connection is gone."""


class Tap(asyncio.StreamReaderProtocol):
    """Splits the incoming bytes by channel and gathers what is written during one turn of the event loop."""

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop=loop)
        self.receivers: dict[int, Receiver] = {}
        self.ended = asyncio.Event()
        self.reason = "connection lost"
        self.told: str | None = None
        self.blocked = False
        self.full = False
        # Set once an answer was overdue: then closing wastes no time on asking politely.
        self.mute = False
        self._loop = loop
        self._reader = reader
        self._socket: asyncio.Transport | None = None
        self._rest = b""
        self._unsent: list[bytes] = []
        self._gathered = 0
        self._flushing = False
        self._next = FIRST_CHANNEL
        self._fed = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._socket = transport
        transport.set_write_buffer_limits(high=_MOST_UNSENT)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.abort(self.reason if exc is None else f"{self.reason}: {exc}")
        super().connection_lost(exc)

    def abort(self, reason: str) -> None:
        """Drop the socket at once, whatever is unsent."""
        if self.ended.is_set():
            return
        self.reason = reason
        self.ended.set()
        if self._socket is not None:
            self._socket.abort()
        self._unsent.clear()
        for receiver in list(self.receivers.values()):
            receiver.lost(reason)
        self.receivers.clear()

    def pause_writing(self) -> None:
        self.full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        self.full = False
        super().resume_writing()

    def add(self, receiver: Receiver) -> int:
        """Give a new channel its number."""
        while self._next in self.receivers:
            self._next += 1
        self.receivers[self._next] = receiver
        return self._next

    def remove(self, number: int) -> None:
        self.receivers.pop(number, None)
        self._next = FIRST_CHANNEL

    def write(self, data: bytes) -> None:
        """Send now; what follows in this turn of the loop leaves in one further piece at its end."""
        if self._flushing:
            self._unsent.append(data)
            self._gathered += len(data)
            if self._gathered > _MOST_GATHERED:
                self._send()
        elif self._socket is not None and not self.ended.is_set():
            self._flushing = True
            self._socket.write(data)
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self._send()

    def _send(self) -> None:
        if self._unsent and self._socket is not None:
            self._socket.write(b"".join(self._unsent))
            self._unsent.clear()
            self._gathered = 0

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        at, size, receivers = 0, len(data), self.receivers
        foreign: list[bytes] = []
        touched: set[Receiver] = set()
        while size - at >= 7:
            kind, channel, length = frames.prefix.unpack_from(data, at)
            if kind == 0x41:  # "AMQP…": not a frame but the broker's refusal of our version
                foreign.append(data[at:])
                at = size
                break
            end = at + 8 + length
            if end > size:
                break
            receiver = receivers.get(channel)
            if receiver is not None:
                receiver.receive(kind, data, at + 7, end - 1)
                touched.add(receiver)
            elif channel < FIRST_CHANNEL:
                self._look(channel, kind, data, at + 7)
                foreign.append(data[at:end])
            at = end
        self._rest = data[at:]
        for receiver in touched:
            receiver.received()
        self._feed(foreign)

    def _look(self, channel: int, kind: int, data: bytes, at: int) -> None:
        if channel or kind != frames.METHOD:
            return
        method = frames.method_id.unpack_from(data, at)[0]
        if method == frames.BLOCKED:
            self.blocked = True
        elif method == frames.UNBLOCKED:
            self.blocked = False
        elif method == frames.CONNECTION_CLOSE:
            self.reason = self.told = frames.reason(data, at)

    def _feed(self, foreign: list[bytes]) -> None:
        # A busy broker sends no heartbeats, and aio-pika takes a connection for dead on which it sees nothing.
        now = time.monotonic()
        if not foreign and now - self._fed > 1:
            foreign = [frames.ALIVE]
        if foreign:
            self._fed = now
            super().data_received(b"".join(foreign))


class Taps(TransportFactory):
    """Makes the one connection that it is asked for; `tap` is its socket afterwards."""

    def __init__(self) -> None:
        self.tap: Tap | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        provider = kwargs.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        host, port = url.host or "localhost", url.port or 5672
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        tap = Tap(reader, loop)
        try:
            transport, _ = await loop.create_connection(lambda: tap, host, port, ssl=context, **kwargs)
        except OSError as error:
            raise aiormq.exceptions.AMQPConnectionError(*error.args) from error
        self.tap = tap
        return reader, asyncio.StreamWriter(transport, tap, reader, loop)
