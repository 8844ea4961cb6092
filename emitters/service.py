"""The services of this host: which of them run, since when, and at once when one ends or is started anew.

A `kept` service is a child of the agent's helper, which writes `STATE/services/<name>.json` and announces each change
as the same JSON in a datagram to `STATE/run/service.news`; one of provider `supervisord` is asked of that, over its
socket, and announced by the helper too where it was the helper's doing; one of `systemd` is asked of systemctl; any
other is found by its pidfile. Each is watched by pidfd. Files, supervisord and systemctl are asked at every beat as
well, in case an announcement was lost.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

import msgspec

from emitters.keepers.enquiry import Enquiry
from emitters.keepers.kept import Kept, News, Told
from emitters.keepers.pidfile import Pidfile
from emitters.keepers.supervisord import Supervised
from emitters.keepers.systemd import Systemctl, Unit, why_not
from emitters.keepers.watched import Watched
from exhaust.clock import Clock
from exhaust.plugins import Emitter, Fields, Record, Settings
from exhaust.settings import Duration
from exhaust.supervisord import Supervisord

STATE: Fields = {
    "service": "string: its name in the settings",
    "provider": "string: who keeps it: kept (the agent's helper), supervisord, systemd, or pidfile (somebody else)",
    "state": "string: running (its process lives, starting and stopping included); "
    "stopped (not wanted, ended with 0, stopped by its keeper, or not there by its pidfile); "
    "failed (ended otherwise, or its keeper cannot start it); gone (ended, and nobody has told how); "
    "missing while nothing is known: of a kept one not yet started, or where its keeper does not answer",
    "wanted": "bool: whether it ought to run",
    "pid": "int: its main process, also once that has ended",
    "started": "int: when that process started, clock ticks since boot (field 22 of /proc/PID/stat)",
    "exit": "int: how that process ended: its exit status, negative for a signal; "
    "missing after a signal under supervisord, which does not say which",
    "reason": "string: what supervisord or systemd says went wrong with it, or why it could not be asked",
    "since": "timestamp: when that process started if it runs, else when this state was noticed",
    "cpu_percent": "double: what that process used since the last beat, percent of one processor",
    "memory_bytes": "int: resident memory of that process, bytes",
    "restarts": "int: how often another process took its place since this emitter started",
    # Only of provider systemd; see org.freedesktop.systemd1(5).
    "active_state": "string: systemd's: active, reloading, inactive, failed, activating, deactivating",
    "sub_state": "string: systemd's, by the kind of unit: running, exited, dead, auto-restart, …",
    "result": "string: systemd's: success, or why it failed: exit-code, signal, core-dump, watchdog, oom-kill, …",
    "unit_restarts": "int: how often systemd has started it again by itself",
    "unit_memory_bytes": "int: memory of all its processes, bytes; missing where systemd does not count it",
    "unit_tasks": "int: its processes and threads; missing likewise",
}

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}(:[A-Za-z0-9][A-Za-z0-9._@-]{0,99})?$"
_OWN_KEYS = {"kept": "argv", "pidfile": "pidfile", "supervisord": "socket"}


class Entry(Settings, frozen=True):
    """One service: who keeps it, how it is started, found or asked for, and whether it ought to run.

    The name of one that supervisord keeps is supervisord's: `group:process`, or plain where both are the same; of one
    that systemd keeps it is the unit's: `nginx.service`, or `nginx`.
    """

    name: Annotated[str, msgspec.Meta(pattern=_NAME)]
    provider: Literal["kept", "pidfile", "systemd", "supervisord"]
    argv: tuple[str, ...] = ()
    cwd: str | None = None
    env: dict[str, str] = msgspec.field(default_factory=dict)
    pidfile: str | None = None
    socket: str | None = None
    wanted: bool = True

    def __post_init__(self) -> None:
        for provider, key in _OWN_KEYS.items():
            if provider != self.provider and getattr(self, key):
                raise ValueError(f"'{key}' belongs to provider {provider}; a {self.provider} service has none")
        if self.provider == "kept" and not self.argv:
            raise ValueError("a kept service needs 'argv', its program and arguments")
        if self.provider == "pidfile" and not self.pidfile:
            raise ValueError("a service of provider pidfile needs 'pidfile', the path of that file")
        if self.provider == "supervisord" and not (self.socket or "").startswith("/"):
            raise ValueError("a service of provider supervisord needs 'socket', the absolute path of its unix socket")
        if ":" in self.name and self.provider != "supervisord":
            raise ValueError(f"{self.name!r}: only a service of provider supervisord has a group in its name")


class Services(Settings, frozen=True):
    """The services to observe. `state` is the installation's state directory; without it no kept one is known."""

    every: Annotated[Duration, msgspec.Meta(ge=0.1)] = 10.0
    services: tuple[Entry, ...] = ()
    state: str = ""

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.services]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"service {twice[0]!r} is given twice")


