"""The kernel's audit (see linux/audit.h): its state, a rule for executions, and the group that hears its records."""

import errno
import platform
import re
import socket
import struct
import sys
from contextlib import ExitStack
from typing import NamedTuple

from emitters.kernel.channel import Instruction, only, widen
from emitters.kernel.netlink import MalformedError, ask

SYSCALL, PATH, CWD, EXECVE, END = 1300, 1302, 1307, 1309, 1320
MESSAGES = 6  # of most executions, of the kinds above: two of them are PATH

_PROTOCOL = 9  # NETLINK_AUDIT
_GROUP = 1  # AUDIT_NLGRP_READLOG
_GET, _SET, _ADD, _DELETE = 1000, 1001, 1011, 1012
_STATUS = struct.Struct("=10I")
_ANSWER_WITHIN = 1.0  # seconds: it is a thread of the kernel that answers, which has to get its turn
_ENABLED, _BACKLOG, _PATIENCE = 0x1, 0x10, 0x20  # of what SET may change

_WORDS, _FIELDS = 64, 64
_RULE = struct.Struct(f"=3I{_WORDS}I{3 * _FIELDS}II")
_AT_EXIT, _ALWAYS = 4, 2
_ARCH, _EXIT, _KEY = 11, 103, 210
_EQUAL, _NOT_EQUAL = 0x40000000, 0x30000000

# By the machine: what audit calls its interface, and the numbers there of execve and execveat.
_EXECUTING = {
    "x86_64": ((0xC000003E, (59, 322)), (0x40000003, (11, 358))),
    "aarch64": ((0xC00000B7, (221, 281)), (0x40000028, (11, 387))),
    "riscv64": ((0xC00000F3, (221, 281)),),
}

_CALLS = frozenset(
    (b"%x" % arch, b"%d" % call) for interfaces in _EXECUTING.values() for arch, calls in interfaces for call in calls
)

_VALUE = re.compile(rb'([^ =]+)=("[^"]*"?|[^ ]*)')

_LOAD_HALF, _SAME, _RETURN = 0x28, 0x15, 0x06
_AT_KIND = 4


class Status(NamedTuple):
    """How it is set up: `enabled` 0 is off, 2 locked; `pid` is that of its daemon, 0 without; `lost` are records."""

    enabled: int
    failure: int
    pid: int
    rate: int
    backlog_limit: int
    lost: int
    backlog: int
    features: int
    patience: int


class Line(NamedTuple):
    """One record of an event: `serial` tells events apart, `time` is the event's, seconds since the epoch."""

    kind: int
    time: float
    serial: int
    text: bytes


def status() -> Status:
    """Ask how it is set up. Raises OSError."""
    (answer,) = ask(_PROTOCOL, _GET, answer=_GET, patience=_ANSWER_WITHIN)
    _, *values = _STATUS.unpack(answer[: _STATUS.size].ljust(_STATUS.size, b"\0"))
    return Status(*values)


def set_up(*, enabled: int | None = None, backlog: int | None = None, patience: int | None = None) -> None:
    """Change what is given: whether it is on, how many records may wait, how long who makes them waits for room."""
    given = {_ENABLED: enabled, _BACKLOG: backlog, _PATIENCE: patience}
    mask = sum(bit for bit, value in given.items() if value is not None)
    values = (mask, enabled or 0, 0, 0, 0, backlog or 0, 0, 0, 0, patience or 0)
    ask(_PROTOCOL, _SET, _STATUS.pack(*values))


def rules(key: str) -> list[bytes]:
    """Return the rules that let executions be recorded, all but those of what is not there; none if unknown here."""
    return [_rule(*one, key) for one in _EXECUTING.get(platform.machine(), ())]


def executes(arch: bytes, call: bytes) -> bool:
    """Say whether a system call, as a record names it, executes a program."""
    return (arch, call) in _CALLS


def add(rule: bytes) -> bool:
    """Add a rule; False if it was there. Raises OSError."""
    try:
        ask(_PROTOCOL, _ADD, rule)
    except OSError as exc:
        if exc.errno == errno.EEXIST:
            return False
        raise
    return True


def delete(rule: bytes) -> None:
    """Take a rule away. Raises OSError."""
    ask(_PROTOCOL, _DELETE, rule)


def listen() -> socket.socket:
    """Open a socket that hears the records of executions and the ends of events. Raises OSError."""
    with ExitStack() as unless:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _PROTOCOL)
        unless.callback(opened.close)
        widen(opened)
        only(opened, _program((SYSCALL, PATH, CWD, EXECVE, END)))
        opened.bind((0, _GROUP))
        unless.pop_all()
    return opened


def line(datagram: bytes) -> Line:
    """Read a record. Raises MalformedError where it is none.

    A datagram is one message, whatever its header says of its length: it was without itself in older kernels.
    """
    kind, text = int.from_bytes(datagram[4:6], sys.byteorder), datagram[16:].rstrip(b"\0\n")
    head, found, rest = text.partition(b"): ")
    if not found and text.endswith(b"):"):
        head, found = text[:-2], b"):"
    stamp, colon, serial = head.removeprefix(b"audit(").rpartition(b":")
    if not (found and colon and head.startswith(b"audit(") and serial.isdigit() and len(serial) < 20):
        raise MalformedError("a record of the audit does not begin with its event")
    seconds, _, fraction = stamp.partition(b".")
    if not (seconds.isdigit() and len(seconds) < 12 and fraction.isdigit() and len(fraction) < 10):
        raise MalformedError("a record of the audit does not begin with its time")
    return Line(kind, float(stamp), int(serial), rest)


def fields(text: bytes) -> list[tuple[bytes, bytes]]:
    """Return names and values of a record, in quotes where they are, else as they stand."""
    return _VALUE.findall(text)


def plain(value: bytes) -> bytes:
    """Return a text that the kernel had no control over: in quotes, or in hexadecimal if it was not plain."""
    if value.startswith(b'"'):
        return value[1:].removesuffix(b'"')
    if value in (b"(null)", b"(none)"):
        return b""
    try:
        return bytes.fromhex(value.decode("ascii"))
    except ValueError:
        return value


def _rule(arch: int, calls: tuple[int, ...], key: str) -> bytes:
    """Write a rule: executions but those of files that are not there, which shells try along their path."""
    words = [0] * _WORDS
    for call in calls:
        words[call // 32] |= 1 << call % 32
    text = key.encode()
    given = ((_ARCH, arch, _EQUAL), (_EXIT, -errno.ENOENT & 0xFFFFFFFF, _NOT_EQUAL), (_KEY, len(text), _EQUAL))
    columns = (number for column in zip(*given, strict=True) for number in _filled(column))
    return _RULE.pack(_AT_EXIT, _ALWAYS, len(given), *words, *columns, len(text)) + text


def _filled(column: tuple[int, ...]) -> list[int]:
    return [*column, *[0] * (_FIELDS - len(column))]


def _program(kinds: tuple[int, ...]) -> list[Instruction]:
    """Accept messages of these kinds."""
    tests = [
        (_SAME, len(kinds) - at, 0, int.from_bytes(struct.pack("=H", kind), "big")) for at, kind in enumerate(kinds)
    ]
    return [(_LOAD_HALF, 0, 0, _AT_KIND), *tests, (_RETURN, 0, 0, 0), (_RETURN, 0, 0, 0xFFFFFFFF)]
