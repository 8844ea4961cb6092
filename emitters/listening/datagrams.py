"""Datagrams, of a unix socket or by UDP: each wake-up takes all that the kernel holds, and what it dropped is counted.

A unix socket drops nothing: whoever sends to it waits until there is room.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Mapping
from typing import Any

from emitters.listening.intake import Arrival, Intake
from emitters.listening.message import MOST_BYTES
from emitters.listening.places import UnixPlace, bound, drops, enlarge
from exhaust.clock import Clock
from exhaust.plugins import Lost

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 256
_LOOK_AGAIN = 10.0
_CREDENTIALS = struct.Struct("=iII")
_CONTROL = socket.CMSG_SPACE(_CREDENTIALS.size)  # no room for descriptors: the kernel closes what is sent along
_SCM_CREDENTIALS = 2  # which Python has no name for


class Datagrams:
    """What the listeners of datagrams have in common: reading them while there is room for what comes."""

    def __init__(self, name: str, intake: Intake, clock: Clock, *, wanted: bool) -> None:
        self.name = name
        self.wanted = wanted
        self._intake = intake
        self._clock = clock
        self._socket: socket.socket | None = None
        self._buffer = bytearray(MOST_BYTES + 1)
        self._failure: OSError | None = None
        self._reading = False

    async def open(self) -> None:
        self._failure = None
        self._socket = await self._bind()
        self._intake.add(self)

    async def _bind(self) -> socket.socket:
        raise NotImplementedError

    async def serve(self) -> None:
        while True:
            await self._clock.until(self._clock.now() + _LOOK_AGAIN)
            self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        if self._socket is not None:
            self._intake.remove(self)
            self._account(self._socket)
            self._socket.close()
            self._socket = None

    def pause(self) -> None:
        if self._reading and self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
        self._reading = False

    def resume(self) -> None:
        if self._socket is not None and self._failure is None:
            asyncio.get_running_loop().add_reader(self._socket, self._drain, self._socket)
            self._reading = True

    def _drain(self, ours: socket.socket) -> None:
        """Take what is there, yet not so much at once that nobody else has a turn."""
        received, buffers, buffer = self._clock.now(), [self._buffer], memoryview(self._buffer)
        try:
            for _ in range(_MOST_AT_ONCE):
                size, ancillary, _, address = ours.recvmsg_into(buffers, _CONTROL)
                cut = size > MOST_BYTES
                data = bytes(buffer[: MOST_BYTES if cut else size])
                self._intake.put(Arrival(data, cut, received, self._origin(ancillary, address)))
                if not self._reading:
                    break
        except BlockingIOError:
            pass
        except OSError as exc:  # of a callback the event loop would only log it
            self._failure = exc
            self.pause()
        self._account(ours)

    def _origin(self, ancillary: list[tuple[int, int, bytes]], address: Any) -> Mapping[str, Any]:
        raise NotImplementedError

    def _account(self, ours: socket.socket) -> None:
        """Tell of what the kernel has dropped since it was last asked."""


class UnixDatagrams(Datagrams):
    """What programs of this host send, each datagram with its sender's credentials as the kernel knows them."""

    def __init__(self, path: str, intake: Intake, clock: Clock, *, wanted: bool = True) -> None:
        super().__init__("unix", intake, clock, wanted=wanted)
        self._place = UnixPlace(path, socket.SOCK_DGRAM)

    async def _bind(self) -> socket.socket:
        ours = self._place.take()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return ours

    def _check(self) -> None:
        super()._check()
        if not self._place.ours:
            raise OSError("somebody has removed or replaced its socket")

    async def close(self) -> None:
        await super().close()
        self._place.leave()

    def _origin(self, ancillary: list[tuple[int, int, bytes]], address: Any) -> Mapping[str, Any]:
        for level, kind, data in ancillary:
            if (level, kind, len(data)) == (socket.SOL_SOCKET, _SCM_CREDENTIALS, _CREDENTIALS.size):
                pid, uid, gid = _CREDENTIALS.unpack(data)
                return credited("unix", pid, uid, gid)
        return {"transport": "unix"}


class UdpDatagrams(Datagrams):
    """What comes by UDP, with the address that it says it is from."""

    def __init__(self, address: str, buffer: int, intake: Intake, clock: Clock) -> None:
        super().__init__("udp", intake, clock, wanted=True)
        self._address = address
        self._size = buffer
        self._dropped = 0

    async def _bind(self) -> socket.socket:
        ours = await bound(self._address, socket.SOCK_DGRAM)
        self._dropped = 0
        if (size := enlarge(ours, self._size)) < self._size:
            log.info("receive buffer is smaller than asked for", extra={"bytes": size, "asked": self._size})
        return ours

    def _origin(self, ancillary: list[tuple[int, int, bytes]], address: Any) -> Mapping[str, Any]:
        return {"transport": "udp", "peer": plain(address[0])}

    def _account(self, ours: socket.socket) -> None:
        dropped = drops(ours)
        if lost := (dropped - self._dropped) % (1 << 32):
            self._dropped = dropped
            self._intake.put(Lost("kernel", lost))


def credited(transport: str, pid: int, uid: int, gid: int) -> Mapping[str, Any]:
    """Return what is known of a peer by its credentials; a process that is not in our view has no pid here."""
    found = {"transport": transport, "peer_uid": uid, "peer_gid": gid}
    return {**found, "peer_pid": pid} if pid > 0 else found


def plain(address: str) -> str:
    """Return an address; one of IPv4 that came through a socket of IPv6 as what it is."""
    return address.removeprefix("::ffff:")
