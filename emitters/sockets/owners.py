"""Whose a socket is: which process has it open, by the links in /proc/PID/fd (proc_pid_fd(5))."""

import asyncio
import os
from collections.abc import Collection, Generator
from contextlib import ExitStack, closing
from typing import NamedTuple

_AT_ONCE = 2000  # links that are read before others get their turn
_OF_PROCESS = 40  # links that take as long as to look into a process
_LONGEST_NAME = 64


class Owner(NamedTuple):
    """A process that has a socket open as `fd`; of several that share it, the first that was found."""

    pid: int
    fd: str
    name: str


class Owners:
    """Searches all processes that we may look into, but only for sockets whose owner is not known any more.

    A socket that nobody was found for is looked for in one more look, then no longer: it is another user's.
    """

    def __init__(self, opening: ExitStack, proc: str = "/proc") -> None:
        self._proc = os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opening.callback(os.close, self._proc)
        self._owners: dict[int, Owner] = {}
        self._missed: dict[int, int] = {}
        self._since = 0

    async def find(self, inodes: Collection[int]) -> dict[int, Owner]:
        """Return the owners of sockets by inode, as far as they are found."""
        known = {}
        for inode in inodes:
            if (owner := self._owners.get(inode)) and self._has(owner, inode):
                known[inode] = owner
            await self._read(1)
        wanted = {inode for inode in inodes if inode not in known and self._missed.get(inode, 0) < 2}
        if wanted:
            await self._search(wanted, known)
        self._owners = known
        self._missed = {inode: self._missed.get(inode, 0) + (inode in wanted) for inode in inodes if inode not in known}
        return known

    async def _search(self, wanted: set[int], found: dict[int, Owner]) -> None:
        for pid in filter(str.isdecimal, os.listdir(self._proc)):  # noqa: PTH208  a descriptor
            await self._read(_OF_PROCESS)
            name = ""
            with closing(self._links(pid)) as links:
                for fd, inode in links:
                    if inode in wanted:
                        name = name or self._name(pid)
                        found.setdefault(inode, Owner(int(pid), fd, name))
                    await self._read(1)
            if len(found) >= len(wanted) and wanted <= found.keys():
                return

    def _links(self, pid: str) -> Generator[tuple[str, int]]:
        """Yield what a process has open, each with the inode of its socket; 0 where it is none."""
        try:
            folder = os.open(f"{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._proc)
        except OSError:  # it has ended, or is not ours to look into
            return
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    yield entry.name, _inode(entry.name, folder)
        except OSError:
            return
        finally:
            os.close(folder)

    async def _read(self, links: int) -> None:
        """Give others their turn after so many."""
        self._since += links
        if self._since >= _AT_ONCE:
            self._since = 0
            await asyncio.sleep(0)

    def _has(self, owner: Owner, inode: int) -> bool:
        return _inode(f"{owner.pid}/fd/{owner.fd}", self._proc) == inode

    def _name(self, pid: str) -> str:
        try:
            fd = os.open(f"{pid}/comm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        except OSError:
            return ""
        try:
            return os.read(fd, _LONGEST_NAME).removesuffix(b"\n").decode(errors="backslashreplace")
        except OSError:
            return ""
        finally:
            os.close(fd)


def _inode(link: str, folder: int) -> int:
    """Return the inode of the socket that a link leads to; 0 where it leads elsewhere, or nowhere."""
    try:
        text = os.readlink(link, dir_fd=folder)
    except OSError:
        return 0
    return int(text[8:-1]) if text.startswith("socket:[") else 0


def unusable() -> str:
    """Say why the owners of all sockets cannot be found here, only those of our own processes; nothing if they can."""
    try:
        os.listdir("/proc/1/fd")  # noqa: PTH208  nothing is done with them
    except OSError as exc:
        return f"/proc/1/fd: {exc.strerror}: needs CAP_SYS_PTRACE"
    return ""
