"""Opens the spool's log, for one process at a time."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from emitters.spool.disk import Folder
from emitters.spool.segments import MOST, Log
from exhaust.errors import LockedError, StoreError


@contextlib.contextmanager
def opened_log(folder: Path, *, most: int = MOST) -> Iterator[Log]:
    """Open the log in a folder of at most so many bytes.

    Raises LockedError while another process has it, StoreError where the folder cannot be used; nothing that is in
    the files keeps it from opening.
    """
    with contextlib.ExitStack() as opened:
        try:
            opened_folder = Folder(folder)
            lock = opened.enter_context((folder / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = Log(opened_folder, most=most)
            opened.callback(found.close)
            found.recover()
        except BlockingIOError as exc:
            raise LockedError(f"{folder} is in use by another process: stop it, or wait for it to end") from exc
        except OSError as exc:
            raise StoreError(f"{folder} cannot be opened: {exc}") from exc
        yield found
