"""The places of syslog's connections: who is silent gives way, nobody has all, and who is not heard may stay."""

import asyncio
import logging
import socket
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from emitters.listening.connections import TcpConnections
from emitters.listening.intake import Arrival, Intake
from exhaust.clock import VirtualClock
from tests.unit.syslog_hearing import PATIENCE, free_port, hearing, short_folder

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ended(streams: Streams) -> bool:
    async with asyncio.timeout(PATIENCE):
        with suppress(ConnectionResetError):
            return await streams[0].read() == b""
        return True


async def gone(streams: Streams) -> None:
    streams[1].transport.abort()
    with suppress(ConnectionError):
        await streams[1].wait_closed()


class Senders:
    """Connections of a test to a listener, from whichever address of loopback."""

    def __init__(self, clock: VirtualClock, port: int, opened: AsyncExitStack) -> None:
        self._clock = clock
        self._port = port
        self._opened = opened

    async def one(self, host: str = "127.0.0.1") -> Streams:
        streams = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(host, 0))
        self._opened.push_async_callback(gone, streams)
        await asyncio.sleep(0.01)  # so that none is silent for as long as another
        return streams

    async def check(self) -> None:
        """Let all be silent for longer than is allowed, and the listener look."""
        await asyncio.sleep(0.05)
        self._clock.advance(10)
        await asyncio.sleep(0.05)


async def listening(opened: AsyncExitStack, intake: Intake, most: int, idle: float = 3600.0) -> Senders:
    port = free_port(socket.SOCK_STREAM)
    clock = VirtualClock()
    listener = TcpConnections(f"127.0.0.1:{port}", intake, clock, most=most, idle=idle)
    await listener.open()
    opened.push_async_callback(listener.close)
    opened.callback(asyncio.create_task(listener.serve()).cancel)
    return Senders(clock, port, opened)


async def answered(intake: Intake, streams: Streams, text: bytes) -> bool:
    """Say something; return whether it was heard."""
    streams[1].write(b"<13>%b\n" % text)
    async with asyncio.timeout(PATIENCE):
        await intake.some()
    item = intake.take()
    intake.take()  # there is no more: then it waits for the next
    return isinstance(item, Arrival) and text in item.data


async def test_one_address_has_a_quarter_of_the_places_and_others_are_heard_still() -> None:
    async with AsyncExitStack() as opened:
        senders = await listening(opened, intake := Intake(), 8)
        other = await senders.one("127.0.0.2")
        flood = [await senders.one() for _ in range(20)]
        assert all([await ended(one) for one in flood[:-2]])
        for one in (other, *flood[-2:]):
            assert await answered(intake, one, b"here")


async def test_when_all_places_are_taken_the_one_that_was_silent_for_longest_gives_way() -> None:
    async with AsyncExitStack() as opened:
        senders = await listening(opened, intake := Intake(), 4)
        first, second, *others = [await senders.one(f"127.0.0.{number}") for number in range(1, 5)]
        assert await answered(intake, first, b"not silent")
        fifth = await senders.one("127.0.0.5")
        assert await ended(second)
        for one in (first, *others, fifth):
            assert await answered(intake, one, b"here")


async def test_while_we_do_not_listen_nobody_is_idle_and_who_comes_too_many_is_refused() -> None:
    async with AsyncExitStack() as opened:
        senders = await listening(opened, intake := Intake(most=2000), 4, idle=0.01)
        first = await senders.one()
        assert await answered(intake, first, b"here")
        intake.put(Arrival(b"x" * 2000, False, 0.0, {}))
        await senders.check()
        assert await ended(await senders.one())
        assert isinstance(intake.take(), Arrival)
        assert intake.take() is None
        assert await answered(intake, first, b"still here")
        await senders.check()
        assert await ended(first)


async def test_who_was_put_out_is_counted_in_the_log_and_what_it_had_begun_to_say_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "emitters.listening.connections")
    port = free_port(socket.SOCK_STREAM)
    async with hearing(tcp=f"127.0.0.1:{port}", connections=8, idle=1.0) as heard:
        streams = await asyncio.open_connection("127.0.0.1", port)
        streams[1].write(b"<13>half")
        assert await ended(streams)
        (found,) = await heard.fields()
        assert found["message"] == "half"
        await gone(streams)
    assert [vars(one)["number"] for one in caplog.records] == [1]


async def test_of_a_unix_socket_it_is_the_user_who_has_a_quarter() -> None:
    with short_folder() as folder:
        path = str(Path(folder) / "log")
        async with hearing(unix_stream=path, connections=4) as heard:
            first = await asyncio.open_unix_connection(path)
            first[1].write(b"<13>first\n")
            await heard.fields()
            second = await asyncio.open_unix_connection(path)
            assert await ended(first)
            for one in (first, second):
                await gone(one)
