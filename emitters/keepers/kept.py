"""Services that the agent's helper starts: it writes a file about each, and announces each change as it happens."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec

from emitters.keepers.watched import Watched
from exhaust.processes import Process

log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 16
_MOST_AT_ONCE = 64


class Told(msgspec.Struct, frozen=True):
    """What the helper says of a service; the rest of it is the helper's own affair."""

    name: str
    wanted: bool = True
    pid: int | None = None
    started: int | None = None
    exit: int | None = None

    @property
    def process(self) -> Process | None:
        return None if self.pid is None or self.started is None else Process(self.pid, self.started)


_told = msgspec.json.Decoder(Told).decode


class Kept(Watched):
    """A child of the helper, which alone starts it and knows how it ended."""

    provider = "kept"

    def learn(self, told: Told) -> None:
        """Take what the helper says."""
        self.want(wanted=told.wanted)
        process = told.process
        if process is not None and process != self._process:
            if self._is_newer(process):
                self._take(process)
                self._exit = told.exit
        elif self._pidfd is None and told.exit is not None:
            self._exit = told.exit


class News:
    """The helper's files, and the socket on which it announces the same. `tell` is called with each announcement."""

    def __init__(self, state: Path, tell: Callable[[Told], None], fail: Callable[[OSError], None]) -> None:
        self._state = state
        self._tell = tell
        self._fail = fail
        self._socket: socket.socket | None = None

    def read(self, name: str) -> Told | None:
        """Return what the helper's file says of a service, None if there is none."""
        with contextlib.suppress(FileNotFoundError):
            return self._read((self._state / "services" / f"{name}.json").read_bytes())
        return None

    def listen(self) -> None:
        """Bind the socket of announcements if it is not yet ours, unless another emitter hears them there."""
        if self._socket is not None:
            return
        path = self._state / "run" / "service.news"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as opened:
            ours = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
            os.fchmod(ours.fileno(), 0o600)  # what bind makes gets this mode: at no moment has it another
            try:
                ours.connect(str(path))
                return
            except FileNotFoundError:
                pass
            except ConnectionRefusedError:
                path.unlink()
            ours.bind(str(path))
            asyncio.get_running_loop().add_reader(ours, self._hear, ours)
            opened.pop_all()
        self._socket = ours

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _hear(self, ours: socket.socket) -> None:
        try:
            for _ in range(_MOST_AT_ONCE):
                told = self._read(ours.recv(_MOST_BYTES))
                if told is not None:
                    self._tell(told)
        except BlockingIOError:
            return
        except OSError as exc:  # of a callback the event loop would only log it
            self._fail(exc)

    @staticmethod
    def _read(text: bytes) -> Told | None:
        try:
            return _told(text)
        except msgspec.MsgspecError as exc:
            log.warning("what the helper says of a service cannot be read", extra={"error": str(exc)})
            return None
