"""Where to hear: unix sockets, of which stale ones are replaced and served ones never, and network addresses."""

import asyncio
import errno
import os
import socket
import stat
import struct
from contextlib import ExitStack, suppress
from pathlib import Path

_MOST_PATH = 107
_RCVBUFFORCE = 33  # SO_RCVBUFFORCE: Python has no name for it, nor for the next
_MEMINFO = 55  # SO_MEMINFO: nine numbers, of which the last is what was dropped
_DROPS = struct.Struct("=9I")


def address_of(text: str) -> tuple[str, int]:
    """Return host and port of `host:port`, `[::1]:514`, or `:514` for every address. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"expected host:port such as 0.0.0.0:514 or [::]:514, got {text!r}")
    if not colon or not port.isdecimal() or not port.isascii() or int(port) > 65535:
        raise ValueError(f"expected host:port such as 0.0.0.0:514 or [::]:514, got {text!r}")
    return host or "0.0.0.0", int(port)  # noqa: S104  who leaves the host out asks for that


def path_of(text: str) -> str:
    """Return the path of a unix socket. Raises ValueError where no socket can be there."""
    if not text.startswith("/") or "\0" in text or len(os.fsencode(text)) > _MOST_PATH:
        raise ValueError(f"expected an absolute path of at most {_MOST_PATH} bytes, got {text!r}")
    return text


class UnixPlace:
    """A path, and the socket that is ours there once it is taken."""

    def __init__(self, path: str, kind: socket.SocketKind) -> None:
        self._path = Path(path)
        self._kind = kind
        self._inode: tuple[int, int] | None = None

    def take(self) -> socket.socket:
        """Bind a socket that everybody may write to. Raises OSError, also where somebody else hears there."""
        self._clear()
        with ExitStack() as opened:
            ours = opened.enter_context(socket.socket(socket.AF_UNIX, self._kind | socket.SOCK_NONBLOCK))
            ours.bind(str(self._path))
            self._path.chmod(0o666)
            self._inode = self._identity()
            opened.pop_all()
        return ours

    @property
    def ours(self) -> bool:
        """Whether what is at the path is still what was bound there."""
        return self._inode is not None and self._identity() == self._inode

    def leave(self) -> None:
        """Remove the socket, unless somebody has put another there."""
        with suppress(OSError):
            if self.ours:
                self._path.unlink()
        self._inode = None

    def _identity(self) -> tuple[int, int] | None:
        with suppress(OSError):
            found = self._path.lstat()
            return (found.st_dev, found.st_ino)
        return None

    def _clear(self) -> None:
        """Remove a socket that nobody serves any more."""
        if unserved(str(self._path), self._kind):
            self._path.unlink()


def unserved(path: str, kind: socket.SocketKind = socket.SOCK_DGRAM) -> bool:
    """Tell whether a stale socket is at the path. Raises OSError where one is served, or something else is there."""
    with socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK) as asking:
        try:
            asking.connect(path)
        except FileNotFoundError:
            return False
        except ConnectionRefusedError:
            if not stat.S_ISSOCK(Path(path).lstat().st_mode):
                raise FileExistsError(errno.EEXIST, f"{path} is there and is no socket") from None
            return True
        except BlockingIOError:
            pass  # it is so busy that it takes no more
        except OSError as exc:
            if exc.errno != errno.EPROTOTYPE:
                raise
    raise OSError(errno.EADDRINUSE, f"{path} is served by another process")


async def bound(address: str, kind: socket.SocketKind) -> socket.socket:
    """Return a socket that is bound to `host:port`. Raises OSError."""
    host, port = address_of(address)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    except UnicodeError as exc:
        raise OSError(errno.EINVAL, f"{host} is no name of a host") from exc
    family, _, _, _, place = found[0]
    with ExitStack() as opened:
        ours = opened.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK))
        if kind == socket.SOCK_STREAM:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.bind(place)
        opened.pop_all()
    return ours


def enlarge(ours: socket.socket, size: int) -> int:
    """Ask for a receive buffer, as root beyond what the host allows to others; return what there is of it."""
    try:
        ours.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, size)
    except PermissionError:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    return ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel doubles it, for its own accounts


def drops(ours: socket.socket) -> int:
    """Return how many datagrams the kernel has dropped at a socket so far, modulo 2³².

    It is the counter that SO_RXQ_OVFL sends along with the datagrams that come through: asked for, it is exact also
    while none does, after the last one of a burst.
    """
    return int(_DROPS.unpack(ours.getsockopt(socket.SOL_SOCKET, _MEMINFO, _DROPS.size))[8])
