"""A TCP proxy that can do to connections what networks do: cut them, swallow, slow and break off in the middle."""

import asyncio
import contextlib
import random
import socket
import struct
from types import TracebackType
from typing import Self

_READ = 1 << 16
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a reset instead of an orderly end
_BREAKS_WITHIN = 1.0
_HALF_A_FRAME = 0.02


class _Connection:
    """A client's connection and ours to the target; without one, or once `swallowing`, nothing is passed on."""

    def __init__(self, proxy: "Proxy", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._target: asyncio.StreamWriter | None = None
        self.swallowing = proxy.swallowing
        self.breaking = False

    async def run(self) -> None:
        if self.swallowing:
            await self._pump(self._reader, self._writer)
            return
        reader, self._target = await asyncio.open_connection("127.0.0.1", self._proxy.target)
        # Whichever side ends first ends both.
        tasks = [
            asyncio.create_task(self._pump(self._reader, self._target)),
            asyncio.create_task(self._pump(reader, self._writer)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ):
                if self.breaking:
                    writer.write(data[: max(1, len(data) // 2)])
                    await asyncio.sleep(_HALF_A_FRAME)  # a reset takes along what the other side has not read yet
                    return
                if not self.swallowing:
                    await self._proxy.forward(data, writer)

    def reset(self) -> None:
        for writer in filter(None, (self._writer, self._target)):
            transport = writer.transport
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            transport.abort()


class Proxy:
    """Listens on `port` of 127.0.0.1 for the port `target`. Open with `async with`."""

    def __init__(self, target: int, chance: random.Random) -> None:
        self.target = target
        self.port = 0
        self.accepted = 0
        self.swallowing = False
        self._chance = chance
        self._latency = (0.0, 0.0)
        self._piece = 0
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def cut(self) -> None:
        """Reset all connections, and refuse new ones until healed."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._drop(list(self._connections))

    def swallow(self) -> None:
        """Go on accepting, and pass nothing on any more, to either side: not on new connections either."""
        self.swallowing = True
        for connection in self._connections:
            connection.swallowing = True

    def slow(self, latency: tuple[float, float], piece: int) -> None:
        """Hold all that passes up by so many seconds, and hand it on in pieces of so many bytes."""
        self._latency, self._piece = latency, piece

    async def break_off(self) -> None:
        """Reset each connection in the middle of the next that passes through it; the quiet ones soon as well."""
        broken = list(self._connections)
        for connection in broken:
            connection.breaking = True
        if broken:
            await asyncio.wait([self._connections[one] for one in broken], timeout=_BREAKS_WITHIN)
        await self._drop([one for one in broken if one in self._connections])

    async def heal(self, *, forget: bool = False) -> None:
        """Carry everything again. What was swallowed is lost: such connections are reset, or forgotten for ever."""
        self._latency, self._piece, self.swallowing = (0.0, 0.0), 0, False
        if not forget:
            await self._drop([one for one in self._connections if one.swallowing])
        if self._server is None:
            await self._listen()

    async def forward(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Pass data on, as slowly as told."""
        if self._latency[1]:
            await asyncio.sleep(self._chance.uniform(*self._latency))
        piece = self._piece or len(data)
        for start in range(0, len(data), piece):
            writer.write(data[start : start + piece])
            await writer.drain()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = _Connection(self, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            await connection.run()
        except (OSError, asyncio.CancelledError):
            return  # the target is away, or we are; asyncio.streams would report a cancelled task as an error
        finally:
            del self._connections[connection]
            connection.reset()

    async def _drop(self, connections: list[_Connection]) -> None:
        tasks = [self._connections[one] for one in connections]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
