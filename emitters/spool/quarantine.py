"""Keeps what was garbled in the log, for whoever wants to know: up to a bound, the newest."""

import contextlib

from emitters.spool.disk import QUARANTINE, Disk

MOST = 8 << 20


class Quarantine:
    """Files named after the position that their bytes had in the log. A disk that takes none is no error."""

    def __init__(self, disk: Disk, most: int = MOST) -> None:
        self._disk = disk
        self._most = most
        self.size = 0  # bytes that are kept

    def look(self) -> None:
        """Count what is there. Raises OSError."""
        self.size = sum(self._disk.sizes(QUARANTINE).values())

    def put(self, position: int, data: bytes) -> None:
        """Keep these bytes of the log, and remove the oldest where they are too many."""
        with contextlib.suppress(OSError):
            file = self._disk.create(f"{QUARANTINE}/{position:016x}")
            try:
                file.write(data[: self._most], 0)
            finally:
                file.close()
        with contextlib.suppress(OSError):
            kept = dict(sorted(self._disk.sizes(QUARANTINE).items()))
            self.size = sum(kept.values())
            for name, size in kept.items():
                if self.size <= self._most:
                    return
                self._disk.unlink(f"{QUARANTINE}/{name}")
                self.size -= size
