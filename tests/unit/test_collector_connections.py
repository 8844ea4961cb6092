"""How many may be connected to the collector at once, and for how long without asking."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from collector.door import Door
from tests.unit.collector_system import System

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[Connection]]:
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        yield connections
    finally:
        await hang_up(connections)


async def hang_up(connections: Sequence[Connection]) -> None:
    for _, writer in connections:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> None:
    """Return when the other side has ended a connection."""
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def status_line(connection: Connection, request: bytes = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") -> bytes:
    reader, writer = connection
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    return head.splitlines()[0]


@contextlib.asynccontextmanager
async def answering(door: Door) -> AsyncIterator[int]:
    """A door to something that follows at `/follow` until the event it is given, and else answers; its port."""
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        return web.Response()

    async def follow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"following\n")
        await over.wait()
        await response.write(b"over\n")
        return response

    app = web.Application()
    app.router.add_get("/healthz", answer)
    app.router.add_get("/follow", follow)
    app["over"] = over
    async with door.open_to(app):
        yield await door.listen("127.0.0.1", 0)
