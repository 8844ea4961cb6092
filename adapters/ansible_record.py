"""One run of ansible under its key: what was ordered, which process began it, how it ended, and what is left of it."""

import os
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil

from exhaust.errors import AdapterError
from exhaust.processes import Process, find

MARK = "EXHAUST_ANSIBLE"  # in the environment of all processes of a run, with its folder
_REMEMBER = 24 * 3600.0
_END_WITHIN = 2.0


class Order(msgspec.Struct, frozen=True):
    """What is to be run: a playbook's file with its variables, or a module with its arguments.

    `until` is when it is cut off, in seconds of the monotonic clock, which is the same for all processes.
    """

    values: dict[str, Any]
    until: float
    playbook: str | None = None
    module: str | None = None
    inventory: str | None = None
    host: str | None = None
    python: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """How it ended; `reason` says why where it was not successful. `stats` is ansible's: what happened how often.

    `events` are the last ones, 64 KiB at most: `{event, time, host, task, result}`, or `{event, text}`.
    """

    status: Literal["successful", "failed", "unreachable", "timeout", "canceled"]
    rc: int | None = None
    stats: dict[str, dict[str, int]] = {}
    events: list[dict[str, Any]] = []
    reason: str = ""


class Begun(msgspec.Struct, frozen=True):
    """Which process is at it."""

    pid: int
    started: int


class Record:
    """The files of one run. All methods block: call them in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.run = folder / "run"
        self._order = folder / "order.json"
        self._begun = folder / "begun.json"
        self._outcome = folder / "outcome.json"

    # Who orders

    def prepare(self, order: Order) -> None:
        """Keep what is to be done, for the process that will do it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self._order, msgspec.json.encode(order))

    def look(self) -> Outcome | Process | None:
        """Return how it ended, else which process is at it; None if it was never begun.

        Raises AdapterError where it was begun, and whoever was at it is gone without a word.
        """
        unknown = f"begun before, and its end is unknown: see {self.folder}"
        try:
            for _ in range(2):  # it may end between our looking for the end and for the process
                outcome: Outcome | None = _read(self._outcome, Outcome)
                if outcome is not None:
                    return outcome
                begun: Begun | None = _read(self._begun, Begun)
                if begun is None:
                    return None
                process = Process(begun.pid, begun.started)
                if process.alive and self.marks(begun.pid):
                    return process
        except msgspec.MsgspecError as exc:
            raise AdapterError(unknown, known=False) from exc
        raise AdapterError(unknown, known=False)

    def marks(self, pid: int) -> bool:
        """Whether a process belongs to this run."""
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return f"{MARK}={self.folder}".encode() in environment.split(b"\0")

    # Who does it

    def order(self) -> Order:
        return msgspec.json.decode(self._order.read_bytes(), type=Order)

    def begin(self) -> bool:
        """Be the process that does it, durably; False if another was before us."""
        own = find(os.getpid())
        assert own is not None, "we run"  # noqa: S101  a fault of ours
        draft = self.folder / f"begun.{own.pid}"
        _write(draft, msgspec.json.encode(Begun(own.pid, own.started)))
        try:
            os.link(draft, self._begun)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        for folder in (self.folder, self.folder.parent, self.folder.parent.parent):
            _sync(folder)
        return True

    def end(self, outcome: bytes, *, tidy: bool) -> None:
        """Keep how it ended, durably; drop what it was done with, values and all: `tidy` where nobody needs it."""
        _write(self._outcome, outcome)
        _sync(self.folder)
        self._order.unlink(missing_ok=True)
        shutil.rmtree(self.run if tidy else self.run / "env", ignore_errors=True)


def prune(root: Path, now: float) -> None:
    """Drop the records of runs that nobody can ask for again: a day old, and not under way."""
    for folder in root.glob("*"):
        record = Record(folder)
        try:
            old = folder.stat().st_mtime < now - _REMEMBER
            if old and not isinstance(record.look(), Process):
                shutil.rmtree(folder, ignore_errors=True)
        except AdapterError:
            shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:  # another was quicker
            continue


def remains(record: Record, keeper: int | None = None) -> list[psutil.Process]:
    """Return the processes of a run that are alive, less the `keeper`: all below it, and all that bear the mark."""
    found = {process.pid: process for process in psutil.process_iter() if record.marks(process.pid)}
    if keeper is not None:
        found |= {process.pid: process for process in psutil.Process(keeper).children(recursive=True)}
        found.pop(keeper, None)
    return [process for process in found.values() if _lives(process)]


def end_all(record: Record, keeper: int | None = None) -> bool:
    """End by force all that a run has started, wherever it moved to; False if something is left after 2 s.

    Its workers lead sessions of their own: no process group holds them all.
    """
    until = time.monotonic() + _END_WITHIN
    while left := remains(record, keeper):
        for process in left:
            try:
                process.kill()
            except psutil.Error:
                continue
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return False


def _read(path: Path, type_: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except FileNotFoundError:
        return None


def _write(path: Path, body: bytes) -> None:
    draft = path.with_name(f"{path.name}.draft.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(fd)
    draft.rename(path)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
