"""What a file is like at one time: its content, as a sum, and what else its owner decides about it."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from emitters.following.complaints import shown
from emitters.following.links import opened
from emitters.following.tree import regular
from emitters.measures.users import Users

_MOST_BYTES: Final = 16 << 20
_ENDS: Final = 64 << 10


class Version(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file as it was from `since` on; without `sha256` there was none.

    `number` is that of the record that told of it, 0 where none had to, `safe` the last one that was safe by then.
    """

    since: float
    sha256: str = ""
    size: int = 0
    mode: str = ""
    owner: str = ""
    group: str = ""
    partial: bool = False
    target: str = ""
    stamp: tuple[int, ...] = ()
    number: int = 0
    safe: int = 0

    @property
    def file(self) -> tuple[int, ...]:
        """Which file it is, whatever it is called: device and inode."""
        return self.stamp[:2]


class Seen(NamedTuple):
    """A version with its content, where that is not too much to be kept; `settled` unless it changed meanwhile."""

    version: Version
    content: bytes | None
    settled: bool


def stamp_of(path: str) -> tuple[int, ...]:
    """Return what differs whenever a file may be another or was changed; empty where there is no regular file."""
    try:
        status = regular(path)
    except OSError:
        return ()
    return () if status is None else _stamp(status)


class Names:
    """What users and groups are called here."""

    def __init__(self, users: Path = Path("/etc/passwd"), groups: Path = Path("/etc/group")) -> None:
        self._users = Users(users)
        self._groups = Users(groups)

    def refresh(self) -> None:
        self._users.refresh()
        self._groups.refresh()

    def of(self, status: os.stat_result) -> tuple[str, str]:
        """Return the names of a file's owner and group, numbers where there are none."""
        return self._users.name(status.st_uid), self._groups.name(status.st_gid)


def observe(path: str, now: float, names: Names) -> Seen | None:
    """Read a file; None if there is no regular one. Raises OSError where it cannot or, by a link, may not be read."""
    if not stamp_of(path):
        return None
    try:
        fd = opened(path)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        content = _read(fd, _MOST_BYTES + 1)
        after = os.fstat(fd)
        end = os.pread(fd, _ENDS, max(0, after.st_size - _ENDS))
    finally:
        os.close(fd)
    settled = (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    whole = len(content) <= _MOST_BYTES
    # What stands for the content of a file that is too long: its size, time, first and last blocks.
    text = content if whole else f"{after.st_size} {after.st_mtime_ns} ".encode() + content[:_ENDS] + end
    owner, group = names.of(after)
    version = Version(
        since=now,
        sha256=hashlib.sha256(text).hexdigest(),
        size=after.st_size,
        mode=f"{stat.S_IMODE(after.st_mode):04o}",
        owner=owner,
        group=group,
        partial=not whole,
        target=shown(os.path.realpath(path)) if Path(path).is_symlink() else "",
        stamp=_stamp(after),
    )
    return Seen(version, content if whole else None, settled)


def _read(fd: int, most: int) -> bytes:
    found = bytearray()
    while len(found) < most and (block := os.read(fd, min(1 << 20, most - len(found)))):
        found += block
    return bytes(found)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
