"""Netlink's framing (see netlink(7)): messages in a datagram, attributes in a message, a question and its answers."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from exhaust.errors import ExhaustError

REQUEST, MULTI, ACK, DUMP = 0x1, 0x2, 0x4, 0x300
ERROR, DONE = 2, 3

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_CODE = struct.Struct("=i")
_KIND_OF_ATTRIBUTE = 0x3FFF  # above it are flags
_MOST_BYTES = 1 << 16
PATIENCE = 0.1
"""Seconds that an answer is waited for: mostly it is there once the question is sent, or never comes."""


class MalformedError(ExhaustError):
    """What came is not what the kernel's headers describe."""


class Message(NamedTuple):
    """One message of a datagram."""

    kind: int
    flags: int
    seq: int
    port: int
    body: bytes


def messages(datagram: bytes) -> Iterator[Message]:
    """Read the messages of a datagram. Raises MalformedError where one ends beyond it."""
    at, size = 0, len(datagram)
    while at < size:
        if size - at < _HEADER.size:
            raise MalformedError(f"a netlink message has {size - at} bytes, its header alone would be {_HEADER.size}")
        length, kind, flags, seq, port = _HEADER.unpack_from(datagram, at)
        if not _HEADER.size <= length <= size - at:
            raise MalformedError(f"a netlink message says that it has {length} bytes, {size - at} are there")
        yield Message(kind, flags, seq, port, datagram[at + _HEADER.size : at + length])
        at += _aligned(length)


def attributes(body: bytes) -> dict[int, bytes]:
    """Read attributes, the last of each kind. Raises MalformedError where one ends beyond the body."""
    found, at, size = {}, 0, len(body)
    while size - at >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if not _ATTRIBUTE.size <= length <= size - at:
            raise MalformedError(f"a netlink attribute says that it has {length} bytes, {size - at} are there")
        found[kind & _KIND_OF_ATTRIBUTE] = body[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def request(kind: int, body: bytes, flags: int = REQUEST, seq: int = 1) -> bytes:
    """Write a message."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, seq, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Write an attribute."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def ask(
    protocol: int, kind: int, body: bytes = b"", *, answer: int | None = None, patience: float = PATIENCE
) -> list[bytes]:
    """Ask the kernel and return the bodies of its answers; one of kind `answer`, or that it did what it was told.

    It answers at once, so nobody waits for long. Raises OSError with the kernel's reason, TimeoutError without one.
    """
    with closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)) as asked:
        asked.settimeout(patience)
        asked.sendto(request(kind, body, REQUEST | (0 if answer is not None else ACK)), (0, 0))
        while True:
            for message in messages(asked.recv(_MOST_BYTES)):
                if message.kind == ERROR:
                    refused(message.body)
                    if answer is None:
                        return []
                elif message.kind == answer:
                    return [message.body]


def refused(body: bytes) -> None:
    """Raise the OSError that a message of kind ERROR holds, unless it says that all is well."""
    if len(body) < _CODE.size:
        raise MalformedError(f"a netlink error has {len(body)} bytes, its code alone would be {_CODE.size}")
    if code := _CODE.unpack_from(body)[0]:
        raise OSError(abs(code), os.strerror(abs(code)))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
