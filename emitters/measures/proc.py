"""Files of /proc that are read again and again: held open, so that a look takes one system call instead of three."""

import os
from contextlib import ExitStack
from pathlib import Path

_ROOM = 4096  # a larger buffer costs more than most of these files do
_MOST_BYTES = 1 << 20  # the interrupts alone take several KiB of /proc/stat on large machines


class ProcFile:
    """Open until `opened` is closed. It stays that of the namespaces in which it was opened."""

    def __init__(self, path: str, opened: ExitStack) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, self.fd)
        self._room = _ROOM

    def read(self) -> bytes:
        """Return what one call gives: all of a file that the kernel makes as a whole, such as stat or meminfo."""
        while len(text := os.pread(self.fd, self._room, 0)) == self._room < _MOST_BYTES:
            self._room *= 2
        return text

    def lines(self) -> list[bytes]:
        """Return the lines of a list, such as mountinfo or net/dev: the kernel hands it out about a page at a time."""
        text = b""
        while piece := os.pread(self.fd, self._room, len(text)):
            text += piece
            if len(piece) == self._room < _MOST_BYTES:
                self._room *= 2
        return [line for line in text.split(b"\n") if line]


class Proc:
    """Files below `root` that several streams are made from: each is opened once, and read once at a look."""

    def __init__(self, opened: ExitStack, root: Path = Path("/proc")) -> None:
        self._opened = opened
        self._root = root
        self._files: dict[str, ProcFile] = {}
        self._texts: dict[str, tuple[float, bytes]] = {}

    def open(self, name: str) -> ProcFile:
        """Return one of them, opened if it is not yet. Raises OSError where there is none."""
        if name not in self._files:
            self._files[name] = ProcFile(str(self._root / name), self._opened)
        return self._files[name]

    def text(self, name: str, now: float) -> bytes:
        """Return what it said at the look of `now`."""
        known = self._texts.get(name)
        if known is None or known[0] != now:
            known = self._texts[name] = now, self.open(name).read()
        return known[1]


def number(text: bytes, name: bytes, start: int = 0) -> int:
    """Return the number that follows a name; KeyError where there is none."""
    place = text.find(name, start)
    if place < 0:
        raise KeyError(name)
    place += len(name)
    return int(text[place : place + 24].split(None, 1)[0])


def percent(part: float, whole: float) -> float:
    """Return a share, percent; 0 of nothing."""
    return round(100.0 * part / whole, 2) if whole else 0.0
