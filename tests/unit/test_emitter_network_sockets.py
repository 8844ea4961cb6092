"""What is read of the kernel's sockets: recorded ones, arbitrary bytes, sockets of our own, and whose those are."""

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, aclosing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.kernel.netlink import MalformedError, request
from emitters.measures.users import Users
from emitters.network import EMITTER, Network
from emitters.probing.names import answers
from emitters.probing.probe import Probe
from emitters.probing.web import unchunk
from emitters.sockets.connections import CONNECTION, Connections
from emitters.sockets.diag import CLOSE, INET, INET6, TCP, UDP, Socket, address, decode, traffic
from emitters.sockets.flows import Announced, Bound
from emitters.sockets.owners import Owners
from emitters.sockets.table import Known, Table
from exhaust.clock import VirtualClock
from exhaust.plugins import Lost, Record

WITHIN = 10.0
EXAMPLES = int(os.environ.get("EXHAUST_EXAMPLES", "300"))
OUR_NAME = Path("/proc/self/comm").read_text().strip()
HEAD = struct.Struct("=BBBB2s2s16s16sI8s5I")


def packed(state: int = 1, *, family: int = INET, remote_port: int = 443, queued: int = 0, more: bytes = b"") -> bytes:
    ends = bytes((127, 0, 0, 1)) + bytes(12), bytes((192, 0, 2, 1)) + bytes(12)
    ports = (8080).to_bytes(2, "big"), remote_port.to_bytes(2, "big")
    return HEAD.pack(family, state, 0, 0, *ports, *ends, 0, b"cookie12", 0, queued, 0, 1000, 77) + more


def info(acknowledged: int, received: int, sent: int, again: int = 0) -> bytes:
    """Write a tcp_info with a round-trip time of 1.5 ms and 3 retransmits, as an attribute."""
    text = bytearray(280)
    struct.pack_into("=I", text, 68, 1500)
    struct.pack_into("=I", text, 100, 3)
    struct.pack_into("=QQ", text, 120, acknowledged, received)
    struct.pack_into("=QQ", text, 200, sent, again)
    return struct.pack("=HH", 284, 2) + text


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_socket_is_read_as_the_kernel_packs_it() -> None:
    found = decode(packed(more=info(11, 20, 10)), TCP)
    assert (found.family, found.protocol, found.state, found.cookie) == (INET, TCP, 1, b"cookie12")
    assert (found.local_port, found.remote_port, found.uid, found.inode) == (8080, 443, 1000, 77)
    assert address(found.family, found.local) == ("127.0.0.1", "ipv4")
    assert address(found.family, found.remote) == ("192.0.2.1", "ipv4")
    assert found.connected
    assert not decode(packed(), TCP).connected  # what lingers has no tcp_info


@pytest.mark.parametrize(
    ("acknowledged", "received", "sent", "again", "state", "expected"),
    [
        (1001, 0, 1000, 0, 1, (1000, 0)),  # opened from here: the SYN
        (1002, 0, 1500, 500, CLOSE, (1000, 0)),  # SYN and FIN; some was sent twice
        (400, 7, 1000, 0, 1, (400, 7)),
        (0, 8, 0, 0, 8, (0, 7)),  # close_wait: the FIN has come
        (1, 8, 0, 0, CLOSE, (0, 8)),
    ],
)
def test_syn_and_fin_are_no_bytes(
    acknowledged: int, received: int, sent: int, again: int, state: int, expected: tuple[int, int]
) -> None:
    found = traffic(decode(packed(state, more=info(acknowledged, received, sent, again)), TCP))
    assert found is not None
    assert (found.sent, found.received, found.rtt_seconds, found.retransmits) == (*expected, 0.0015, 3)


def test_a_kernel_that_tells_less_is_believed_as_far_as_it_tells() -> None:
    old = struct.pack("=HH", 4 + 136, 2) + info(5, 6, 7)[4:140]
    found = traffic(decode(packed(more=old), TCP))
    assert found is not None
    assert (found.sent, found.received) == (None, 6)
    assert traffic(decode(packed(more=struct.pack("=HH", 104, 2) + bytes(100)), TCP)) is None


