"""The kernel's announcements: netlink's framing, and what is in it, whatever the bytes are."""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.kernel import audit, connector, taskstats
from emitters.kernel.channel import Channel
from emitters.kernel.connector import EXEC, EXIT, Event
from emitters.kernel.netlink import ERROR, MalformedError, Message, attribute, attributes, messages, refused, request

EXAMPLES = int(os.environ.get("EXHAUST_EXAMPLES", "300"))
FAMILY = 30
mixed = st.lists(st.sampled_from([b"\0", b"\x10", b"\x14", b"\xff", b"audit(1.2:3): a0=", b'"', b"A"]) | st.binary())


def exec_of(pid: int, thread: int | None = None) -> bytes:
    event = struct.pack("=IIQII", EXEC, 0, 5_000_000_000, thread or pid, pid)
    return request(3, struct.pack("=IIIIHH", 1, 1, 0, 0, len(event), 0) + event)


def exit_of(pid: int, status: int) -> bytes:
    event = struct.pack("=IIQIIII", EXIT, 0, 6_500_000_000, pid, pid, status, 17)
    return request(3, struct.pack("=IIIIHH", 1, 1, 0, 0, len(event), 0) + event)


def thread_of(process: int, thread: int, **fields: Any) -> bytes:
    """A thread's end as Linux 6 tells it: version 14, 344 bytes and what came later."""
    stats = bytearray(440)
    struct.pack_into("=HxxIBb", stats, 0, 14, fields.get("exited", 0), fields.get("flags", 0), fields.get("nice", 0))
    struct.pack_into("=32s", stats, 80, fields.get("command", b"sh"))
    struct.pack_into("=5I", stats, 120, 1000, 100, thread, 7, 1_700_000_000)
    struct.pack_into("=5Q", stats, 144, 250_000, 1_500, 2_500, 3, 4)
    struct.pack_into("=4Q", stats, 184, 0, 0, 2048, 4096)
    struct.pack_into("=9Q", stats, 216, 1024, 2048, 0, 0, 4096, 8192, 0, 5, 6)
    struct.pack_into("=IxxxxQ", stats, 368, process, 750_000)
    both = attribute(1, struct.pack("=I", thread)) + attribute(3, bytes(stats))
    return request(FAMILY, struct.pack("=BBH", 2, 1, 0) + attribute(4, both))


def test_messages_and_attributes_are_taken_apart() -> None:
    datagram = request(5, b"abc", seq=9) + b"\0" + request(6, b"")
    assert list(messages(datagram)) == [Message(5, 1, 9, 0, b"abc"), Message(6, 1, 1, 0, b"")]
    assert attributes(attribute(1, b"x") + attribute(2 | 0x8000, b"yz")) == {1: b"x", 2: b"yz"}


@pytest.mark.parametrize("datagram", [b"\x10", request(5, b"abc")[:-2], struct.pack("=IHHII", 4, 1, 0, 0, 0)])
def test_a_message_that_ends_beyond_its_datagram_is_malformed(datagram: bytes) -> None:
    with pytest.raises(MalformedError):
        list(messages(datagram))


def test_the_kernels_refusal_is_an_error_with_its_reason() -> None:
    refused(struct.pack("=i", 0))
    with pytest.raises(PermissionError):
        refused(struct.pack("=i", -1))
    assert ERROR == 2


def test_the_process_connector_tells_of_processes_and_not_of_their_threads() -> None:
    datagram = exec_of(7) + exec_of(8, thread=9) + exit_of(7, 0x300)
    assert list(connector.events(datagram)) == [Event(EXEC, 7, 5.0), Event(EXIT, 7, 6.5, 0x300)]


def test_a_threads_statistics_are_in_seconds_and_bytes() -> None:
    (found,) = taskstats.ended(thread_of(40, 41, nice=-5, flags=0x20, command=b"a b\0x"), FAMILY)
    assert (found.process, found.thread, found.last, found.nice) == (40, 41, True, -5)
    assert (found.command, found.uid, found.gid, found.ppid) == (b"a b", 1000, 100, 7)
    assert (found.elapsed, found.user, found.system) == (0.75, 0.0015, 0.0025)
    assert (found.resident_peak, found.read_bytes, found.write_bytes) == (2 << 20, 4096, 8192)
    assert (found.voluntary, found.involuntary) == (5, 6)


def test_statistics_of_older_kernels_are_read_and_of_the_one_unlike_others_not() -> None:
    whole = thread_of(40, 41)
    old = attribute(1, b"") + attribute(3, attributes(attributes(whole[20:])[4])[3][:328])
    (found,) = taskstats.ended(request(FAMILY, b"\2\1\0\0" + attribute(4, old)), FAMILY)
    assert (found.process, found.thread, found.last, found.elapsed) == (41, 41, True, 0.25)
    unlike = whole.replace(struct.pack("=HxxI", 14, 0), struct.pack("=HxxI", 15, 0), 1)
    with pytest.raises(MalformedError):
        list(taskstats.ended(unlike, FAMILY))


def test_a_record_of_the_audit_has_its_event_and_fields() -> None:
    text = b'audit(1700000000.123:42): argc=3 a0="ls" a1=2D6C a2="a=b c" key=(null)'
    found = audit.line(struct.pack("=IHHII", 0, audit.EXECVE, 0, 0, 0) + text)
    assert (found.kind, found.time, found.serial) == (audit.EXECVE, 1700000000.123, 42)
    values = {name: audit.plain(value) for name, value in audit.fields(found.text)}
    assert values == {b"argc": b"3", b"a0": b"ls", b"a1": b"-l", b"a2": b"a=b c", b"key": b""}


def _refusals(data: bytes) -> Iterable[object]:
    refused(data)
    return ()


READERS: list[Callable[[bytes], Iterable[object]]] = [
    messages,
    lambda data: attributes(data).values(),
    connector.events,
    lambda data: taskstats.ended(data, FAMILY),
    lambda data: audit.fields(audit.line(data).text),
    lambda data: [(name, audit.plain(value)) for name, value in audit.fields(data)],
    _refusals,
]


@pytest.mark.parametrize("read", READERS)
def test_whatever_the_bytes_are_a_reader_raises_nothing_but_what_it_says(
    read: Callable[[bytes], Iterable[object]],
) -> None:
    heads = [b"", exec_of(7), exit_of(7, 0), thread_of(40, 41), b"\0" * 16 + b"audit(1.2:3): "]

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(st.sampled_from(heads), st.integers(0, 600), mixed.map(b"".join), st.integers(0, 600))
    def check(head: bytes, at: int, middle: bytes, rest: int) -> None:
        try:
            for _ in read(head[:at] + middle + head[rest:]):
                pass
        except MalformedError:
            pass
        except OSError:
            assert read is READERS[-1]

    check()


async def test_a_channel_takes_in_what_comes_and_leaves_the_rest_in_the_kernel() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    arrived = asyncio.Event()
    channel = Channel(ours, arrived.set)
    theirs.setblocking(False)
    sent = 0
    with theirs:
        with suppress(TimeoutError):  # it is full by then
            while sent < 200:  # of 60,000 bytes: three times what a channel holds
                try:
                    theirs.send(b"%06d" % sent * 10_000)
                    sent += 1
                except BlockingIOError:
                    arrived.clear()
                    await asyncio.wait_for(arrived.wait(), 0.5)
        assert 60 < sent < 200
        taken = channel.take()
        arrived.clear()
        await asyncio.wait_for(arrived.wait(), 5)
        taken += channel.take()
    assert [int(one[:6]) for one in taken] == list(range(sent))
    assert channel.lost() == 0
    channel.close()
