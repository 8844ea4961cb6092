"""The proxy that does to connections what networks do, between a client and an echo."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest

from tests.soak.proxy import Proxy

WITHIN = 5.0
NOT_FOR = 0.2


class Echo(asyncio.Protocol):
    """Says what it hears."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def say(self, text: bytes) -> None:
        self._writer.write(text)

    async def hears(self, text: bytes) -> bool:
        """Say something, and tell whether it comes back."""
        self.say(text)
        async with asyncio.timeout(WITHIN):
            return await self._reader.readexactly(len(text)) == text

    async def hears_nothing(self) -> bool:
        self.say(b"is anybody there?")
        try:
            async with asyncio.timeout(NOT_FOR):
                await self._reader.read(1)
        except TimeoutError:
            return True
        return False

    async def is_reset(self) -> bool:
        async with asyncio.timeout(WITHIN):
            try:
                while await self._reader.read(1 << 16):
                    pass
            except ConnectionResetError:
                return True
            return False

    def close(self) -> None:
        self._writer.transport.abort()


class Place:
    """A proxy before an echo, and connections that are closed in the end."""

    def __init__(self, proxy: Proxy, opened: contextlib.AsyncExitStack) -> None:
        self.proxy, self._opened = proxy, opened

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.proxy.port))
        self._opened.callback(client.close)
        return client

    async def connected(self) -> Client:
        """Return one that was carried already."""
        client = await self.connect()
        assert await client.hears(b"hello")
        return client


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    async with server, contextlib.AsyncExitStack() as opened:
        target = server.sockets[0].getsockname()[1]
        yield Place(await opened.enter_async_context(Proxy(target, random.Random(1))), opened)


async def test_left_alone_it_carries_everything(place: Place) -> None:
    assert await (await place.connect()).hears(random.Random(1).randbytes(300_000))


async def test_a_cut_resets_what_is_open_and_refuses_what_comes_until_healed(place: Place) -> None:
    client = await place.connected()
    await place.proxy.cut()
    assert await client.is_reset()
    with pytest.raises(ConnectionRefusedError):
        await place.connect()
    await place.proxy.heal()
    assert await place.connected()


async def test_half_open_connections_are_accepted_and_hear_nothing(place: Place) -> None:
    before = await place.connected()
    place.proxy.swallow()
    during = await place.connect()
    assert await before.hears_nothing()
    assert await during.hears_nothing()
    await place.proxy.heal()
    assert await before.is_reset()
    assert await during.is_reset()
    assert await place.connected()


async def test_half_open_connections_may_be_forgotten_for_ever(place: Place) -> None:
    before = await place.connected()
    place.proxy.swallow()
    await place.proxy.heal(forget=True)
    assert await before.hears_nothing()
    assert await place.connected()


async def test_slowed_it_takes_its_time_and_loses_nothing(place: Place) -> None:
    client, loop = await place.connected(), asyncio.get_running_loop()
    place.proxy.slow((0.1, 0.2), 7)
    began = loop.time()
    assert await client.hears(random.Random(1).randbytes(5_000))
    assert loop.time() - began >= 0.2, "once on the way there, once on the way back"


async def test_broken_off_a_connection_ends_in_the_middle_of_what_passes(place: Place) -> None:
    client = await place.connected()
    breaking = asyncio.create_task(place.proxy.break_off())
    await asyncio.sleep(0)
    client.say(bytes(1000))
    assert await client.is_reset()
    await breaking
    assert await place.connected()


async def test_broken_off_a_quiet_connection_ends_as_well(place: Place) -> None:
    client = await place.connected()
    await place.proxy.break_off()
    assert await client.is_reset()
    assert place.proxy.connections == 0


async def test_where_the_target_is_away_a_connection_ends(place: Place) -> None:
    place.proxy.target = 1
    assert await (await place.connect()).is_reset()
