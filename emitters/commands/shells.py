"""The unix socket to which the hooks of shells write what was typed; who writes there the kernel says."""

import asyncio
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from emitters.exits.pacct import tty_name
from emitters.exits.witnessed import look, text_of
from exhaust.plugins import Lost

log = logging.getLogger(__name__)

_CREDENTIALS = struct.Struct("=iII")
_MARK = b"exhaust/1"
_FIELDS = 8
_MOST_BYTES = 256 << 10  # of a field
_MOST_WAITING = 1000  # commands that nobody has taken yet; then shells wait, or give up by themselves
_MOST_SESSIONS = 256  # of a user, and eight times that of all
_BACKLOG = 128
_UNSET = 0xFFFFFFFF


class Typed(NamedTuple):
    """A line that was typed and has ended: times are epoch seconds; `session` holds what the kernel says of who did."""

    shell: str
    began: float
    ended: float
    exit: int
    cwd: str
    command: str
    session: dict[str, Any]


class Shells:
    """Listens at a path from `open` to `close`; calls `arrived` when there is something to take."""

    def __init__(self, path: Path, arrived: Callable[[], None]) -> None:
        self._path = path
        self._arrived = arrived
        self._found: asyncio.Queue[Typed | Lost] = asyncio.Queue(_MOST_WAITING)
        self._sessions: Counter[int] = Counter()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Raises OSError where the path cannot be had: somebody else may listen there."""
        listening = _bound(self._path)
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listening, limit=_MOST_BYTES, backlog=_BACKLOG
        )

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._path.unlink(missing_ok=True)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def take(self) -> Iterator[Typed | Lost]:
        """Yield what has come."""
        while not self._found.empty():
            yield self._found.get_nowait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a coroutine that the server runs as one
        self._tasks.add(task)
        pid, uid, _ = credentials(writer.get_extra_info("socket"))
        try:
            if self._sessions[uid] < _MOST_SESSIONS and self._sessions.total() < 8 * _MOST_SESSIONS:
                self._sessions[uid] += 1
                await self._read(reader, Session(pid, uid))
        except asyncio.CancelledError:
            pass  # closing: the server would log it as a failure
        finally:
            self._tasks.discard(task)
            self._sessions[uid] -= 1
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, session: "Session") -> None:
        while True:
            try:
                fields = [(await reader.readuntil(b"\0"))[:-1] for _ in range(_FIELDS)]
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            except asyncio.LimitOverrunError:
                await self._found.put(Lost("too_big", 1))
                self._arrived()
                return
            typed = _typed(fields, session)
            await self._found.put(typed or Lost("unusable", 1))
            self._arrived()
            if typed is None:
                return


class Session:
    """Who writes: `pid` is the shell itself or the process that passes on for it, as the kernel says."""

    def __init__(self, pid: int, uid: int) -> None:
        self._uid = uid
        seen = look(pid)
        self._pids = {pid, *([seen.ppid] if seen else [])}

    def facts(self, claimed: int) -> dict[str, Any]:
        """Return what is sure of a shell; its pid and what follows from that only where it is the one it says."""
        if claimed not in self._pids or (seen := look(claimed)) is None:
            return {"uid": self._uid}
        major, minor = os.major(seen.tty), os.minor(seen.tty)
        return {
            "uid": self._uid,
            "pid": claimed,
            "ppid": seen.ppid,
            **({"tty": tty_name(major, minor)} if seen.tty else {}),
            **login(claimed),
        }


def login(pid: int) -> dict[str, Any]:
    """Return as whom somebody logged in who then may have become another; nothing where nobody did."""
    try:
        found = int(text_of(pid, "loginuid"))
    except (OSError, ValueError):
        return {}
    return {} if found == _UNSET else {"login_uid": found}


def credentials(connected: socket.socket) -> tuple[int, int, int]:
    """Return the pid, user and group of who connected."""
    pid, uid, gid = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid, gid


def _typed(fields: list[bytes], session: Session) -> Typed | None:
    mark, shell, pid, began, ended, exit_, cwd, command = fields
    try:
        numbers = [int(one) for one in (pid, began, ended, exit_)]
    except ValueError:
        return None
    if mark != _MARK or not all(-(1 << 31) <= one < 1 << 53 for one in numbers):
        return None
    return Typed(
        _text(shell)[:16],
        numbers[1] / 1e6,
        numbers[2] / 1e6,
        numbers[3],
        _text(cwd),
        _text(command),
        session.facts(numbers[0]),
    )


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _bound(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if _answers(path):
            raise OSError(0, f"somebody else listens at '{path}'")
        with suppress(FileNotFoundError):
            path.unlink()
        listening.bind(str(path))
        path.chmod(0o666)  # whoever types
    except OSError:
        listening.close()
        raise
    return listening


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True
