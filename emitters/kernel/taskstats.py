"""What the kernel tells of a thread when it ends (see taskstats.h): accounting, input and output, and delays."""

import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from emitters.kernel.channel import widen
from emitters.kernel.netlink import (
    ACK,
    ERROR,
    PATIENCE,
    REQUEST,
    MalformedError,
    ask,
    attribute,
    attributes,
    messages,
    refused,
)
from emitters.kernel.netlink import request as message

_PROTOCOL = 16  # NETLINK_GENERIC
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME, _NEW_FAMILY = 16, 3, 1, 2, 1
_GET, _NEW = 1, 2
_REGISTER, _DEREGISTER = 3, 4
_OF_THREAD, _STATS = 4, 3
_GENERIC = struct.Struct("=BBH")
_POSSIBLE = Path("/sys/devices/system/cpu/possible")
_GROUP_DEAD = 0x20

# Fields by their place; C aligns the groups of them. Only the last two are not there in older kernels.
_HEAD = struct.Struct("=HxxIBb")
_DELAYS = struct.Struct("=6Q")
_NAME = struct.Struct("=32s")
_IDS = struct.Struct("=5I")
_TIMES = struct.Struct("=5Q")
_MEMORY = struct.Struct("=4Q")
_TRAFFIC = struct.Struct("=9Q")
_RECLAIM = struct.Struct("=Q")
_GROUP = struct.Struct("=IxxxxQ")
_LEAST = 328
_AT_GROUP = 368
_UNLIKE_OTHERS = 15  # its fields had moved; version 16 put them back


class Ended(NamedTuple):
    """A thread that ended: times are seconds, delays seconds, sizes bytes; `last` is set on its process's last one."""

    process: int
    thread: int
    last: bool
    version: int
    exited: int
    flags: int
    nice: int
    command: bytes
    uid: int
    gid: int
    ppid: int
    began: int
    elapsed: float
    user: float
    system: float
    minor_faults: int
    major_faults: int
    cpu_delay: float
    block_delay: float
    swapin_delay: float
    reclaim_delay: float
    resident_peak: int
    virtual_peak: int
    read_characters: int
    write_characters: int
    read_calls: int
    write_calls: int
    read_bytes: int
    write_bytes: int
    cancelled_bytes: int
    voluntary: int
    involuntary: int


def listen() -> tuple[socket.socket, int]:
    """Open a socket on which each thread's end is told; return it with the family's number. Raises OSError."""
    family = _family()
    with ExitStack() as unless:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _PROTOCOL)
        unless.callback(opened.close)
        widen(opened)
        opened.settimeout(PATIENCE)
        opened.sendto(_registration(family, _REGISTER), (0, 0))
        for answer in messages(opened.recv(1 << 16)):
            if answer.kind == ERROR:
                refused(answer.body)
        unless.pop_all()
    return opened, family


def ignore(opened: socket.socket, family: int) -> None:
    """Tell the kernel that nobody listens any more."""
    opened.sendto(_registration(family, _DEREGISTER), (0, 0))


def ended(datagram: bytes, family: int) -> Iterator[Ended]:
    """Read the threads in a datagram. Raises MalformedError where it is not what taskstats.h describes."""
    for one in messages(datagram):
        if one.kind == family and one.body[:1] == bytes((_NEW,)):
            found = attributes(one.body[_GENERIC.size :])
            if _OF_THREAD in found:
                yield _thread(attributes(found[_OF_THREAD]).get(_STATS, b""))


def _thread(stats: bytes) -> Ended:
    if len(stats) < _LEAST:
        raise MalformedError(f"a thread's statistics have {len(stats)} bytes, not {_LEAST}")
    version, exited, flags, nice = _HEAD.unpack_from(stats, 0)
    if version == _UNLIKE_OTHERS:
        raise MalformedError("version 15 of a thread's statistics is unlike all others")
    _, cpu_delay, _, block_delay, _, swapin_delay = _DELAYS.unpack_from(stats, 16)
    command = _NAME.unpack_from(stats, 80)[0].split(b"\0", 1)[0]
    uid, gid, thread, ppid, began = _IDS.unpack_from(stats, 120)
    elapsed, user, system, minor, major = _TIMES.unpack_from(stats, 144)
    _, _, resident, virtual = _MEMORY.unpack_from(stats, 184)
    process, last = thread, True
    if len(stats) >= _AT_GROUP + _GROUP.size:  # since Linux 5.19; before, each thread looks like a process
        process, elapsed = _GROUP.unpack_from(stats, _AT_GROUP)
        last = bool(flags & _GROUP_DEAD)
    return Ended(
        process,
        thread,
        last,
        version,
        exited,
        flags,
        nice,
        command,
        uid,
        gid,
        ppid,
        began,
        elapsed / 1e6,
        user / 1e6,
        system / 1e6,
        minor,
        major,
        cpu_delay / 1e9,
        block_delay / 1e9,
        swapin_delay / 1e9,
        _RECLAIM.unpack_from(stats, 320)[0] / 1e9,
        resident << 10,
        virtual << 10,
        *_TRAFFIC.unpack_from(stats, 216),
    )


def _family() -> int:
    body = _GENERIC.pack(_GET_FAMILY, 1, 0) + attribute(_FAMILY_NAME, b"TASKSTATS\0")
    (answer,) = ask(_PROTOCOL, _CONTROL, body, answer=_CONTROL)
    return int.from_bytes(attributes(answer[_GENERIC.size :])[_FAMILY_ID], sys.byteorder)


def _registration(family: int, what: int) -> bytes:
    processors = _POSSIBLE.read_bytes().strip() + b"\0"
    return message(family, _GENERIC.pack(_GET, 1, 0) + attribute(what, processors), REQUEST | ACK)
