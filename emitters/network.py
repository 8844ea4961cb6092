"""What goes over the network: connections that are there and that have ended, and probes of what should answer."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, aclosing
from functools import partial
from types import TracebackType
from typing import Annotated, Any, Literal, Self

import msgspec

from emitters.measures.users import Users
from emitters.probing.probe import Probe
from emitters.probing.probes import PROBE, Probes
from emitters.probing.resolving import Resolver
from emitters.sockets import asking, flows, owners
from emitters.sockets.connections import CONNECTION, Connections
from emitters.sockets.diag import TCP, UDP
from emitters.sockets.flows import FLOW, Announced, Subscribe
from emitters.sockets.table import Table
from exhaust.clock import Clock
from exhaust.plugins import Emitter, Fields, Lost, Record, Settings
from exhaust.settings import Duration

log = logging.getLogger(__name__)

StreamName = Literal["connection", "flow", "probe"]

STREAMS: Mapping[str, Fields] = {"connection": CONNECTION, "flow": FLOW, "probe": PROBE}
_WAITING = 256  # records; more wait where they come from


class Network(Settings, frozen=True):
    """What to look at: `probes`, and every so often all sockets of this network namespace.

    Stream `flow` has the end of each TCP connection; looks tell it whose they were, and are all it has where the kernel
    does not announce ends: what begins and ends between two looks is not seen then. Stream `connection` is on request:
    it has all sockets of each look, so its records are many; of more than `most` sockets, those that moved most bytes
    since the last look have one, and the others are counted (`left_out`). Of the ends that are announced within
    a second, those beyond 2,000 are counted as lost: `too_many`.
    """

    every: Annotated[Duration, msgspec.Meta(ge=1.0)] = 30.0
    streams: Annotated[tuple[StreamName, ...], msgspec.Meta(min_length=1)] = ("flow", "probe")
    most: Annotated[int, msgspec.Meta(ge=10, le=5000)] = 1000
    probes: tuple[Probe, ...] = ()

    def __post_init__(self) -> None:
        names = [probe.name for probe in self.probes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"probe {twice[0]!r} is given twice")
        if self.probes and "probe" not in self.streams:
            raise ValueError("'probes' belongs to stream 'probe', which 'streams' does not name")


class _Observer:
    """All that is looked at goes into one queue, which holds up who fills it. Open it with `async with`."""

    def __init__(self, settings: Network, clock: Clock, resolver: Resolver, subscribe: Subscribe) -> None:
        self._settings = settings
        self._clock = clock
        self._resolver = resolver
        self._subscribe = subscribe
        self._users = Users()
        self._opened = ExitStack()
        self._found: asyncio.Queue[Record | Lost | None] = asyncio.Queue(_WAITING)
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        with ExitStack() as opening:
            sources = self._sources(opening)
            self._opened = opening.pop_all()
        self._tasks = [asyncio.create_task(self._gather(source), name="network") for source in sources]
        for task in self._tasks:
            task.add_done_callback(self._done)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._opened.close()

    async def next(self) -> Record | Lost:
        """Wait for the next that there is to tell."""
        while (found := await self._found.get()) is None or self._failure is not None:
            if self._failure is not None:
                raise self._failure
        return found

    def _sources(self, opening: ExitStack) -> Sequence[AsyncGenerator[Record | Lost]]:
        settings, clock = self._settings, self._clock
        probes = Probes(clock, self._resolver, len(settings.probes))
        sources: list[AsyncGenerator[Any]] = [probes.records(probe) for probe in settings.probes]
        if "connection" in settings.streams or "flow" in settings.streams:
            table = Table((TCP, UDP) if "connection" in settings.streams else (TCP,), opening)
            announced = self._announced(table, opening) if "flow" in settings.streams else None
            sources.append(self._looks(table, announced))
            if announced is not None:  # from before the first look on: what ends meanwhile is known
                sources.append(announced.records())
        return sources

    def _announced(self, table: Table, opening: ExitStack) -> Announced | None:
        try:
            return Announced(table, self._users, self._clock, opening, self._subscribe)
        except OSError as exc:
            log.warning("ends of connections are not announced: looks are compared", extra={"error": exc.strerror})
            return None

    async def _looks(self, table: Table, announced: Announced | None) -> AsyncGenerator[Record | Lost]:
        compare = "flow" in self._settings.streams and announced is None
        connections = Connections(self._settings.most, self._users)
        async for now in self._clock.every(self._settings.every):
            self._users.refresh()
            over = await table.look(now)
            if announced is not None:  # of a flood that has ended, no announcement would tell any more
                for lost in announced.left_out():
                    yield lost
            for one in over if compare else ():
                yield Record(now, flows.told(one, table, self._users, now), "flow")
            if "connection" in self._settings.streams:
                for fields in connections.tell(table):
                    yield Record(now, fields, "connection")

    async def _gather(self, source: AsyncGenerator[Record | Lost]) -> None:
        async with aclosing(source):
            async for found in source:
                await self._found.put(found)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
            if not self._found.full():
                self._found.put_nowait(None)


async def emit(
    settings: Network, clock: Clock, positions: Mapping[str, Any], *, resolver: Resolver, subscribe: Subscribe
) -> AsyncIterator[Record | Lost]:
    async with _Observer(settings, clock, resolver, subscribe) as observer:
        while True:
            yield await observer.next()


def sources() -> Mapping[str, str]:
    """Return the ways to see connections, each with why it cannot be used here, if it cannot."""
    return {
        "announced ends of connections": flows.unusable(),
        "looks at all connections": asking.unusable(),
        "owners of all connections": owners.unusable(),
    }


EMITTER = Emitter(
    "network",
    Network,
    partial(emit, resolver=Resolver(), subscribe=flows.subscribed),
    STREAMS,
    sources=sources,
    # Whoever can reach this host makes as many flows as he likes: they must not crowd out what tells who did what.
    keeps="logs",
)
