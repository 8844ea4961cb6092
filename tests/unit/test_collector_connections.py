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


async def asked(connection: Connection, path: str = "/healthz") -> bytes:
    """Ask on a connection, and return the first line of the answer."""
    reader, writer = connection
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    return head.splitlines()[0]


@contextlib.asynccontextmanager
async def answering(door: Door, over: asyncio.Event) -> AsyncIterator[int]:
    """The port of something that answers at /healthz, and at /follow goes on with its answer until it is over."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response()

    async def follow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"following")
        await over.wait()
        await response.write(b"to the end")
        return response

    app = web.Application()
    app.router.add_get("/healthz", answer)
    app.router.add_get("/follow", follow)
    async with door.open_to(app):
        yield await door.listen("127.0.0.1", 0)


async def answered_again(system: System) -> bool:
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with system.http.get("/healthz") as answer:
                return answer.status == 200
        await asyncio.sleep(0.01)


async def test_who_asks_nothing_takes_the_places_of_a_few_only(tmp_path: Path) -> None:
    async with System(tmp_path).running() as system:
        async with connected(system.collector.port, 200) as idle:
            for reader, _ in idle[64:]:
                await ended(reader)
            assert await asked(idle[63]) == b"HTTP/1.1 421 Misdirected Request"
            with pytest.raises(aiohttp.ClientError):
                await system.get("/healthz")
        assert await asyncio.wait_for(answered_again(system), 5)
        own = (await system.get("/status"))["components"]["collector"]
        assert own["refused_connections"] >= 137


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
async def test_who_does_not_ask_in_time_is_cut_off(begun: bytes) -> None:
    async with answering(Door(idle=1.0), asyncio.Event()) as port, connected(port, 1) as [(reader, writer)]:
        writer.write(begun)
        await ended(reader)


async def test_who_has_asked_is_cut_off_as_well_once_nothing_more_comes() -> None:
    async with answering(Door(idle=1.0), asyncio.Event()) as port, connected(port, 1) as [connection]:
        assert await asked(connection) == b"HTTP/1.1 200 OK"
        await ended(connection[0])


async def test_who_follows_is_not_cut_off() -> None:
    over = asyncio.Event()
    async with answering(Door(idle=1.0), over) as port, connected(port, 1) as [follower]:
        assert await asked(follower, "/follow") == b"HTTP/1.1 200 OK"
        async with connected(port, 1) as [(reader, _)]:
            await ended(reader)  # it came later, so the time of the other is over too
        over.set()
        await asyncio.wait_for(follower[0].readuntil(b"to the end"), 5)


async def test_a_place_is_free_as_soon_as_somebody_was_cut_off() -> None:
    door = Door(most=1, idle=1.0)
    async with answering(door, asyncio.Event()) as port, connected(port, 2) as [(first, _), (second, _)]:
        await ended(second)
        assert door.refused == 1
        await ended(first)
        async with connected(port, 1) as [third]:
            assert await asked(third) == b"HTTP/1.1 200 OK"
