"""Which processes were told of: kept in a file, so that their ends are told also if the emitter was not there."""

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Known(msgspec.Struct):
    """A process from when it was first seen until its end.

    `names` are those by which it was told of, none before it was; `noted` is the look at which it last was among the
    busiest, 0 if it never was.
    """

    pid: int
    started: int
    nice_at_start: int
    names: tuple[str, ...] = ()
    noted: int = 0


class _Kept(msgspec.Struct):
    boot: str
    processes: list[Known]


class Told:
    """The file, read once and written whole at each change. Without a path, or if it cannot be used, none is kept.

    `former` is what the file was called once: who comes first has it.
    """

    def __init__(self, path: Path | None, boot: Path = _BOOT, former: Path | None = None) -> None:
        self._path = path
        self._former = former
        self._boot = boot.read_text().strip()
        self._error = ""

    def recall(self) -> tuple[list[Known], list[Known]]:
        """Return the processes that may still be there, and those that ended with an earlier run of the machine."""
        if self._path is None:
            return [], []
        if self._former is not None and not self._path.exists():
            with contextlib.suppress(OSError):
                self._former.rename(self._path)
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return [], []
        except (OSError, msgspec.MsgspecError) as exc:
            log.warning("which processes were told of cannot be read", extra={"path": self._path, "error": str(exc)})
            return [], []
        return (kept.processes, []) if kept.boot == self._boot else ([], kept.processes)

    def keep(self, processes: Sequence[Known]) -> None:
        """Write them down. Not synced: a crash of the machine ends them all, and an older file says that, too."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self._path.with_suffix(".new")
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, 0o600)  # one that a crash left behind may be open to all
                file.write(msgspec.json.encode(_Kept(self._boot, list(processes))))
            draft.replace(self._path)
            error = ""
        except OSError as exc:  # a full disk is no reason to stop observing
            error = str(exc)
        if error and error != self._error:
            log.warning("which processes were told of cannot be kept", extra={"path": self._path, "error": error})
        self._error = error
