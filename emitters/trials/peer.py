"""Answers the network measurements of other hosts: takes what they send, or sends what they ask for, within bounds."""

import asyncio
import logging
from collections import deque
from types import TracebackType
from typing import Any, Self, cast

from exhaust.clock import Clock

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 20
_MOST_A_MINUTE = 60
_LONGEST = 10.0
_PIECE = 1 << 16


class Peer:
    """Listens while it is open. One measurement takes at most a MiB and ten seconds; there are at most 60 a minute.

    A connection is for one of them: `up N` and then N bytes, answered by `ok`; or `down N`, answered by N bytes.
    """

    def __init__(self, host: str, port: int, clock: Clock) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._times: deque[float] = deque()
        self._answering: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self.address: tuple[str, int] = (host, port)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, self._host, self._port, limit=_PIECE)
        self.address = self._server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()  # and nobody is waited for: a slow one could hold it up
        answering = dict(self._answering)
        for writer in answering.values():
            writer.transport.abort()
        if answering:
            await asyncio.wait(answering)
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._answering[task] = writer
        try:
            async with asyncio.timeout(_LONGEST):
                if self._has_room():
                    await self._measure(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as exc:
            log.debug("a measurement came to nothing", extra={"error": str(exc)})
        finally:
            writer.transport.abort()  # of who takes nothing, what is left is not kept for ever
            del self._answering[task]

    def _has_room(self) -> bool:
        now = self._clock.now()
        while self._times and not 0 <= now - self._times[0] < 60:
            self._times.popleft()
        if len(self._times) >= _MOST_A_MINUTE:
            return False
        self._times.append(now)
        return True

    async def _measure(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way, size = (await reader.readuntil(b"\n")).split()
        left = int(size)
        if not 0 < left <= MOST_BYTES:
            raise ValueError(f"{left} bytes are too many")
        if way == b"up":
            while left > 0 and (text := await reader.read(min(_PIECE, left))):
                left -= len(text)
            writer.write(b"ok\n" if left == 0 else b"")
        elif way == b"down":
            while left > 0:
                writer.write(bytes(min(_PIECE, left)))
                left -= _PIECE
                await writer.drain()
        await writer.drain()
