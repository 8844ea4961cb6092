"""The kernel's notices of what happens to files and in directories (inotify), through libc."""

import ctypes
import os
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

MODIFY: Final = 0x2
ATTRIB: Final = 0x4
CLOSE_WRITE: Final = 0x8
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
OVERFLOW: Final = 0x4000
IGNORED: Final = 0x8000
ONLYDIR: Final = 0x1000000

NAMES: Final = CREATE | DELETE | MOVED_FROM | MOVED_TO | DELETE_SELF | MOVE_SELF | ONLYDIR
"""What a directory is watched for where only the names in it matter."""

_HEAD: Final = struct.Struct("=iIII")
_BLOCK: Final = 1 << 16
_MOST_BLOCKS: Final = 16

_libc = ctypes.CDLL(None, use_errno=True)


class Notice(NamedTuple):
    """Something happened to what is watched as `watch`, or to `name` in it; of an overflow it is -1."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One queue of notices. Raises OSError where the kernel has none left to give."""

    def __init__(self) -> None:
        self.fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, path: str, mask: int) -> int:
        """Watch the file or directory that is at this path now; return its number, which is the same the next time."""
        return _checked(_libc.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(mask)))

    def unwatch(self, watch: int) -> None:
        _libc.inotify_rm_watch(self.fd, watch)  # the kernel may have dropped it itself by now

    def read(self) -> list[Notice]:
        """Return what there is, or much of it."""
        found: list[Notice] = []
        for _ in range(_MOST_BLOCKS):
            try:
                found += notices(os.read(self.fd, _BLOCK))
            except BlockingIOError:
                break
        return found

    def close(self) -> None:
        os.close(self.fd)


def notices(data: bytes) -> Iterator[Notice]:
    """Take apart what was read from the queue (`struct inotify_event` of inotify(7))."""
    at = 0
    while at < len(data):
        watch, mask, _, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size + length
        yield Notice(watch, mask, os.fsdecode(data[at - length : at].rstrip(b"\0")))


def unusable() -> str:
    """Return why there are no notices here, empty where there are."""
    try:
        inotify = Inotify()
    except OSError as exc:
        return f"inotify: {exc.strerror}"
    try:
        inotify.watch("/", NAMES)
    except OSError as exc:
        return f"inotify: {exc.strerror}"
    finally:
        inotify.close()
    return ""


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
