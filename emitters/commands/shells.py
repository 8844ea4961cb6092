"""The unix socket to which the hooks of shells write what was typed; who writes there the kernel says."""

import asyncio
import os
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from emitters.exits.pacct import tty_name
from emitters.exits.witnessed import look, text_of
from emitters.listening.places import UnixPlace
from exhaust.clock import Clock
from exhaust.plugins import Lost

_CREDENTIALS = struct.Struct("=iII")
_MARK = b"exhaust/1"
_FIELDS = 8
_SHELLS = frozenset({b"bash", b"zsh"})
_MOST_BYTES = 80 << 10  # of a frame: hooks send at most 64 KiB of a line, and where it was typed
_AT_ONCE = 16 << 10
_UNFINISHED = 10.0  # seconds until the rest of a frame must have come
_MOST_WAITING = 4 << 20  # bytes that nobody has taken yet; then shells wait, or give up by themselves
_OVERHEAD = 1 << 10  # of what waits, about: what Python needs to hold it
_MOST_SESSIONS = 256  # of a user, and eight times that of all
_BACKLOG = 128
_DAY = 86400.0
_ASIDE = 1.0  # seconds by which two looks at the clock may differ
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
    """Listens at a path from `open` to `close`; calls `arrived` when there is something to take.

    Who has begun to say something has `patience` seconds for it. Nobody is heard while it is `full`.
    """

    def __init__(self, path: Path, clock: Clock, arrived: Callable[[], None], *, patience: float = _UNFINISHED) -> None:
        self._path = path
        self._place = UnixPlace(str(path), socket.SOCK_STREAM)
        self._clock = clock
        self._arrived = arrived
        self.patience = patience
        self._found: deque[tuple[Typed | Lost, int]] = deque()
        self._size = 0
        self.full = False
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._sessions: Counter[int] = Counter()
        self.buffer = memoryview(bytearray(_AT_ONCE))  # of whoever reads just now

    async def open(self) -> None:
        """Raises OSError where the path cannot be had: somebody else may listen there, or it is no socket."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        listening = self._place.take()
        self._server = await loop.create_unix_server(partial(_Link, self), sock=listening, backlog=_BACKLOG)

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._place.leave()
        for link in list(self._links):
            link.abort()
        while self._links:  # noqa: ASYNC110  each is told at the loop's next turn
            await asyncio.sleep(0)

    def take(self) -> Iterator[Typed | Lost]:
        """Yield what has come."""
        while self._found:
            found, size = self._found.popleft()
            self._size -= size
            yield found
        if self.full:
            self.full = False
            for link in self._links:
                link.resume()

    @property
    def sessions(self) -> int:
        """How many are connected."""
        return self._sessions.total()

    def admit(self, link: "_Link", uid: int) -> bool:
        """Say whether there is room for one more of a user; then it counts until it is `dismiss`ed."""
        if self._sessions[uid] >= _MOST_SESSIONS or self.sessions >= 8 * _MOST_SESSIONS:
            return False
        self._sessions[uid] += 1
        self._links.add(link)
        if self.full:
            link.pause()
        return True

    def dismiss(self, link: "_Link", uid: int) -> None:
        if link in self._links:
            self._links.remove(link)
            self._sessions[uid] -= 1
            if not self._sessions[uid]:
                del self._sessions[uid]

    def put(self, frame: list[bytes], session: "Session") -> bool:
        """Take in what a shell says; False if it is no command."""
        typed = _typed(frame, session, self._clock.now())
        self._keep(typed or Lost("unusable", 1), sum(map(len, frame)))
        return typed is not None

    def lose(self) -> None:
        """Take in that a frame was too big."""
        self._keep(Lost("too_big", 1), 0)

    def _keep(self, found: Typed | Lost, size: int) -> None:
        self._found.append((found, size + _OVERHEAD))
        self._size += size + _OVERHEAD
        if self._size >= _MOST_WAITING and not self.full:
            self.full = True
            for link in self._links:
                link.pause()
        self._arrived()


class _Link(asyncio.BufferedProtocol):
    """One connection, of which no more is kept than a frame that is not whole yet."""

    def __init__(self, shells: Shells) -> None:
        self._shells = shells
        self._uid = -1
        self._data = bytearray()
        self._ends = 0
        self._paused = False
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        pid, self._uid, _ = credentials(transport.get_extra_info("socket"))
        if not self._shells.admit(self, self._uid):
            self._transport.abort()
            return
        self._session = Session(pid, self._uid)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_longer()
        self._shells.dismiss(self, self._uid)

    def abort(self) -> None:
        self._transport.abort()

    def pause(self) -> None:
        """Hear no more for now; then it is not the shell that lets us wait."""
        if not self._paused:
            self._paused = True
            self._wait_no_longer()
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
            self._wait()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._shells.buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = self._shells.buffer[:nbytes].tobytes()
        self._ends += data.count(0)
        self._data += data
        while self._ends >= _FIELDS and not self._transport.is_closing():
            self._wait_no_longer()
            self._next()
        if len(self._data) > _MOST_BYTES and not self._transport.is_closing():
            self._shells.lose()
            self.abort()
        self._wait()

    def _next(self) -> None:
        """Pass a frame on; nothing more is to be heard where it is none."""
        *frame, self._data = self._data.split(b"\0", _FIELDS)
        self._ends -= _FIELDS
        if sum(map(len, frame)) > _MOST_BYTES:
            self._shells.lose()
            self.abort()
        elif not self._shells.put([bytes(field) for field in frame], self._session):
            self.abort()

    def _wait(self) -> None:
        """Give what has begun some time to come to its end."""
        if self._data and self._patience is None and not self._paused and not self._transport.is_closing():
            self._patience = asyncio.get_running_loop().call_later(self._shells.patience, self.abort)

    def _wait_no_longer(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


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


def _typed(fields: list[bytes], session: Session, now: float) -> Typed | None:
    mark, shell, pid, began, ended, exit_, cwd, command = fields
    try:
        numbers = [int(one) for one in (pid, began, ended, exit_)]
    except ValueError:
        return None
    if mark != _MARK or shell not in _SHELLS or not all(-(1 << 31) <= one < 1 << 53 for one in numbers):
        return None
    at = _times(numbers[1] / 1e6, numbers[2] / 1e6, now)
    return Typed(shell.decode(), *at, numbers[3], _text(cwd), _text(command), session.facts(numbers[0]))


def _times(began: float, ended: float, now: float) -> tuple[float, float]:
    """Return when a line began and ended as its shell says, where that can be; else when we heard of it.

    It was told of as soon as it had ended, but may have begun long ago.
    """
    if not now - _DAY <= ended <= now + _ASIDE:
        return now, now
    ended = min(ended, now)
    return (began if 0 <= began <= ended else ended), ended


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
