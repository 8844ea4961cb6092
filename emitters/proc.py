"""A file of /proc that is read again and again: held open, so that it takes one system call instead of three."""

import os
from contextlib import ExitStack

_MOST_BYTES = 1 << 18  # the interrupts alone take several KiB of /proc/stat on large machines


class ProcFile:
    """Open until `opened` is closed. It stays that of the namespaces in which it was opened."""

    def __init__(self, path: str, opened: ExitStack) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, self._fd)

    def read(self) -> bytes:
        """Return what one call gives: all of a file that the kernel makes as a whole, such as stat or meminfo."""
        return os.pread(self._fd, _MOST_BYTES, 0)

    def lines(self) -> list[bytes]:
        """Return the lines of a list, such as mountinfo or net/dev: the kernel hands it out about a page at a time."""
        text = b""
        while piece := os.pread(self._fd, _MOST_BYTES, len(text)):
            text += piece
        return [line for line in text.split(b"\n") if line]
