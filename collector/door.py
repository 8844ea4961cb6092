"""Where the collector is asked: a listening socket that lets in so many at a time, and keeps none that is idle."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

from aiohttp import web

_MOST = 64
_IDLE = 10.0


class Door:
    """Listens once `open_to` has prepared it. Who comes when `most` are inside is turned away, and counted.

    A connection without a request under way is closed after `idle` seconds; a head that is not whole is none yet.
    """

    def __init__(self, *, most: int = _MOST, idle: float = _IDLE) -> None:
        self._most = most
        self._idle = idle
        self._server: web.Server | None = None
        self._listening: asyncio.Server | None = None
        self.refused = 0

    @contextlib.asynccontextmanager
    async def open_to(self, app: web.Application) -> AsyncIterator[None]:
        """Prepare to answer with `app`; at the end, stop listening and end every connection."""
        runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=1.0,
            # It runs from the start of a connection too, so that it also bounds how long the first head may take.
            keepalive_timeout=self._idle,
            lingering_time=2.0,
            auto_decompress=False,
        )
        await runner.setup()
        self._server = runner.server
        try:
            yield
        finally:
            if self._listening is not None:
                self._listening.close()
            await runner.cleanup()
            self._server = self._listening = None

    async def listen(self, host: str, port: int) -> int:
        """Listen from now on; return the port. Raise OSError where the address is not ours to take."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(lambda: _Threshold(self), host, port, reuse_address=True)
        bound: int = self._listening.sockets[0].getsockname()[1]
        return bound

    def admit(self) -> asyncio.Protocol | None:
        """Return who attends to a new connection; None where it is one too many."""
        if self._server is None or len(self._server.connections) >= self._most:
            self.refused += 1
            return None
        return self._server()


class _Threshold(asyncio.Protocol):
    """A connection until it is known whether it may come in.

    Only when it is made can that be told: the loop accepts many at once, before any of them counts.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        come = cast("asyncio.Transport", transport)  # of a socket: the interface knows pipes as well
        attending = self._door.admit()
        if attending is None:
            come.abort()
        else:
            come.set_protocol(attending)
            attending.connection_made(come)
