"""One connection to RabbitMQ, kept open: made anew with growing pauses whenever it is lost.

Made of plain aio-pika connections and a loop of our own. aio-pika's robust ones restore queues and consumers by
themselves, but not after a cancel by the server, not where an unreferenced object was collected, and their tasks have
kept programs from ending; here whatever is to be restored is done in one place, the same way as the first time.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import aio_pika
import aiormq.exceptions
from yarl import URL

from exhaust.broker.channels import ClosedError
from exhaust.broker.tap import Tap, Taps
from exhaust.errors import BrokerError

_CONNECT_WITHIN = 10.0
_RESTORE_WITHIN = 20.0
_CLOSE_WITHIN = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
FAILURES = (aiormq.exceptions.AMQPError, OSError, TimeoutError, ClosedError, BrokerError, RuntimeError)

log = logging.getLogger(__name__)
# They report every attempt at a broker that is away, several lines each; we say once what is wrong.
for _name in ("aiormq", "aio_pika"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Link:
    """Runs until closed; `restore` is called on each new connection before it counts as open."""

    def __init__(self, url: URL, name: str, heartbeat: int, restore: Callable[["Link"], Awaitable[None]]) -> None:
        self.url = url.update_query(heartbeat=str(heartbeat))
        self.name = name
        self.opened = asyncio.Event()
        self.failed: str | None = None
        self._restore = restore
        self._connection: aio_pika.Connection | None = None
        self._tap: Tap | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def connection(self) -> aio_pika.Connection:
        if self._connection is None:
            raise ClosedError("not connected")
        return self._connection

    @property
    def tap(self) -> Tap:
        if self._tap is None:
            raise ClosedError("not connected")
        return self._tap

    @property
    def blocked(self) -> bool:
        return self._tap is not None and self._tap.blocked

    @property
    def frame_max(self) -> int:
        transport = self.connection.transport
        return int(transport.connection.connection_tune.frame_max) if transport else 4096

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"link {self.name}")

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._open()
                failures, self.failed = 0, None
                self.opened.set()
                log.info("connected", extra={"link": self.name})
                await self.tap.ended.wait()
                self.failed = self.tap.reason
            except FAILURES as error:
                self.failed = explain(error, self.url, self._tap.told if self._tap is not None else None)
            finally:
                self.opened.clear()
                await self._drop()
            if not failures:
                log.warning("not connected", extra={"link": self.name, "reason": self.failed})
            failures += 1
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures - 1, 10))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _open(self) -> None:
        taps = Taps()
        self._connection = aio_pika.Connection(self.url, client_properties={"connection_name": self.name})
        self._connection.kwargs["transport_factory"] = taps
        try:
            async with asyncio.timeout(_CONNECT_WITHIN):
                await self._connection.connect()
        finally:
            self._tap = taps.tap
        async with asyncio.timeout(_RESTORE_WITHIN):
            await self._restore(self)

    async def _drop(self) -> None:
        """End the connection: asking only when we want it to end and somebody listens."""
        tap, self._tap = self._tap, None
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # In a task of its own, since aio-pika's close does not end when it is cancelled: only when its socket is gone.
        goodbye = asyncio.ensure_future(connection.close())
        if self._closing and tap is not None and not tap.mute:
            await asyncio.wait((goodbye,), timeout=_CLOSE_WITHIN)
        if tap is not None:
            tap.abort("connection closed")
        await asyncio.wait((goodbye,), timeout=_CLOSE_WITHIN)
        goodbye.cancel()
        await asyncio.gather(goodbye, return_exceptions=True)

    async def close(self) -> None:
        """Say goodbye if the broker listens; end in any case."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=3 * _CLOSE_WITHIN)


def explain(error: BaseException, url: URL, told: str | None = None) -> str:
    """Say in one line why the broker cannot be reached, with what it `told` us; never with the password."""
    where = f"RabbitMQ at {url.host}:{url.port or (5671 if url.scheme == 'amqps' else 5672)}"
    match error:
        case aiormq.exceptions.AuthenticationError() | aiormq.exceptions.ProbableAuthenticationError():
            return f"{where} refuses the user {url.user or 'guest'!r}: check the user and password of the broker's URL"
        case _ if told is not None:
            return f"{where} refuses the connection: {told}"
        case BrokerError():
            return f"{where}: {error}"
        case TimeoutError():
            return f"{where} does not answer in time"
        case aiormq.exceptions.AMQPConnectionError() | OSError():
            return f"{where} does not answer: {' '.join(str(part) for part in error.args)}"
    return f"{where}: {error}"