class _Observer:
    """All services: what beats, pidfds and announcements bring goes into one queue. Open it with `async with`."""

    def __init__(self, settings: Services, clock: Clock) -> None:
        self._every = settings.every
        self._clock = clock
        self._news = News(Path(settings.state), self._learn, self._fail) if settings.state else None
        self._services = {entry.name: self._watched(entry) for entry in settings.services}
        self._asked = self._enquiries(settings.services)
        self._found: asyncio.Queue[Record | BaseException] = asyncio.Queue()

    def _watched(self, entry: Entry) -> Watched:
        if entry.provider == "systemd":
            return Unit(entry.name, self._ended, wanted=entry.wanted)
        if entry.provider == "kept":
            return Kept(entry.name, self._note, wanted=entry.wanted)
        if entry.provider == "supervisord":
            return Supervised(entry.name, self._ended, wanted=entry.wanted)
        return Pidfile(entry.name, self._note, Path(entry.pidfile or ""), wanted=entry.wanted)

    def _enquiries(self, entries: Sequence[Entry]) -> dict[str, Enquiry[Any, Any]]:
        """Return who is asked for each service that a supervisord or systemd keeps: one for all of a keeper."""
        units = [service for service in self._services.values() if isinstance(service, Unit)]
        found = dict.fromkeys([one.name for one in units], Enquiry[Any, Any](Systemctl(), units, self._answered))
        for path in dict.fromkeys(entry.socket for entry in entries if entry.socket):
            of_path = [self._services[entry.name] for entry in entries if entry.socket == path]
            services = [service for service in of_path if isinstance(service, Supervised)]
            asked = Enquiry[Any, Any](Supervisord(path), services, self._answered)
            found |= dict.fromkeys([one.name for one in services], asked)
        return found

    async def __aenter__(self) -> Self:
        asking = [enquiry.run() for enquiry in set(self._asked.values())]
        self._tasks = [asyncio.create_task(work, name="services") for work in (self._beat(), *asking)]
        for task in self._tasks:
            task.add_done_callback(self._done)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        with ExitStack() as closing:
            for service in self._services.values():
                closing.callback(service.close)
            if self._news is not None:
                closing.callback(self._news.close)

    async def next(self) -> Record:
        """Wait for the next record."""
        found = await self._found.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._found.put_nowait(error)

    async def _beat(self) -> None:
        async for _ in self._clock.every(self._every):
            if self._news is not None:
                self._news.listen()
            for service in self._services.values():
                self._refresh(service)
            for enquiry in set(self._asked.values()):
                enquiry.beat()

    def _refresh(self, service: Watched) -> None:
        if isinstance(service, Unit):
            return
        told = self._news.read(service.name) if self._news and not isinstance(service, Pidfile) else None
        if isinstance(service, Supervised):
            if told is not None:
                service.want(wanted=told.wanted)  # which process it is supervisord knows better than an old file
            return
        if isinstance(service, Pidfile):
            service.look()
        elif isinstance(service, Kept) and told is not None:
            service.learn(told)
        self._note(service, beat=True)

    def _learn(self, told: Told) -> None:
        service = self._services.get(told.name)
        if isinstance(service, Kept | Supervised):
            service.learn(told)
            self._note(service)

    def _ended(self, service: Watched) -> None:
        self._note(service)
        if isinstance(service, Supervised | Unit):
            self._asked[service.name].follow(service)

    def _answered(self, service: Supervised | Unit, beat: bool) -> None:
        self._note(service, beat=beat)

    def _note(self, service: Watched, *, beat: bool = False) -> None:
        now = self._clock.now()
        urgent = service.changed(now)
        if beat or urgent:
            self._found.put_nowait(service.record(now, urgent=urgent))


async def emit(settings: Services, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
    async with _Observer(settings, clock) as observer:
        while True:
            yield await observer.next()


def sources() -> Mapping[str, str]:
    """Return the keepers that not every host has, with why this one has not."""
    return {"systemd": why_not()}


EMITTER = Emitter("service", Services, emit, streams={"state": STATE}, keeps="audit", sources=sources)
