"""Services that somebody else keeps, found by their pidfile."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from emitters.keepers.watched import Watched
from exhaust.processes import find

_FLAGS: Final = (
    os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
)  # whoever runs as the service may put a pipe there
_MOST_BYTES: Final = 64


class Pidfile(Watched):
    """Read at every beat. One that was not written anew says nothing new: after an end its pid may be another's."""

    provider = "pidfile"

    def __init__(self, name: str, on_end: Callable[[Watched], None], path: Path, *, wanted: bool) -> None:
        super().__init__(name, on_end, wanted=wanted)
        self._path = path
        self._seen: tuple[int, int] | None = None

    def look(self) -> None:
        """Read the pidfile."""
        try:
            written, text = _read(self._path)
            process = find(int(text.split(None, 1)[0])) if written != self._seen else None
        except (OSError, ValueError, IndexError):
            return
        if process is not None:
            self._seen = written
            if process != self._process:
                self._take(process)

    def _at_rest(self) -> str | None:
        return super()._at_rest() or "stopped"


def _read(path: Path) -> tuple[tuple[int, int], bytes]:
    """Return when a regular file was written, and how it begins. Raises OSError, ValueError."""
    fd = os.open(path, _FLAGS)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"'{path}' is no regular file")
        return (status.st_ino, status.st_mtime_ns), os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)
