"""One record of process accounting, version 3 (see acct(5) and linux/acct.h)."""

import math
import struct
from collections.abc import Mapping
from typing import Any

from emitters.measures.users import Users
from exhaust.errors import ExhaustError

SIZE = 64
TICKS = 100  # a second, of the file's times: whatever the kernel's own are

_LITTLE = struct.Struct("<BBHIIIIIIf8H16s")
_BIG = struct.Struct(">BBHIIIIIIf8H16s")
_VERSION = 3
_IS_BIG = 0x80
_FORKED, _SUPERUSER, _CORE, _SIGNAL = 0x01, 0x02, 0x08, 0x10
_PTYS, _OF_EACH_PTY = range(136, 144), 256
_SERIAL = 64  # of major 4: below it the virtual consoles
_TTY, _OTHER_TTY = 4, 5


class UnusableError(ExhaustError):
    """What stands there is no record of version 3."""


def decode(record: bytes, users: Users, groups: Users) -> tuple[float, dict[str, Any]]:
    """Return when a process ended, to the second, and the fields of its record. Raises UnusableError."""
    flags, version, tty, exited, uid, gid, pid, ppid, began, elapsed, *counts, command = _unpacked(record)
    user, system, memory, io, rw, minor, major, swaps = map(expanded, counts)
    fields = {
        "command": text(command),
        "pid": pid,
        "ppid": ppid,
        "uid": uid,
        "user": users.name(uid),
        "gid": gid,
        "group": groups.name(gid),
        **({"tty": tty_name(tty >> 8, tty & 0xFF)} if tty else {}),
        "tty_number": tty,
        "began": began,
        "elapsed_seconds": elapsed / TICKS,
        "user_seconds": user / TICKS,
        "system_seconds": system / TICKS,
        **ending(exited),
        **flagged(flags),
        "memory_bytes": memory << 10,
        "io_characters": io,
        "io_blocks": rw,
        "minor_faults": minor,
        "major_faults": major,
        "swaps": swaps,
        "version": version,
    }
    return _end(began, elapsed), fields


def ended(record: bytes) -> float:
    """Return when a process ended, to the second. Raises UnusableError."""
    *_, began, elapsed = _unpacked(record)[:10]
    return _end(began, elapsed)


def _unpacked(record: bytes) -> tuple[Any, ...]:
    if len(record) != SIZE or record[1] & ~_IS_BIG != _VERSION:
        raise UnusableError("a record of process accounting is not of version 3")
    values = (_BIG if record[1] & _IS_BIG else _LITTLE).unpack(record)
    if not math.isfinite(values[9]) or values[9] < 0:
        raise UnusableError(f"a process cannot have lived for {values[9]} ticks")
    return values


def _end(began: int, elapsed: float) -> float:
    return float(began + int(elapsed / TICKS))


def expanded(number: int) -> int:
    """Return what a comp_t stands for: 13 bits, to be multiplied by a power of 8 that is in the other three."""
    return int((number & 0x1FFF) << 3 * (number >> 13))


def text(command: bytes) -> str:
    """Return the kernel's name of a program, up to its NUL."""
    return command.split(b"\0", 1)[0].decode(errors="backslashreplace")


def ending(exited: int) -> dict[str, Any]:
    """Return the fields of a wait status."""
    signal = exited & 0x7F
    return {"exit": -signal if signal else exited >> 8 & 0xFF, "exit_code": exited}


def flagged(flags: int) -> dict[str, Any]:
    """Return the fields of ac_flag."""
    return {
        "forked": bool(flags & _FORKED),
        "superuser": bool(flags & _SUPERUSER),
        "core_dumped": bool(flags & _CORE),
        "killed": bool(flags & _SIGNAL),
        "flags": flags,
    }


def tty_name(major: int, minor: int) -> str:
    """Return a terminal by the kernel's names for them, else by its numbers."""
    if major in _PTYS:
        return f"pts/{(major - _PTYS.start) * _OF_EACH_PTY + minor}"
    if major == _TTY:
        return f"tty{minor}" if minor < _SERIAL else f"ttyS{minor - _SERIAL}"
    if (major, minor) == (_OTHER_TTY, 1):
        return "console"
    return f"{major}:{minor}"


FIELDS: Mapping[str, str] = {
    "source": "string: who tells of its end: pacct (the accounting file), taskstats (the kernel's statistics), "
    "connector (the kernel's process connector)",
    "command": "string: what the kernel called it at last, at most 15 bytes",
    "pid": "int: its process id",
    "ppid": "int: its parent's process id, at its end",
    "uid": "int: whose rights it had, the real user id",
    "user": "string: that user, by /etc/passwd; the number where that has no name for it",
    "gid": "int: its real group id",
    "group": "string: that group, by /etc/group; the number where that has no name for it",
    "tty": "string: its controlling terminal, such as pts/0 or ttyS0; missing if it had none",
    "tty_number": "int: that terminal's device, major number times 256 and minor number; 0 if it had none",
    "began": "timestamp: when it was created, whole seconds",
    "elapsed_seconds": "double: how long it lived, seconds",
    "user_seconds": "double: processor time that it spent by itself, seconds",
    "system_seconds": "double: processor time that the kernel spent for it, seconds",
    "exit": "int: how it ended: its exit status, negative for a signal",
    "exit_code": "int: the same as the kernel keeps it: the exit status times 256, the signal, 128 if it left a core",
    "forked": "bool: whether it never executed a program after it was forked (AFORK)",
    "superuser": "bool: whether it used a privilege (ASU)",
    "core_dumped": "bool: whether it left a core (ACORE)",
    "killed": "bool: whether a signal ended it (AXSIG)",
    "flags": "int: these four and others as the kernel keeps them (ac_flag)",
    "memory_bytes": "int: its virtual memory at its end, bytes, rounded down where it is over 8 MiB",
    "io_characters": "int: what it transferred (ac_io), in the kernel's own measure; 0 on most",
    "io_blocks": "int: blocks that it read and wrote (ac_rw); 0 on Linux",
    "minor_faults": "int: page faults without a disk",
    "major_faults": "int: page faults that had to wait for a disk",
    "swaps": "int: how often it was swapped out (ac_swaps); 0 on Linux",
    "version": "int: the record's version and 128 on big-endian machines (ac_version), or that of the statistics",
}
