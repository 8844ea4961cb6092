"""How busy this host is: as a whole, its file systems, its network interfaces, and its busiest processes."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec

from emitters.filesystems import FILESYSTEM, Asking, Filesystems
from emitters.interfaces import NETWORK, Interfaces
from emitters.processes import PROCESS, Processes
from emitters.system import SYSTEM, System
from emitters.told import Told
from exhaust.clock import Clock
from exhaust.plugins import Emitter, Fields, Record, Settings
from exhaust.settings import Duration

_PATIENCE = 1.0  # at most, and never so long that the next beat would be late

StreamName = Literal["system", "filesystem", "network", "process"]
Patterns = tuple[Annotated[str, msgspec.Meta(min_length=1)], ...]

STREAMS: Mapping[str, Fields] = {
    "system": SYSTEM,
    "filesystem": FILESYSTEM,
    "network": NETWORK,
    "process": PROCESS,
}


class Performance(Settings, frozen=True):
    """How often to look, and at what.

    `process` is on request: it costs more than the others together, since it reads a file of every process, and sends
    `most` records each time where the others send a handful. `mounts` and `interfaces` are globs of mountpoints and of
    names (`*` is any text, also with `/`); without any, it is all real file systems, each once, and all interfaces.
    `state` is the installation's state directory: there it is kept which processes were told of.
    """

    every: Annotated[Duration, msgspec.Meta(ge=0.1)] = 10.0
    streams: Annotated[tuple[StreamName, ...], msgspec.Meta(min_length=1)] = ("system", "filesystem", "network")
    mounts: Patterns = ()
    interfaces: Patterns = ()
    most: Annotated[int, msgspec.Meta(ge=10, le=500)] = 50
    state: str = ""

    def __post_init__(self) -> None:
        for key, stream in (("mounts", "filesystem"), ("interfaces", "network")):
            if getattr(self, key) and stream not in self.streams:
                raise ValueError(f"{key!r} belongs to stream {stream!r}, which 'streams' does not name")


class Source(Protocol):
    """What a stream is made from: at each look, the fields of its records."""

    async def look(self, now: float) -> list[dict[str, Any]]: ...


def _sources(settings: Performance, clock: Clock, asking: Asking, opened: ExitStack) -> dict[str, Source]:
    """Open what the streams need. File systems come last: they may take their time."""
    sources: dict[str, Source] = {}
    if "system" in settings.streams:
        sources["system"] = System(opened)
    if "network" in settings.streams:
        sources["network"] = Interfaces(settings.interfaces, opened)
    if "process" in settings.streams:
        told = Told(Path(settings.state) / "processes.json" if settings.state else None)
        sources["process"] = Processes(settings.most, told, opened)
    if "filesystem" in settings.streams:
        patience = min(_PATIENCE, settings.every / 2)
        sources["filesystem"] = Filesystems(settings.mounts, asking, clock, patience, opened)
    return sources


async def emit(
    settings: Performance, clock: Clock, positions: Mapping[str, Any], *, asking: Asking
) -> AsyncIterator[Record]:
    with ExitStack() as opened:
        sources = _sources(settings, clock, asking, opened)
        async for now in clock.every(settings.every):
            for stream, source in sources.items():
                for fields in await source.look(now):
                    yield Record(now, fields, stream)


EMITTER = Emitter("performance", Performance, partial(emit, asking=Asking(os.statvfs)), STREAMS)
