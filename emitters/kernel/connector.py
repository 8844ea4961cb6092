"""The process connector: the kernel says which process executed a program, and which ended (see cn_proc.h).

Before Linux 6.6 only who may administer the network is told. Who is in a container with pids or users of its own gets
no answer at all.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from typing import NamedTuple

from emitters.kernel.channel import Instruction, only, widen
from emitters.kernel.netlink import PATIENCE, MalformedError, Message, messages, request

EXEC, EXIT = 0x00000002, 0x80000000

_PROTOCOL = 11  # NETLINK_CONNECTOR
_GROUP = 1  # CN_IDX_PROC, of messages that begin with (1, 1)
_DONE = 3
_LISTEN, _IGNORE = 1, 2
_CONNECTOR = struct.Struct("=IIIIHH")  # idx, val, seq, ack, len, flags
_EVENT = struct.Struct("=IIQ")  # what, cpu, nanoseconds since boot
_PROCESS = struct.Struct("=II")  # thread, process
_EXITED = struct.Struct("=I")
_ACK = struct.Struct("=i")

_LOAD, _KEEP, _SAME, _SAME_AS_KEPT, _RETURN = 0x20, 0x07, 0x15, 0x1D, 0x06
_AT_WHAT = 16 + _CONNECTOR.size
_AT_PROCESS = _AT_WHAT + _EVENT.size


class Event(NamedTuple):
    """A process that executed a program or ended: `exited` is its wait status then; `at` is seconds since boot."""

    what: int
    pid: int
    at: float
    exited: int = 0


def listen(what: int) -> socket.socket:
    """Open a socket on which processes that do `what` (EXEC or EXIT) are told. Raises OSError where nobody tells us.

    The kernel answers at once or never: it is waited for only the first time.
    """
    if not _answers():
        raise TimeoutError(errno.ETIMEDOUT, "no answer, as in containers")
    with ExitStack() as unless:
        opened = _asked()
        unless.callback(opened.close)
        _acknowledged(opened)
        only(opened, _program(what))
        unless.pop_all()
    return opened


def ignore(opened: socket.socket) -> None:
    """Tell the kernel that this listener goes: before Linux 6.6 it would go on telling nobody."""
    opened.sendto(_told(_IGNORE), (0, 0))


def events(datagram: bytes) -> Iterator[Event]:
    """Read the processes in a datagram. Raises MalformedError where it is not what cn_proc.h describes."""
    for message in messages(datagram):
        what, at, body = _event(message)
        if what not in (EXEC, EXIT):
            continue
        if len(body) < _PROCESS.size + (_EXITED.size if what == EXIT else 0):
            raise MalformedError(f"an event of the process connector has {len(body)} bytes")
        thread, pid = _PROCESS.unpack_from(body)
        if thread == pid:
            yield Event(what, pid, at, _EXITED.unpack_from(body, _PROCESS.size)[0] if what == EXIT else 0)


def _event(message: Message) -> tuple[int, float, bytes]:
    begins = _CONNECTOR.size + _EVENT.size
    if len(message.body) < begins:
        raise MalformedError(f"a message of the process connector has {len(message.body)} bytes, not {begins}")
    what, _, at = _EVENT.unpack_from(message.body, _CONNECTOR.size)
    return what, at / 1e9, message.body[begins:]


def _told(operation: int) -> bytes:
    return request(_DONE, _CONNECTOR.pack(_GROUP, 1, 0, 0, 4, 0) + struct.pack("=I", operation), flags=0)


def _asked() -> socket.socket:
    with ExitStack() as unless:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _PROTOCOL)
        unless.callback(opened.close)
        widen(opened)
        opened.bind((0, _GROUP))
        opened.settimeout(PATIENCE)
        opened.sendto(_told(_LISTEN), (0, 0))
        unless.pop_all()
    return opened


@lru_cache(1)
def _answers() -> bool:
    """Say whether the kernel answers this process, whose namespaces do not change; that it refuses is an answer."""
    try:
        with _asked() as opened:
            _acknowledged(opened)
            ignore(opened)
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def _acknowledged(opened: socket.socket) -> None:
    """Wait until the kernel has answered; what others do meanwhile shows as well that it tells us."""
    for message in messages(opened.recv(1 << 16)):
        what, _, body = _event(message)
        if what == 0 and len(body) >= _ACK.size and (code := _ACK.unpack_from(body)[0]):
            raise OSError(abs(code), os.strerror(abs(code)))


def _program(what: int) -> list[Instruction]:
    """Accept events of one kind of the first thread of a process. BPF loads numbers in network order."""
    loaded = int.from_bytes(struct.pack("=I", what), "big")
    return [
        (_LOAD, 0, 0, _AT_WHAT),
        (_SAME, 0, 5, loaded),
        (_LOAD, 0, 0, _AT_PROCESS),
        (_KEEP, 0, 0, 0),
        (_LOAD, 0, 0, _AT_PROCESS + 4),
        (_SAME_AS_KEPT, 0, 1, 0),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    ]
