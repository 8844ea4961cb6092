"""How much of a disk given folders take: counted once a day, file by file, by a thread that gives way to all others."""

import ctypes
import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from exhaust.plugins import Fields

log = logging.getLogger(__name__)

# A stream of its own: it is about folders that may lie on one file system, or on many, and comes once a day.
FOLDER: Fields = {
    "folder": "string: its path, as in the settings",
    "used_bytes": "int: what its files and folders take on disk, as du has it: hard links once, other mounts not",
    "files": "int: files and folders that were counted",
    "seconds": "double: how long that took, seconds",
    "complete": "bool: whether all was counted; if not, it was too much, or some was not ours to read",
    "error": "string: why nothing could be counted: the name of the error, such as ENOENT",
}

_MOST_FILES = 20_000_000
_LONGEST = 3 * 3600.0
_MOST_LINKS = 1_000_000
_AT_ONCE = 100  # files counted before it rests
_IDLE, _BY_PROCESS = 3 << 13, 1  # see ioprio_set(2)
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "armv7l": 314, "armv6l": 314, "ppc64le": 273, "s390x": 282}


class _EnoughError(Exception):
    """It is told to stop, or has counted for too long, or too much."""


@dataclass(slots=True)
class Count:
    """A folder as it is counted."""

    path: str
    used: int = 0
    files: int = 0
    complete: bool = True
    error: str = ""
    seconds: float = 0.0
    stopped: threading.Event = field(default_factory=threading.Event)
    _links: set[tuple[int, int]] = field(default_factory=set)
    _rested: float = 0.0

    def run(self) -> None:
        """Count all of it, with rests, until it is too much, or `stopped`."""
        began = self._rested = time.monotonic()
        try:
            top = os.lstat(self.path)
            self._add(top)
            below = [self.path]
            while below:
                below += self._inside(below.pop(), top.st_dev)
                if time.monotonic() - began > _LONGEST:
                    raise _EnoughError
        except OSError as exc:
            self.error, self.complete = errno.errorcode.get(exc.errno or 0, str(exc.errno)), False
        except _EnoughError:
            self.complete = False
        self.seconds = round(time.monotonic() - began, 3)

    def _inside(self, path: str, device: int) -> list[str]:
        """Count what is directly in a folder; return the folders among that."""
        folders = list[str]()
        try:
            with os.scandir(path) as entries:
                folders.extend(entry.path for entry in entries if self._is_folder(entry, device))
        except FileNotFoundError:  # it went away while we counted
            pass
        except OSError:
            if path == self.path:
                raise
            self.complete = False
        return folders

    def _is_folder(self, entry: os.DirEntry[str], device: int) -> bool:
        """Count an entry that is on this device; return whether it is a folder to go on in."""
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # it went away while we counted; the others are there
            return False
        if status.st_dev != device:
            return False
        self._add(status)
        return stat.S_ISDIR(status.st_mode)

    def _add(self, status: os.stat_result) -> None:
        if self.files % _AT_ONCE == 0:
            self._rest()
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            link = (status.st_dev, status.st_ino)
            if link in self._links:
                return
            if len(self._links) < _MOST_LINKS:
                self._links.add(link)
        self.files += 1
        self.used += status.st_blocks * 512

    def _rest(self) -> None:
        """Rest for as long as was worked: nobody else of this process gets on while a thread of Python works."""
        if self.stopped.wait(time.monotonic() - self._rested) or self.files > _MOST_FILES:
            raise _EnoughError
        self._rested = time.monotonic()

    def told(self) -> dict[str, Any]:
        if self.error:
            return {"folder": self.path, "complete": False, "error": self.error}
        sums = {"used_bytes": self.used, "files": self.files}
        return {"folder": self.path} | sums | {"seconds": self.seconds, "complete": self.complete}


def give_way() -> None:
    """Let everybody else go first, at processors and at disks, for as long as this thread lives."""
    me = threading.get_native_id()
    try:
        os.setpriority(os.PRIO_PROCESS, me, 19)
    except OSError as exc:
        log.debug("priority cannot be lowered", extra={"error": exc.strerror})
    if (call := _IOPRIO_SET.get(os.uname().machine)) is not None:
        ctypes.CDLL(None).syscall(call, _BY_PROCESS, me, _IDLE)


class Folders:
    """A record of each folder, every so many seconds: counted one after the other, told at a look after that.

    `told` is when each was last told of, kept by the runner: who starts anew does not count anew.
    """

    def __init__(self, paths: Sequence[str], every: float, told: Mapping[str, Any]) -> None:
        self._paths = paths
        self._every = every
        self._last = {path: float(told.get(path) or 0.0) for path in paths}
        self._count: Count | None = None
        self._thread: threading.Thread | None = None

    async def look(self, now: float) -> list[dict[str, Any]]:
        records = []
        if self._thread is not None and not self._thread.is_alive() and self._count is not None:
            records.append(self._count.told())
            self._last[self._count.path] = now
            self._thread = None
        if self._thread is None:
            due = [path for path in self._paths if not 0 <= now - self._last[path] < self._every]
            if due:
                self._start(min(due, key=self._last.__getitem__))
        return records

    def _start(self, path: str) -> None:
        self._count = count = Count(path)

        def run() -> None:
            give_way()
            count.run()

        # A daemon: the process must be able to end while a file system does not answer.
        self._thread = threading.Thread(target=run, name=f"folder {path}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let the thread end soon."""
        if self._count is not None:
            self._count.stopped.set()
