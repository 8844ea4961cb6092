"""What the emitter of the network yields while a test goes on, and connections to be seen by it."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest

from emitters.network import STREAMS, Network, StreamName, emit
from emitters.probing.resolving import Resolver
from emitters.sockets import flows
from emitters.sockets.flows import Subscribe
from exhaust.clock import SystemClock
from exhaust.plugins import Lost, Record

WITHIN = 30.0
BYTES = 123_456
FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1")]

announced = pytest.mark.skipif(
    bool(os.geteuid() and flows.unusable()), reason="this kernel announces ends only to root: run the tests as root"
)


class Observed:
    """What the emitter yields while a test goes on."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.lost: list[Lost] = []
        self.changed = asyncio.Condition()

    async def take(self, found: AsyncGenerator[Record | Lost]) -> None:
        async with aclosing(found):
            async for one in found:
                if isinstance(one, Record):
                    assert set(one.fields) <= set(STREAMS[one.stream])
                    self.records.append(one)
                else:
                    self.lost.append(one)
                async with self.changed:
                    self.changed.notify_all()

    async def until(self, met: Callable[[], Any]) -> Any:
        async with asyncio.timeout(WITHIN), self.changed:
            return await self.changed.wait_for(met)

    def of(self, local: int, remote: int, stream: str = "flow") -> dict[str, Any] | None:
        """Return the last record of a connection by its ports."""
        ports = local, remote
        found = [one.fields for one in self.records if one.stream == stream]
        ours = [one for one in found if (one["local_port"], one.get("remote_port")) == ports]
        return ours[-1] if ours else None

    def accounts_for(self, count: int) -> bool:
        """Whether so many are told or lost. The kernel has several workers for it: they come in any order."""
        return len(self.records) + sum(lost.count for lost in self.lost) >= count

    async def end(self, local: int, remote: int) -> dict[str, Any]:
        """Wait for the end of a connection."""
        return cast("dict[str, Any]", await self.until(lambda: self.of(local, remote)))


@asynccontextmanager
async def observing(
    *streams: StreamName, subscribe: Subscribe = flows.subscribed, every: float = 1.0
) -> AsyncIterator[Observed]:
    observed, settings = Observed(), Network(streams=streams, every=every)
    found = emit(settings, SystemClock(), {}, resolver=Resolver(), subscribe=subscribe)
    task = asyncio.create_task(observed.take(cast("AsyncGenerator[Record | Lost]", found)))
    try:
        await asyncio.sleep(0)  # it subscribes before it first waits for anything
        yield observed
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


def connected(family: int, host: str) -> tuple[socket.socket, socket.socket]:
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        client = socket.socket(family)
        client.connect(listener.getsockname())
        return client, listener.accept()[0]
