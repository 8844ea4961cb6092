"""The kernel asked for its sockets: all of them, or what has certain addresses and ports now."""

import asyncio
import errno
import itertools
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from emitters.kernel.netlink import DONE, ERROR, MalformedError, messages, refused
from emitters.sockets.diag import (
    FIN_WAIT2,
    INET,
    INET6,
    SOCK_DIAG_BY_FAMILY,
    TCP,
    TIME_WAIT,
    Socket,
    decode,
    dump,
    enquiry,
)

_PROTOCOL = 4  # NETLINK_SOCK_DIAG
MOST_SOCKETS = 50_000  # of one look: some 40 MB
_MOST_BYTES = 1 << 16
_AT_ONCE = 8  # datagrams of about 80 sockets each, before others get their turn


def opened() -> socket.socket:
    """Return a socket to ask with: what the kernel answers lies in it as soon as it has been asked."""
    found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _PROTOCOL)
    found.setblocking(False)
    return found


def unusable() -> str:
    """Say why the kernel does not list its connections here; nothing where it does."""
    try:
        with opened() as asked:
            asked.send(dump(INET, TCP))
            next(_answers(asked.recv(_MOST_BYTES), TCP, 1), None)
    except (OSError, MalformedError) as exc:
        return f"inet_diag: {_told(exc)}"
    return ""


@dataclass(slots=True)
class Look:
    """What one look found: the sockets, whether those are `all` there were, and why not, by protocol."""

    sockets: list[Socket] = field(default_factory=list)
    all: bool = True
    errors: dict[int, str] = field(default_factory=dict)


async def look(protocols: tuple[int, ...]) -> Look:
    """List the sockets of protocols, as far as the kernel does."""
    found = Look()
    for protocol in protocols:
        for family in (INET, INET6):
            try:
                with opened() as asked:
                    asked.send(dump(family, protocol))
                    await _take(asked, protocol, found)
            except (OSError, MalformedError) as exc:
                found.all = False
                found.errors[protocol] = _told(exc)
    return found


async def _take(asked: socket.socket, protocol: int, found: Look) -> None:
    for count in itertools.count(1):
        for one in _answers(asked.recv(_MOST_BYTES), protocol, 1):
            if one is None:
                return
            found.sockets.append(one)
        if len(found.sockets) >= MOST_SOCKETS:
            found.all = False
            return
        if count % _AT_ONCE == 0:
            await asyncio.sleep(0)


def _answers(data: bytes, protocol: int, sequence: int) -> Iterator[Socket | None]:
    """Yield the sockets of a datagram, None where it says that there are no more. Raises OSError as it says."""
    for message in messages(data):
        if message.seq != sequence:
            continue
        if message.kind == DONE:
            yield None
            return
        if message.kind == ERROR:
            refused(message.body)
        if message.kind == SOCK_DIAG_BY_FAMILY:
            yield decode(message.body, protocol)


class Enquiries:
    """Asks of single connections that have ended whether this end waits for strays (TIME_WAIT): it ended first."""

    def __init__(self, opening: ExitStack) -> None:
        self._socket = opening.enter_context(opened())
        self._sequence = 0

    def lingers(self, one: Socket) -> bool:
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        try:
            self._socket.send(enquiry(one, self._sequence))
            while True:
                for found in _answers(self._socket.recv(_MOST_BYTES), one.protocol, self._sequence):
                    return found is not None and found.state in (FIN_WAIT2, TIME_WAIT)
        except (OSError, MalformedError):  # ENOENT where there is none; otherwise nobody knows
            return False


def _told(exc: OSError | MalformedError) -> str:
    return errno.errorcode.get(exc.errno or 0, str(exc)) if isinstance(exc, OSError) else str(exc)
