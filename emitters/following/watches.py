"""Which directories and files the kernel is asked to tell of; what it cannot tell of is only looked at now and then."""

import asyncio
from collections.abc import Iterable, Iterator

from emitters.following.complaints import Complaints
from emitters.following.inotify import DELETE_SELF, IGNORED, MOVE_SELF, NAMES, OVERFLOW, Inotify, Notice

_PAUSE = 0.05  # seconds for which notices are let gather once one has come, so that a busy file wakes nobody each line


class Watches:
    """One queue of notices, or none where the kernel gives none."""

    def __init__(self, complaints: Complaints, *, wanted: bool, inotify: type[Inotify] = Inotify) -> None:
        self._complaints = complaints
        self._inotify: Inotify | None = None
        self._directories: dict[str, int] = {}
        self._paths: dict[int, str] = {}
        if wanted:
            try:
                self._inotify = inotify()
            except OSError as exc:
                complaints.about("files are only polled", "", exc.strerror or str(exc))

    @property
    def fd(self) -> int:
        """What can be read once there are notices; -1 where there never are."""
        return -1 if self._inotify is None else self._inotify.fd

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()

    def directories(self, wanted: Iterable[str], mask: int = NAMES) -> None:
        """Watch these directories, whichever are at their paths now, and no others."""
        for path in self._directories.keys() - wanted:
            self._forget(self._directories[path])
        for path in wanted:
            watch = self.add(path, mask)
            if self._directories.get(path, watch) != watch:
                self._forget(self._directories[path])
            if watch >= 0:
                self._directories[path] = watch
                self._paths[watch] = path

    def add(self, path: str, mask: int) -> int:
        """Watch a file or directory; return its number, -1 if it cannot be watched."""
        if self._inotify is None:
            return -1
        try:
            return self._inotify.watch(path, mask)
        except (FileNotFoundError, NotADirectoryError):
            return -1
        except OSError as exc:  # the limit of watches, most of all
            self._complaints.about("some files are only polled", "", exc.strerror or str(exc))
            return -1

    def remove(self, watch: int) -> None:
        if self._inotify is not None and watch >= 0:
            self._inotify.unwatch(watch)

    def take(self) -> Iterator[tuple[Notice, str]]:
        """Return the notices there are, those of directories with their paths."""
        if self._inotify is None:
            return
        for notice in self._inotify.read():
            path = self._paths.get(notice.watch, "")
            if path and notice.mask & (IGNORED | DELETE_SELF | MOVE_SELF):
                self._forget(notice.watch)
            yield notice, path

    def _forget(self, watch: int) -> None:
        self.remove(watch)
        self._directories.pop(self._paths.pop(watch, ""), None)


def overflowed(notice: Notice) -> bool:
    """Tell whether notices were lost: then everything must be looked at."""
    return bool(notice.mask & OVERFLOW)


class Bell:
    """Wakes who waits for files to change: at notices of any of these, or when it is rung."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._heard: list[Watches] = []
        self._last = 0.0

    def hear(self, watches: Watches) -> None:
        self._heard.append(watches)

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, seconds: float | None) -> None:
        """Return once it rings, or time is up."""
        loop = asyncio.get_running_loop()
        queues = [one.fd for one in self._heard if one.fd >= 0]
        for fd in queues:
            loop.add_reader(fd, self._rung.set)
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return
        finally:
            for fd in queues:  # not while nobody takes the notices: they would wake the loop without end
                loop.remove_reader(fd)
        self._rung.clear()
        await asyncio.sleep(self._last + _PAUSE - loop.time())
        self._last = loop.time()
