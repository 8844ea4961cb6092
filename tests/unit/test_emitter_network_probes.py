"""Probes on real servers of loopback: whatever they do, an attempt ends in time and says how."""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any, cast

import msgspec
import pytest

from emitters.network import EMITTER, Network
from emitters.probing.probe import Probe
from emitters.probing.probes import PROBE, attempt
from emitters.probing.resolving import Addresses, Resolver
from exhaust.clock import SystemClock
from exhaust.plugins import Record

WITHIN = 10.0
SOON = 0.2

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve on loopback; give `host:port`."""

    served = set[asyncio.Task[Any] | None]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await answer(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, host, 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*filter(None, served)), WITHIN)


async def say(text: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(text)
    await writer.drain()
    writer.write_eof()
    await reader.read()


async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def tried(**settings: Any) -> dict[str, Any]:
    probe = msgspec.convert({"name": "a", "timeout": WITHIN} | settings, Probe)
    found = await asyncio.wait_for(attempt(probe, Resolver()), 3 * WITHIN)
    assert set(found) <= set(PROBE)
    return found


async def http(text: bytes, **settings: Any) -> dict[str, Any]:
    async with serving(partial(say, text)) as there:
        return await tried(http=f"http://{there}/health?deep=1", **settings)


async def test_a_port_that_listens_is_ok() -> None:
    for host in ("127.0.0.1", "::1"):
        async with serving(say_nothing, host) as there:
            found = await tried(tcp=there, labels={"service": "shop"})
        assert found["outcome"] == "ok"
        assert found["latency_seconds"] >= found["connect_seconds"] > 0
        assert (found["kind"], found["target"], found["address"]) == ("tcp", there, host)
        assert found["labels"] == {"service": "shop"}


async def test_a_closed_port_refuses() -> None:
    for kind in ("tcp", "udp", "tls"):
        found = await tried(**{kind: f"127.0.0.1:{free_port()}"})
        assert (found["outcome"], found["reason"]) == ("refused", "Connection refused")


async def test_a_silent_server_is_a_timeout_and_what_was_found_before_is_told() -> None:
    async with serving(say_nothing) as there:
        for settings in ({"tcp": there, "expect": "220"}, {"tls": there}, {"http": f"http://{there}/"}):
            found = await tried(**settings, timeout=SOON)
            assert found["outcome"] == "timeout"
            assert found["connect_seconds"] < SOON <= found["latency_seconds"]


async def test_what_a_server_says_first_is_compared() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await writer.drain()
        writer.write_eof()

    async with serving(greet) as there:
        assert (await tried(tcp=there, expect="220"))["outcome"] == "ok"
        assert (await tried(tcp=there, expect="250"))["outcome"] == "body"


async def test_what_is_sent_is_answered() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(4)).upper())
        await reader.read()

    async with serving(echo) as there:
        assert (await tried(tcp=there, send="ping", expect="PING"))["outcome"] == "ok"


async def test_a_server_that_closes_at_once_has_closed() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await reader.read()

    async with serving(hang_up) as there:
        assert (await tried(tcp=there, expect="220"))["outcome"] == "closed"
        assert (await tried(http=f"http://{there}/"))["outcome"] == "closed"


async def test_a_server_that_resets_has_reset() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async with serving(reset) as there:
        assert (await tried(http=f"http://{there}/"))["outcome"] == "reset"


async def test_statuses_decide() -> None:
    found = await http(b"HTTP/1.1 500 Out of order\r\n\r\n")
    assert (found["outcome"], found["status"], found["reason"]) == ("status", 500, "500 Out of order")
    assert found["first_byte_seconds"] > 0
    assert (await http(b"HTTP/1.1 301\r\n\r\n"))["outcome"] == "ok"
    assert (await http(b"HTTP/1.1 301\r\n\r\n", expect=(200, 204)))["outcome"] == "status"
    assert (await http(b"HTTP/1.0 503 No\n\n", expect=(503,)))["outcome"] == "ok"
    assert (await http(b"HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 204 No\r\n\r\n"))["status"] == 204


@pytest.mark.parametrize(
    "body",
    [
        b"HTTP/1.1 200 OK\r\n\r\nall is well",
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is well",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6;x=y\r\nall is\r\n5\r\n well\r\n0\r\n\r\n",
    ],
)
async def test_text_is_found_in_a_body(body: bytes) -> None:
    assert (await http(body, expect="is well"))["outcome"] == "ok"
    assert (await http(body, expect="ill"))["outcome"] == "body"


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"x" * 100_000),
        (b"Content-Length: 999999999999999\r\n", b"x" * 100_000),
        (b"Transfer-Encoding: chunked\r\n", b"1\r\n.\r\n" * 10_000),
        (b"Transfer-Encoding: chunked\r\n", b"ffffffff\r\n" + b"x" * 100_000),
        (b"Transfer-Encoding: chunked\r\n", b"no chunk" * 10_000),
    ],
)
async def test_a_body_that_never_ends_is_read_up_to_a_bound(head: bytes, piece: bytes) -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        while True:
            writer.write(piece)
            await writer.drain()

    async with serving(pour) as there:
        assert (await tried(http=f"http://{there}/", expect="never"))["outcome"] == "body"


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-x\r\n", b"HTTP/1.1 2\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 200 OK\r\nA"]
)
async def test_what_is_not_http_is_told_as_such(said: bytes) -> None:
    assert (await http(said))["outcome"] == "protocol"


@asynccontextmanager
async def datagrams(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[str]:
    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)

        def datagram_received(self, data: bytes, addr: Any) -> None:
            if (said := answer(data)) is not None:
                self.transport.sendto(said, addr)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Server, ("127.0.0.1", 0))
    try:
        yield "127.0.0.1:{1}".format(*transport.get_extra_info("sockname"))
    finally:
        transport.close()


async def test_a_datagram_is_answered_or_not() -> None:
    async with datagrams(bytes.upper) as there:
        assert (await tried(udp=there, send="ping", expect="PING"))["outcome"] == "ok"
        assert (await tried(udp=there, send="ping", expect="ping"))["outcome"] == "body"
    async with datagrams(lambda data: None) as there:
        assert (await tried(udp=there, timeout=SOON))["outcome"] == "timeout"


def reply(question: bytes, records: bytes = b"", count: int = 0, code: int = 0) -> bytes:
    return question[:2] + bytes((0x81, 0x80 | code)) + b"\0\1" + bytes((0, count)) + bytes(4) + question[12:] + records


def record(kind: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1" + bytes(4) + len(data).to_bytes(2, "big") + data


async def test_names_are_asked_of_the_server_that_is_named() -> None:
    addresses = record(5, b"\3www\xc0\x0c") + record(1, bytes((192, 0, 2, 1))) + record(1, bytes((192, 0, 2, 2)))
    async with datagrams(lambda data: reply(data, addresses, 3)) as there:
        found = await tried(dns=f"shop.test@{there}")
        assert (found["outcome"], found["answers"]) == ("ok", ["192.0.2.1", "192.0.2.2"])
        assert (await tried(dns=f"shop.test@{there}", query="CNAME"))["answers"] == ["www.shop.test"]
        assert (await tried(dns=f"shop.test@{there}", expect="192.0.2.2"))["outcome"] == "ok"
        assert (await tried(dns=f"shop.test@{there}", expect="192.0.2.3"))["outcome"] == "body"
        assert (await tried(dns=f"shop.test@{there}", query="AAAA"))["reason"] == "no record of type AAAA"


async def test_other_records_are_text_too() -> None:
    for query, data, text in (
        ("AAAA", bytes(15) + b"\1", "::1"),
        ("MX", b"\0\x0a\4mail\xc0\x0c", "10 mail.shop.test"),
        ("TXT", b"\3v=1\2 a", "v=1 a"),
        ("NS", b"\0", "."),
    ):
        kind = {"AAAA": 28, "MX": 15, "TXT": 16, "NS": 2}[query]
        async with datagrams(lambda asked, kind=kind, data=data: reply(asked, record(kind, data), 1)) as there:  # type: ignore[misc]
            assert (await tried(dns=f"shop.test@{there}", query=query))["answers"] == [text]


async def test_a_server_that_says_no_or_talks_nonsense_is_told() -> None:
    async with datagrams(lambda data: reply(data, code=3)) as there:
        found = await tried(dns=f"shop.test@{there}")
    assert (found["outcome"], found["reason"]) == ("dns", "NXDOMAIN")
    for answer in (b"x", b"\0" * 12, bytes(11)):
        async with datagrams(lambda data, answer=answer: answer) as there:  # type: ignore[misc]
            assert (await tried(dns=f"shop.test@{there}"))["outcome"] == "protocol"
    for name in (b"\xc0\xff", b"\xc0\x1b", b"\x40", b"\1a" * 200):
        async with datagrams(lambda data, name=name: reply(data, name, 1)) as there:  # type: ignore[misc]
            assert (await tried(dns=f"shop.test@{there}"))["outcome"] == "protocol"


async def test_a_lookup_that_hangs_holds_up_its_probe_no_longer_than_its_time_out() -> None:
    hanging, asked = threading.Event(), list[str]()

    def look(host: str) -> Addresses:
        asked.append(host)
        hanging.wait()
        return [(socket.AF_INET, "127.0.0.1")]

    resolver, probe = Resolver(look, most=1), Probe(name="a", tcp="shop.test:1", timeout=SOON)
    try:
        for _ in range(3):
            assert (await attempt(probe, resolver))["outcome"] == "timeout"
        assert asked == ["shop.test"]  # nobody asks again while it hangs, and not too many hang
        found = await attempt(Probe(name="b", tcp="other.test:1", timeout=SOON), resolver)
        assert (found["outcome"], found["reason"]) == ("dns", "1 other lookups hang")
    finally:
        hanging.set()


async def test_a_name_that_nobody_knows_is_told() -> None:
    def look(host: str) -> Addresses:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    found = await attempt(Probe(name="a", tcp="shop.test:1"), Resolver(look))
    assert (found["outcome"], found["reason"]) == ("dns", "Name or service not known")


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    async with serving(say_nothing) as there:
        resolver = Resolver(lambda host: [(socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")])
        found = await attempt(Probe(name="a", tcp=there.replace("127.0.0.1", "shop.test")), resolver)
    assert (found["outcome"], found["address"]) == ("ok", "127.0.0.1")
    assert "resolve_seconds" in found


async def test_a_target_is_never_tried_twice_at_once() -> None:
    now, most = 0, 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async with serving(count) as there:
        probes = tuple(Probe(name=f"p{n}", http=f"http://{there}/", every=0.1) for n in range(5))
        names = set[str]()
        records = EMITTER.emit(Network(streams=("probe",), probes=probes), SystemClock(), {})
        async with asyncio.timeout(WITHIN), aclosing(cast("AsyncGenerator[Record]", records)):
            async for one in records:
                assert isinstance(one, Record)
                assert one.fields["outcome"] == "ok"
                names.add(one.fields["name"])
                if len(names) == len(probes):
                    break
    assert most == 1


async def test_targets_that_do_not_answer_hold_up_no_other_probe() -> None:
    number, under_way, all_at_once = 40, 0, asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal under_way
        under_way += 1
        if under_way == number:
            all_at_once.set()
        await reader.read()

    async with serving(hang) as there:
        probes = tuple(
            Probe(name=f"p{n}", http=f"http://{there}/{n}", every=120.0, timeout=60.0) for n in range(number)
        )
        records = EMITTER.emit(Network(streams=("probe",), probes=probes), SystemClock(), {})
        first = asyncio.ensure_future(anext(records))
        async with asyncio.timeout(2 * WITHIN), aclosing(cast("AsyncGenerator[Record]", records)):
            await all_at_once.wait()
            first.cancel()
            await asyncio.wait([first])
