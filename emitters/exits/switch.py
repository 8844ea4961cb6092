"""Process accounting turned on and off (see acct(2)), and whether it is on, which the kernel tells nobody."""

import ctypes
import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MOST_BYTES = 64 << 20  # of a file that nobody but us would put away
_TRUE = "/bin/true"


def account(path: Path | None) -> None:
    """Let the kernel write to a file, or with None to none. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.acct(None if path is None else ctypes.c_char_p(os.fsencode(path))):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path or ""))


def written(paths: Iterable[Path]) -> Path | None:
    """Return which of the files grows where a process ends; None if none does: the surest sign there is."""
    before = {path: _size(path) for path in paths}
    end_one()
    return next((path for path, size in before.items() if _size(path) > size), None)


def end_one() -> None:
    """Let a process begin and end. Its record is written before its parent hears of it."""
    argv = [_TRUE] if os.access(_TRUE, os.X_OK) else [sys.executable, "-ISc", ""]
    os.waitpid(os.posix_spawn(argv[0], argv, {}), 0)


class Switch:
    """Accounting, turned on by us where it was off, and off again at the end.

    A note beside the file says that it is we who turned it on: if we are killed, whoever comes next turns it off. The
    kernel tells nobody to which file it writes: only files that are known can be seen to be written.
    """

    def __init__(self, path: Path, on: Callable[[Path | None], None] = account) -> None:
        self._path = path
        self._account = on
        self._note = path.with_name(path.name + ".on")
        self._ours = False

    def turn_on(self, others: Iterable[Path]) -> None:
        """Turn it on unless it is on for this file or one of `others`. Raises OSError where that is not possible."""
        if (found := written([self._path, *others])) is not None:
            self._ours = found == self._path and self._noted()
            return
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._begin()
        self._ours = True
        self._note.write_text(_BOOT.read_text())
        log.info("process accounting turned on", extra={"path": self._path})

    def turn_off_former(self) -> None:
        """Turn it off if it is on by one of us that was killed. Raises OSError where that is not possible."""
        if self._noted() and written([self._path]) is not None:
            self._account(None)
            self._note.unlink()
            log.info("process accounting turned off, which was left on", extra={"path": self._path})

    def turn_off(self) -> None:
        """Turn it off if we turned it on."""
        if not self._ours:
            return
        self._ours = False
        with suppress(OSError):
            self._account(None)
            log.info("process accounting turned off", extra={"path": self._path})
        self._note.unlink(missing_ok=True)

    def put_away(self, read: int) -> None:
        """Begin a new file where the old one has grown large and `read`, the inode of what is safe, is in it.

        Without us nobody would do that. The one before that is given up.
        """
        if not self._ours or _size(self._path) < _MOST_BYTES or self._path.stat().st_ino != read:
            return
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._begin()

    def _begin(self) -> None:
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._account(self._path)

    def _noted(self) -> bool:
        try:
            return self._note.read_text() == _BOOT.read_text()
        except OSError:
            return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