def test_an_ipv4_address_inside_ipv6_is_told_as_such() -> None:
    assert address(INET6, bytes(10) + b"\xff\xff" + bytes((10, 0, 0, 1))) == ("10.0.0.1", "ipv4")
    assert address(INET6, bytes(15) + b"\1") == ("::1", "ipv6")


@given(st.one_of(st.binary(max_size=600), st.binary(max_size=400).map(lambda more: packed(more=more))))
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_bytes_are_a_socket_or_refused(data: bytes) -> None:
    try:
        found = decode(data, TCP)
    except MalformedError:
        return
    assert isinstance(found, Socket)
    traffic(found)
    address(found.family, found.local)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda more: b"\0\7\x81\x80\0\1\0\3" + more)))
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_bytes_are_an_answer_of_dns_or_refused(data: bytes) -> None:
    try:
        code, records = answers(data, 7)
    except ValueError:
        return
    assert code < 16
    assert all(len(text) < 100_000 for _, text in records)


@given(st.binary(max_size=300), st.lists(st.binary(min_size=1, max_size=20), max_size=5))
@settings(max_examples=EXAMPLES, deadline=None)
def test_chunks_come_whole_wherever_they_are_cut(noise: bytes, chunks: list[bytes]) -> None:
    body, text = bytearray(), b"".join(b"%x;a=b\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    raw, done = bytearray(), False
    for byte in text:
        raw.append(byte)
        done = unchunk(raw, body)
    assert (bytes(body), done) == (b"".join(chunks), True)
    unchunk(bytearray(noise), bytearray())


async def test_sockets_of_our_own_are_found_with_their_owner(opened: ExitStack) -> None:
    ours = {}
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        listener = opened.enter_context(socket.socket(family))
        listener.bind((host, 0))
        listener.listen(7)
        client = opened.enter_context(socket.create_connection(listener.getsockname()[:2]))
        client.sendall(b"x" * 5)
        datagrams = opened.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        datagrams.bind((host, 0))
        for one, protocol, state in (
            (listener, "tcp", "listen"),
            (client, "tcp", "established"),
            (datagrams, "udp", "close"),
        ):
            ours[protocol, *one.getsockname()[:2]] = state, os.fstat(one.fileno()).st_ino
    table, users = Table((TCP, UDP), opened), Users()
    await table.look(1.0)
    records = Connections(5000, users).tell(table)
    found = {(one["protocol"], one["local_address"], one["local_port"]): one for one in records if one.get("inode")}
    for key, (state, inode) in ours.items():
        record = found[key]
        assert (record["state"], record["inode"], record["pid"]) == (state, inode, os.getpid())
        assert record["process"] == OUR_NAME
        assert record["uid"] == os.getuid()
        assert set(record) <= set(CONNECTION)
        assert "started" not in record  # it was there before we looked
        if state == "listen":
            assert (record["backlog"], record["backlog_limit"]) == (1, 7)
        if state == "established":
            assert (record["sent_bytes"], record["received_bytes"]) == (5, 0)
            assert record["rtt_seconds"] > 0


async def test_of_more_sockets_than_asked_for_the_busiest_are_told_and_the_others_counted(opened: ExitStack) -> None:
    listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
    clients = [opened.enter_context(socket.create_connection(listener.getsockname())) for _ in range(20)]
    table, connections = Table((TCP,), opened), Connections(10, Users())
    await table.look(1.0)
    connections.tell(table)
    for client in clients[5:8]:
        client.sendall(b"x" * 500_000)
    await table.look(2.0)
    told = connections.tell(table)
    assert len(told) == 10
    assert {one["left_out"] for one in told} == {len(table.known) - 10}
    assert {client.getsockname()[1] for client in clients[5:8]} <= {one["local_port"] for one in told}


async def test_what_is_gone_at_the_next_look_is_told_once(opened: ExitStack) -> None:
    listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
    table = Table((TCP,), opened)
    await table.look(1.0)
    client = socket.create_connection(listener.getsockname())
    accepted, port = listener.accept()[0], client.getsockname()[1]
    assert port not in {one.socket.local_port for one in await table.look(2.0)}
    client.close()  # once that is acknowledged, it waits for the other end without an owner and without figures
    over = await over_of(table, port)
    assert [(one.socket.local_port, one.since, one.owner and one.owner.pid) for one in over] == [
        (port, 2.0, os.getpid())
    ]
    accepted.close()
    assert [one.socket.remote_port for one in await over_of(table, port)] == [port]


async def over_of(table: Table, port: int) -> list[Known]:
    """Look until something is over that had to do with a port."""
    async with asyncio.timeout(WITHIN):
        while True:
            found = [one for one in await table.look(3.0) if port in (one.socket.local_port, one.socket.remote_port)]
            if found:
                return found
            await asyncio.sleep(0.01)


async def test_an_owner_is_looked_for_anew_once_it_has_passed_the_socket_on(opened: ExitStack) -> None:
    ours = opened.enter_context(socket.socket())
    inode, owners = os.fstat(ours.fileno()).st_ino, Owners(opened)
    first = (await owners.find([inode]))[inode]
    moved = os.dup(ours.fileno())
    opened.callback(os.close, moved)
    ours.close()
    second = (await owners.find([inode]))[inode]
    assert (first.pid, second.pid) == (os.getpid(), os.getpid())
    assert (first.fd == second.fd, second.fd) == (False, str(moved))
    assert await owners.find([1]) == {}


async def test_a_process_with_many_descriptors_lets_others_have_their_turn(opened: ExitStack, tmp_path: Path) -> None:
    links = tmp_path / "7" / "fd"
    links.mkdir(parents=True)
    (tmp_path / "7" / "comm").write_text("large\n")
    for number in range(10_000):
        (links / str(number)).symlink_to(f"socket:[{number + 1}]")
    turns, finding = 0, asyncio.create_task(Owners(opened, str(tmp_path)).find([10_000, 20_000]))
    while not finding.done():
        await asyncio.sleep(0)
        turns += 1
    assert {inode: (one.pid, one.name) for inode, one in finding.result().items()} == {10_000: (7, "large")}
    assert 5 <= turns < 20


def test_what_is_too_many_within_a_second_is_counted_and_told_once_that_is_over() -> None:
    clock = VirtualClock()
    bound = Bound(3, clock)
    assert [bound.allows() for _ in range(5)] == [True, True, True, False, False]
    assert bound.refused() == 0
    clock.advance(1)
    assert (bound.refused(), bound.refused(), bound.allows()) == (2, 0, True)


async def test_of_a_flood_of_announced_ends_2000_a_second_are_told_and_the_others_counted(opened: ExitStack) -> None:
    clock = VirtualClock()
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    opened.enter_context(kernel)
    announced = Announced(Table((TCP,), opened), Users(), clock, opened, lambda: ours)
    records = announced.records()
    for _ in range(3):
        kernel.send(b"".join(request(20, packed()) for _ in range(700)))
    kernel.send(request(20, packed())[:-1])
    found: list[Record | Lost] = []
    async with asyncio.timeout(WITHIN), aclosing(records):
        while not (found and isinstance(found[-1], Lost)):
            found.append(await anext(records))
    assert (len(found), found[-1]) == (2001, Lost("unusable", 1, "flow"))
    clock.advance(1)
    assert list(announced.left_out()) == [Lost("too_many", 100, "flow")]
    assert EMITTER.keeps == "logs"


def test_the_costly_stream_is_on_request() -> None:
    assert "connection" not in Network().streams
    assert set(EMITTER.streams) == {"connection", "flow", "probe"}
    assert set(EMITTER.sources()) == {
        "announced ends of connections",
        "looks at all connections",
        "owners of all connections",
    }
    with pytest.raises(ValueError, match="'probes' belongs to stream 'probe'"):
        Network(streams=("flow",), probes=(Probe(name="a", tcp="localhost:1"),))
