"""Connections, by TCP or a unix socket: a bounded number of them, each with a bounded buffer and not idle for ever."""

import asyncio
import logging
import socket
import struct
from collections.abc import Mapping
from typing import Any, cast

from emitters.listening.datagrams import credited, plain
from emitters.listening.framing import Framing
from emitters.listening.intake import Arrival, Intake
from emitters.listening.message import MOST_BYTES
from emitters.listening.places import UnixPlace, bound
from exhaust.clock import Clock

log = logging.getLogger(__name__)

_LOOK_AGAIN = 10.0
_CREDENTIALS = struct.Struct("=iII")
_MOST_AT_ONCE = 16 << 10  # of one connection: it may be as many messages as every second octet ends one


class Connections:
    """What the listeners of connections have in common: at most `most` have a place, each until it is `idle`.

    One sender, by its address or its user, has at most a quarter of the places. Who comes when all are taken, or all of
    its own, has that of the connection which was silent for longest.
    """

    def __init__(self, name: str, intake: Intake, clock: Clock, *, most: int, idle: float) -> None:
        self.name = name
        self.wanted = True
        self._intake = intake
        self._clock = clock
        self._most = most
        self._idle = idle
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._places: dict[Connection, Any] = {}  # of those that are to stay, each with its sender
        self._put_out = 0
        self.buffer = bytearray(_MOST_AT_ONCE)  # of whoever reads just now

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=await self._bind())

    async def _bind(self) -> socket.socket:
        raise NotImplementedError

    def _connection(self) -> asyncio.BaseProtocol:
        raise NotImplementedError

    async def serve(self) -> None:
        while True:
            await self._clock.until(self._clock.now() + min(_LOOK_AGAIN, self._idle / 2))
            self._check()

    def _check(self) -> None:
        latest = asyncio.get_running_loop().time() - self._idle
        for connection in [one for one in self._places if one.heard < latest and not one.paused]:
            self._end(connection)
        if self._put_out:
            log.warning("silent connections were put out", extra={"source": self.name, "number": self._put_out})
            self._put_out = 0

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.abort()
            await self._server.wait_closed()
            while self._connections:  # noqa: ASYNC110  each is told at the loop's next turn
                await asyncio.sleep(0)
            self._server = None

    def admit(self, connection: "Connection") -> bool:
        """Tell whether there is a place for another one; then it counts until it is `dismiss`ed."""
        own = [one for one, sender in self._places.items() if sender == connection.sender]
        rivals = own if len(own) >= max(1, self._most // 4) else list(self._places)
        if rivals is own or len(rivals) >= self._most:
            if self._intake.full:  # then it is we who are silent, and what they have said is not read
                self._put_out += 1
                return False
            self._end(min(rivals, key=lambda one: one.heard))
        self._connections.add(connection)
        self._places[connection] = connection.sender
        return True

    def dismiss(self, connection: "Connection") -> None:
        self._connections.discard(connection)
        self._places.pop(connection, None)

    def _end(self, connection: "Connection") -> None:
        self._put_out += 1
        del self._places[connection]  # at once: it is told of its end only at the loop's next turn
        connection.abort()

    def put(self, data: bytes, origin: Mapping[str, Any], *, cut: bool) -> None:
        self._intake.put(Arrival(data, cut, self._clock.now(), origin))


class Connection(asyncio.BufferedProtocol):
    """One sender. `heard` is when it last said something, by the event loop's time; `paused` one cannot be heard."""

    def __init__(self, owner: Connections, intake: Intake, *, counted: bool) -> None:
        self._owner = owner
        self._intake = intake
        self._counted = counted
        self._framing = Framing(MOST_BYTES, counted=counted)
        self._origin: Mapping[str, Any] = {}
        self._transport: asyncio.Transport | None = None
        self.heard = 0.0
        self.paused = False

    @property
    def sender(self) -> Any:
        """Whose it is: the peer's address, or its user's number; None where neither is known."""
        return self._origin.get("peer", self._origin.get("peer_uid"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        come = cast("asyncio.Transport", transport)  # of a socket: the interface knows pipes as well
        self.heard = asyncio.get_running_loop().time()
        self._origin = origin_of(come.get_extra_info("socket"), come.get_extra_info("peername"))
        if not self._owner.admit(self):
            come.abort()
            return
        self._transport = come
        self._intake.add(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.heard = asyncio.get_running_loop().time()
        data = bytes(self._owner.buffer[:nbytes])
        if not self._counted:
            data = data.replace(b"\0", b"\n")  # with either the C library's syslog() ends a message on a stream
        for frame in self._framing.feed(data):
            self._owner.put(frame.data, self._origin, cut=frame.cut)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._intake.remove(self)
        self._transport = None
        self._owner.dismiss(self)
        for frame in self._framing.end():
            self._owner.put(frame.data, self._origin, cut=frame.cut)

    def pause(self) -> None:
        if self._transport is not None:
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self.paused = False
            self.heard = asyncio.get_running_loop().time()  # it was we who did not listen
            self._transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def origin_of(ours: socket.socket, peer: Any) -> Mapping[str, Any]:
    """Return what is known of a connection's other end: its credentials (SO_PEERCRED, unix(7)), or its address."""
    if ours.family == socket.AF_UNIX:
        found = ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return credited("unix_stream", *_CREDENTIALS.unpack(found))
    return {"transport": "tcp", "peer": plain(peer[0])} if peer else {"transport": "tcp"}


class TcpConnections(Connections):
    """Messages by TCP, counted or in lines."""

    def __init__(self, address: str, intake: Intake, clock: Clock, *, most: int, idle: float) -> None:
        super().__init__("tcp", intake, clock, most=most, idle=idle)
        self._address = address

    async def _bind(self) -> socket.socket:
        return await bound(self._address, socket.SOCK_STREAM)

    def _connection(self) -> asyncio.BaseProtocol:
        return Connection(self, self._intake, counted=True)


class UnixConnections(Connections):
    """Messages by a unix socket of streams, in lines."""

    def __init__(self, path: str, intake: Intake, clock: Clock, *, most: int, idle: float) -> None:
        super().__init__("unix_stream", intake, clock, most=most, idle=idle)
        self._place = UnixPlace(path, socket.SOCK_STREAM)

    async def _bind(self) -> socket.socket:
        return self._place.take()

    def _connection(self) -> asyncio.BaseProtocol:
        return Connection(self, self._intake, counted=False)

    def _check(self) -> None:
        super()._check()
        if not self._place.ours:
            raise OSError("somebody has removed or replaced its socket")

    async def close(self) -> None:
        await super().close()
        self._place.leave()
