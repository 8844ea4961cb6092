"""Connections that end, told to the byte."""

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from exhaust.plugins import Record
from tests.system.network_host import BYTES, FAMILIES, announced, connected, observing


def read_all(one: socket.socket) -> int:
    return sum(len(piece) for piece in iter(lambda: one.recv(1 << 16), b""))


def ends_first(sender: socket.socket, receiver: socket.socket) -> None:
    """The sender closes at once; the other reads to the end."""
    sender.sendall(bytes(BYTES))
    sender.close()
    assert read_all(receiver) == BYTES
    receiver.close()


def is_left(sender: socket.socket, receiver: socket.socket) -> None:
    """The receiver has what it wants and closes; the sender only then."""
    sender.sendall(bytes(BYTES))
    receiver.recv(BYTES, socket.MSG_WAITALL)
    receiver.close()
    sender.recv(1)
    sender.close()


def half_closes(sender: socket.socket, receiver: socket.socket) -> None:
    """The sender says that this was all, and waits for the other's end."""
    sender.sendall(bytes(BYTES))
    sender.shutdown(socket.SHUT_WR)
    assert read_all(receiver) == BYTES
    receiver.close()
    assert read_all(sender) == 0
    sender.close()


Course = Callable[[socket.socket, socket.socket], None]


@announced
@pytest.mark.parametrize("course", [ends_first, is_left, half_closes])
@pytest.mark.parametrize(("family", "host"), FAMILIES)
async def test_what_was_sent_is_told_to_the_byte_at_both_ends_and_both_ways(
    family: int, host: str, course: Course
) -> None:
    async with observing("flow", every=60.0) as observed:
        for turned in (False, True):
            client, server = connected(family, host)
            ports = client.getsockname()[1], server.getsockname()[1]
            sender, receiver = (server, client) if turned else (client, server)
            out, back = ports[::-1] if turned else ports, ports if turned else ports[::-1]
            with sender, receiver:
                thread = threading.Thread(target=course, args=(sender, receiver))
                await asyncio.to_thread(_run, thread)
            sent, received = await observed.end(*out), await observed.end(*back)
            assert (sent["sent_bytes"], sent["received_bytes"]) == (BYTES, 0)
            assert (received["sent_bytes"], received["received_bytes"]) == (0, BYTES)
            for one in (sent, received):
                assert one["family"] == ("ipv6" if host == "::1" else "ipv4")
                assert one["local_address"] == one["remote_address"] == host.removeprefix("::ffff:")
                assert one["evidence"] == "destroy"
            assert sent["rtt_seconds"] > 0
    assert observed.lost == []


def _run(thread: threading.Thread) -> None:
    thread.start()
    thread.join()


@announced
async def test_both_ends_send_and_half_close() -> None:
    async with observing("flow", every=60.0) as observed:
        client, server = connected(*FAMILIES[0])
        ports = client.getsockname()[1], server.getsockname()[1]

        def echo() -> None:
            with server:
                server.sendall(bytes(read_all(server) + 1))

        with client:
            thread = threading.Thread(target=echo)
            thread.start()
            client.sendall(bytes(BYTES))
            client.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(read_all, client) == BYTES + 1
            thread.join()
        here, there = await observed.end(*ports), await observed.end(*ports[::-1])
    assert (here["sent_bytes"], here["received_bytes"]) == (BYTES, BYTES + 1)
    assert (there["sent_bytes"], there["received_bytes"]) == (BYTES + 1, BYTES)


@announced
async def test_the_end_of_one_side_is_told_while_the_other_stays() -> None:
    async with observing("flow", every=60.0) as observed:
        client, server = connected(*FAMILIES[0])
        ports = client.getsockname()[1], server.getsockname()[1]
        with client:
            client.sendall(bytes(BYTES))
            assert len(await asyncio.to_thread(server.recv, BYTES, socket.MSG_WAITALL)) == BYTES
            server.close()
            assert (await observed.end(*ports[::-1]))["received_bytes"] == BYTES
        assert (await observed.end(*ports))["sent_bytes"] == BYTES


@announced
async def test_whose_a_connection_was_and_since_when_is_known_from_looks() -> None:
    async with observing("connection", "flow") as observed:
        await observed.until(lambda: observed.records)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            server = listener.accept()[0]
            ports = client.getsockname()[1], server.getsockname()[1]
            seen = await observed.until(lambda: observed.of(*ports, "connection"))
            await observed.until(lambda: observed.of(*ports[::-1], "connection"))
            client.close()
            server.close()
            ended = await observed.end(*ports)
            other = await observed.end(*ports[::-1])
    assert (ended["pid"], ended["process"]) == (os.getpid(), seen["process"])
    assert ended["uid"] == os.getuid()
    assert seen["started"] == ended["started"] <= ended["ended"]
    assert other["listener"] == seen["process"]
    assert "listener" not in ended


@announced
async def test_what_this_host_aborts_is_told_as_far_as_it_is_known() -> None:
    async with observing("connection", "flow") as observed:
        with ExitStack() as opened:
            client, server = map(opened.enter_context, connected(*FAMILIES[0]))
            client.sendall(b"x" * 10)
            server.recv(10)
            ports = client.getsockname()[1], server.getsockname()[1]
            await observed.until(lambda: observed.of(*ports, "connection"))
            for one, other in ((client, server), connected(*FAMILIES[0])):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                last = one.getsockname()[1]
                one.close()
                other.close()
            seen = await observed.end(*ports)
            unseen = await observed.until(lambda: next((r.fields for r in observed.records if _is(r, last)), None))
    assert (seen["sent_bytes"], seen["evidence"], seen["pid"]) == (10, "dump", os.getpid())
    assert (unseen["remote_address"], unseen["evidence"]) == ("127.0.0.1", "destroy")
    assert not {"remote_port", "local_address", "sent_bytes"} & set(unseen)


@announced
async def test_what_the_other_end_aborts_is_told_to_the_byte() -> None:
    async with observing("flow", every=60.0) as observed:
        client, server = connected(*FAMILIES[0])
        ports = client.getsockname()[1], server.getsockname()[1]
        client.sendall(bytes(BYTES))
        assert len(await asyncio.to_thread(server.recv, BYTES, socket.MSG_WAITALL)) == BYTES
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        server.close()
        assert (await observed.end(*ports[::-1]))["received_bytes"] == BYTES


def _is(record: Record, port: int) -> bool:
    return record.stream == "flow" and record.fields["local_port"] == port
