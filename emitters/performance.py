"""How busy this host is: as a whole, its parts one by one, its busiest processes, and what its users use."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import ExitStack, aclosing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec

from emitters.measures import pressure, sessions, stalls, temperatures
from emitters.measures.census import Census
from emitters.measures.computer import COMPUTER, Computer
from emitters.measures.disks import DISK, Disks
from emitters.measures.filesystems import FILESYSTEM, Asking, Filesystems
from emitters.measures.folders import FOLDER, Folders
from emitters.measures.interfaces import NETWORK, Interfaces
from emitters.measures.memory import MEMORY, Memory
from emitters.measures.pressure import PRESSURE, Pressure
from emitters.measures.proc import Proc
from emitters.measures.processes import PROCESS, Processes
from emitters.measures.processors import CPU, Processors
from emitters.measures.stalls import Stall, Stalls
from emitters.measures.system import SYSTEM, System
from emitters.measures.temperatures import TEMPERATURE, Temperatures
from emitters.measures.told import Told
from emitters.measures.usage import USER, Usage
from emitters.measures.users import Users
from exhaust.clock import Clock
from exhaust.plugins import Emitter, Fields, Record, Settings
from exhaust.settings import Duration

_PATIENCE = 1.0  # at most, and never so long that the next beat would be late

StreamName = Literal[
    "system",
    "cpu",
    "memory",
    "disk",
    "filesystem",
    "folder",
    "network",
    "pressure",
    "process",
    "user",
    "temperature",
    "computer",
]
Patterns = tuple[Annotated[str, msgspec.Meta(min_length=1)], ...]
Folder = Annotated[str, msgspec.Meta(pattern=r"^/")]

STREAMS: Mapping[str, Fields] = {
    "system": SYSTEM,
    "cpu": CPU,
    "memory": MEMORY,
    "disk": DISK,
    "filesystem": FILESYSTEM,
    "folder": FOLDER,
    "network": NETWORK,
    "pressure": PRESSURE,
    "process": PROCESS,
    "user": USER,
    "temperature": TEMPERATURE,
    "computer": COMPUTER,
}

_BELONGS = {
    "mounts": "filesystem",
    "interfaces": "network",
    "folders": "folder",
    "stalls": "pressure",
}


class Performance(Settings, frozen=True):
    """How often to look, and at what.

    Without `streams` these are the cheap ones, `system`, `filesystem` and `network`. `process` and `user` cost more
    than all others together, since they read files of every process; `process` sends `most` records each time where the
    others send a handful. `computer` has a record every 10 minutes, `folder` one of each of `folders` every
    `folders_every`. `mounts` and `interfaces` are globs of mountpoints and of names (`*` is any text, also with `/`);
    without any, it is all real file systems, each once, and all interfaces. `stalls` are limits for waiting that the
    kernel watches, `{resource: memory, some: 100ms, within: 1s}`: where one is passed, there is a record of `pressure`
    at once. `state` is the installation's state directory: there it is kept which processes were told of,
    in a file for each combination of `every`, `streams` and `most`.
    """

    every: Annotated[Duration, msgspec.Meta(ge=0.1)] = 10.0
    streams: Annotated[tuple[StreamName, ...], msgspec.Meta(min_length=1)] = ("system", "filesystem", "network")
    mounts: Patterns = ()
    interfaces: Patterns = ()
    most: Annotated[int, msgspec.Meta(ge=10, le=500)] = 50
    folders: Annotated[tuple[Folder, ...], msgspec.Meta(max_length=100)] = ()
    folders_every: Annotated[Duration, msgspec.Meta(ge=60)] = 86_400.0
    stalls: Annotated[tuple[Stall, ...], msgspec.Meta(max_length=16)] = ()
    state: str = ""

    def __post_init__(self) -> None:
        for key, stream in _BELONGS.items():
            if getattr(self, key) and stream not in self.streams:
                raise ValueError(f"{key!r} belongs to stream {stream!r}, which 'streams' does not name")
        if "folder" in self.streams and not self.folders:
            raise ValueError("stream 'folder' needs 'folders', the paths of those to count")


class Source(Protocol):
    """What a stream is made from: at each look, the fields of its records."""

    async def look(self, now: float) -> list[dict[str, Any]]: ...


class _Sources:
    """What the streams are made from, opened as they need it, until `opened` is closed."""

    def __init__(self, settings: Performance, clock: Clock, told: Mapping[str, Any], opened: ExitStack) -> None:
        self._settings = settings
        self._clock = clock
        self._told = told
        self._opened = opened
        self._proc = Proc(opened)
        self._users = Users()

    def all(self, asking: Asking) -> dict[str, Source]:
        """Return them in the order to be looked at. File systems come last: they may take their time."""
        settings, proc, opened = self._settings, self._proc, self._opened
        make: Mapping[str, Callable[[], Source]] = {
            "system": partial(System, proc),
            "cpu": partial(Processors, proc),
            "memory": partial(Memory, proc, os.sysconf("SC_PAGE_SIZE")),
            "disk": partial(Disks, proc),
            "network": partial(Interfaces, settings.interfaces, opened),
            "pressure": partial(Pressure, opened),
            "computer": partial(Computer, proc),
            "temperature": partial(Temperatures),
            "folder": partial(self._folders),
            "filesystem": partial(self._filesystems, asking),
        }
        cheap = {name: source() for name, source in make.items() if name in settings.streams}
        filesystem = {name: cheap.pop(name) for name in ("filesystem",) if name in cheap}
        return cheap | self._of_processes() | filesystem

    def _of_processes(self) -> dict[str, Source]:
        streams, sources = self._settings.streams, dict[str, Source]()
        if "process" not in streams and "user" not in streams:
            return sources
        census = Census(self._opened)
        if "process" in streams:
            sources["process"] = Processes(self._settings.most, _told(self._settings), census, self._users)
        if "user" in streams:
            takes = "process" not in streams
            sources["user"] = Usage(census, self._users, sessions.sessions, takes=takes)
        return sources

    def _folders(self) -> Folders:
        folders = Folders(self._settings.folders, self._settings.folders_every, self._told)
        self._opened.callback(folders.close)
        return folders

    def _filesystems(self, asking: Asking) -> Filesystems:
        patience = min(_PATIENCE, self._settings.every / 2)
        return Filesystems(self._settings.mounts, asking, self._clock, patience, self._opened)


def _told(settings: Performance) -> Told:
    """Return which processes were told of: each use has a file of its own, called after what makes it another."""
    if not settings.state:
        return Told(None)
    state, own = Path(settings.state), msgspec.json.encode((settings.every, sorted(settings.streams), settings.most))
    former = state / "processes.json"
    return Told(state / f"processes-{sha256(own).hexdigest()[:12]}.json", former=former)


async def emit(
    settings: Performance, clock: Clock, positions: Mapping[str, Any], *, asking: Asking
) -> AsyncIterator[Record]:
    with ExitStack() as opened:
        sources = _Sources(settings, clock, positions, opened).all(asking)
        watched = Stalls(settings.stalls, opened) if settings.stalls else None
        async with aclosing(_moments(settings, clock, watched)) as moments:
            async for now, stalled in moments:
                if stalled is not None:
                    yield Record(now, stalled, "pressure", urgent=True)
                    continue
                for stream, source in sources.items():
                    for fields in await source.look(now):
                        # A folder is not counted anew where the emitter starts anew.
                        position = (fields["folder"], now) if stream == "folder" else None
                        yield Record(now, fields, stream, position=position)


Moment = tuple[float, dict[str, Any] | None]


async def _moments(settings: Performance, clock: Clock, watched: Stalls | None) -> AsyncGenerator[Moment]:
    """Yield the time of each beat, and of each stall with its fields."""
    beats = clock.every(settings.every)
    if watched is None:
        async for now in beats:
            yield now, None
        return
    levels = Pressure(watched.opened)
    nexts: Mapping[str, Callable[[], Any]] = {"beat": partial(anext, beats), "stall": watched.next}
    waiting: dict[str, asyncio.Task[Any]] = {}
    try:
        while True:
            waiting |= {name: _task(come) for name, come in nexts.items() if name not in waiting}
            await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_COMPLETED)
            for name in [name for name, task in waiting.items() if task.done()]:
                result = waiting.pop(name).result()
                yield (result, None) if name == "beat" else (clock.now(), levels.stalled(*result))
    finally:
        for task in waiting.values():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _task(come: Callable[[], Any]) -> asyncio.Task[Any]:
    async def wait() -> Any:
        return await come()

    return asyncio.create_task(wait(), name="performance")


def sources() -> Mapping[str, str]:
    """Return what not every host has, with why this one has not."""
    return {
        "pressure": pressure.why_not(),
        "stalls": stalls.why_not(),
        "temperatures": temperatures.why_not(),
        "sessions": sessions.why_not(),
        "input and output of all processes": "" if os.geteuid() == 0 else "only root is told that of others'",
    }


EMITTER = Emitter("performance", Performance, partial(emit, asking=Asking(os.statvfs)), STREAMS, sources=sources)
