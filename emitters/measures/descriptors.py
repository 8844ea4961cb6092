"""Files below a directory that are read at every look: held open, as opening one costs twice as much as reading it."""

import os
import resource
from contextlib import ExitStack, suppress

_MOST_BYTES = 4096
_MOST = 1024


def affordable() -> int:
    """Return how many files may be held open: a good part, but not all, of what this process may have."""
    return min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


class Descriptors:
    """At most `most` of them are held open; any other is opened each time. A file of /proc ends with its process."""

    def __init__(self, directory: str, opened: ExitStack, *, most: int) -> None:
        self.directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, self.directory)
        opened.callback(self._close_all)
        self._most = most
        self._fds: dict[str, int] = {}
        self._read: set[str] = set()

    def read(self, path: str) -> bytes:
        """Return a file's text, nothing where it is not there (any more). Raises OSError for any other reason."""
        fd = self._fds.get(path)
        if fd is None:
            return self._open(path)
        try:
            text = os.pread(fd, _MOST_BYTES, 0)
        except ProcessLookupError:  # it has ended since: another may have its number
            text = b""
        except BaseException:
            self._close(path)
            raise
        if text:
            self._read.add(path)
            return text
        self._close(path)
        return self._open(path)

    def sweep(self) -> None:
        """Close those that were not read since the last sweep."""
        for path in self._fds.keys() - self._read:
            self._close(path)
        self._read.clear()

    def _open(self, path: str) -> bytes:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.directory)
        except (FileNotFoundError, ProcessLookupError):
            return b""
        text = b""
        try:
            with suppress(ProcessLookupError):
                text = os.pread(fd, _MOST_BYTES, 0)
        finally:
            if text and len(self._fds) < self._most:
                self._fds[path] = fd
                self._read.add(path)
            else:
                os.close(fd)
        return text

    def _close(self, path: str) -> None:
        os.close(self._fds.pop(path))

    def _close_all(self) -> None:
        for path in list(self._fds):
            self._close(path)
