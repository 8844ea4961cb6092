"""Opens the spool's log for one process at a time, and takes over what an earlier version has left in a database."""

import contextlib
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

from emitters.spool.disk import Folder
from emitters.spool.segments import MOST, Group, Log
from exhaust.broker.interface import Publication
from exhaust.errors import LockedError, StoreError
from exhaust.store import Store

log = logging.getLogger(__name__)

_PAGE = 64


@contextlib.contextmanager
def opened_log(folder: Path, *, most: int = MOST, former: Path | None = None) -> Iterator[Log]:
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
        if former is not None and former.exists():
            _take_over(former, found)
        yield found


def _take_over(path: Path, found: Log) -> None:
    """Put what a store has not sent into the log, then remove it. What fails is tried again at the next start."""
    try:
        with Store(path) as store:
            last = 0
            while page := store.unsent(last, _PAGE):
                _put([publication for _, publication in page], found)
                last = page[-1][0]
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.stem}.lock"):
            path.with_name(name).unlink(missing_ok=True)
    except LockedError:
        raise
    except (StoreError, OSError) as exc:
        log.error("the former spool cannot be taken over", extra={"file": str(path), "error": str(exc)})
    found.seal()


def _put(publications: list[Publication], found: Log) -> None:
    group = found.group()
    for one in publications:
        count = int(one.headers.get("count", 0))
        if group.batch(found.book.reached, one.body, one.time, count, {}) is None:
            _write(group, found)
            group = found.group(roll=True)
            group.batch(found.book.reached, one.body, one.time, count, {})
    _write(group, found)


def _write(group: Group, found: Log) -> None:
    try:
        found.write(group)
    except OSError:
        found.reject(group)
        raise
    found.recycle(found.accept(group))
