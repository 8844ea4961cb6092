"""Services that somebody else keeps, found by their pidfile."""

from collections.abc import Callable
from pathlib import Path

from emitters.keepers.watched import Watched
from exhaust.processes import find


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
            status, text = self._path.stat(), self._path.read_bytes()
            written = (status.st_ino, status.st_mtime_ns)
            process = find(int(text.split(None, 1)[0])) if written != self._seen else None
        except (OSError, ValueError, IndexError):
            return
        if process is not None:
            self._seen = written
            if process != self._process:
                self._take(process)

    def _at_rest(self) -> str | None:
        return super()._at_rest() or "stopped"
