"""A socket on which the kernel announces things: drained whenever it has news, and what was dropped is counted."""

import asyncio
import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

Instruction = tuple[int, int, int, int]  # of classic BPF: code, jump if true, jump if false, operand

_SO_RCVBUFFORCE, _SO_ATTACH_FILTER, _SO_MEMINFO = 33, 26, 55  # asm-generic; Python names the first only since 3.12
_MEMINFO = struct.Struct("=9I")
_DROPS = 8
_BUFFER = 8 << 20
_MOST_BYTES = 1 << 16  # of a datagram
_MOST_WAITING = 4 << 20  # bytes that are taken in before they are asked for; the rest waits in the kernel
_MOST_AT_ONCE = 1000


class Channel:
    """Takes in what arrives until it is closed, and calls `arrived`; what is not asked for soon waits in the kernel.

    To wake up costs more than to read. So with `rest`, whoever can wait lets announcements gather: after it was
    drained, the socket is left alone for so many seconds, and drained again.
    """

    def __init__(self, opened: socket.socket, arrived: Callable[[], None], *, rest: float = 0.0) -> None:
        self._socket = opened
        self._fd = opened.fileno()
        self._arrived = arrived
        self._rest = rest
        self._resting: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: list[bytes] = []
        self._size = 0
        self._full = False
        self._overruns = 0
        self._told = self._dropped()
        opened.setblocking(False)
        self._listen()

    def take(self) -> list[bytes]:
        """Return the datagrams that have come since the last call, up to now."""
        if not self._full:
            self._fill()
        taken, self._waiting, self._size = self._waiting, [], 0
        if self._full:
            self._full = False
            self._listen()
        return taken

    def lost(self) -> int:
        """Return how many datagrams the kernel has dropped since the last call, for want of room."""
        before, self._told = self._told, self._dropped()
        return (self._told - before) % (1 << 32)

    def send(self, datagram: bytes) -> None:
        self._socket.sendto(datagram, (0, 0))

    def close(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._fd)
        self._socket.close()

    def _listen(self) -> None:
        self._resting = None
        self._loop.add_reader(self._fd, self._drain)

    def _drain(self) -> None:
        self._fill()
        if self._rest and not self._full:
            self._loop.remove_reader(self._fd)
            self._resting = self._loop.call_later(self._rest, self._listen)
        self._arrived()

    def _fill(self) -> None:
        # Until nothing is left: once it has dropped one, the kernel drops all until the queue was empty.
        for _ in range(_MOST_AT_ONCE):
            try:
                datagram = self._socket.recv(_MOST_BYTES)
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    log.warning("the kernel's announcements cannot be read", extra={"error": str(exc)})
                    self._loop.remove_reader(self._fd)
                    break
                self._overruns += 1
                continue
            self._waiting.append(datagram)
            self._size += len(datagram)
            if self._size >= _MOST_WAITING:
                self._full = True
                self._loop.remove_reader(self._fd)
                break

    def _dropped(self) -> int:
        try:
            return int(_MEMINFO.unpack(self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[_DROPS])
        except (OSError, struct.error):  # before Linux 4.12: each time that it told of some counts as one
            return self._overruns


def widen(opened: socket.socket) -> None:
    """Give a socket the room for a burst: as much as root may have, else as much as everybody may."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)


def only(opened: socket.socket, program: Sequence[Instruction]) -> None:
    """Let the kernel pass on only what a program of classic BPF accepts; the rest neither wakes us nor takes room."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(code, len(code))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(held)))
