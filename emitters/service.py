"""The services of this host: which of them run, since when, and at once when one ends or is started anew.

A `kept` service is a child of the agent's helper, which writes `STATE/services/<name>.json` and announces each change
as the same JSON in a datagram to `STATE/run/service.news`; any other is found by its pidfile. Either is watched by
pidfd. The file is read at every beat as well, in case an announcement was lost.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import msgspec

from exhaust.clock import Clock
from exhaust.plugins import Emitter, Fields, Record, Settings
from exhaust.processes import Process, find
from exhaust.settings import Duration

log = logging.getLogger(__name__)

STATE: Fields = {
    "service": "string: its name in the settings",
    "provider": "string: who keeps it: kept (the agent's helper) or pidfile (somebody else)",
    "state": "string: running; stopped (not wanted, ended with 0, or not there by its pidfile); "
    "failed (ended otherwise); gone (ended, and nobody has told how); missing while nothing is known of a kept one",
    "wanted": "bool: whether it ought to run",
    "pid": "int: its main process, also once that has ended",
    "started": "int: when that process started, clock ticks since boot (field 22 of /proc/PID/stat)",
    "exit": "int: how that process ended: its exit status, negative for a signal",
    "since": "timestamp: when that process started if it runs, else when this state was noticed",
    "cpu_percent": "double: what that process used since the last beat, percent of one processor",
    "memory_bytes": "int: resident memory of that process, bytes",
    "restarts": "int: how often another process took its place since this emitter started",
}

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MOST_BYTES = 1 << 16
_MOST_AT_ONCE = 64


class Entry(Settings, frozen=True):
    """One service: who keeps it, how it is started or found, and whether it ought to run."""

    planned: ClassVar[frozenset[str]] = frozenset({"socket"})

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")]
    provider: Literal["kept", "pidfile", "systemd", "supervisord"]
    argv: tuple[str, ...] = ()
    cwd: str | None = None
    env: dict[str, str] = msgspec.field(default_factory=dict)
    pidfile: str | None = None
    wanted: bool = True

    def __post_init__(self) -> None:
        if self.provider in ("systemd", "supervisord"):
            raise ValueError(f"provider {self.provider!r} is not built yet; there are kept and pidfile")
        if self.provider == "kept" and not self.argv:
            raise ValueError("a kept service needs 'argv', its program and arguments")
        if self.provider == "kept" and self.pidfile is not None:
            raise ValueError("'pidfile' belongs to provider pidfile; a kept service has none")
        if self.provider == "pidfile" and not self.pidfile:
            raise ValueError("a service of provider pidfile needs 'pidfile', the path of that file")


class Services(Settings, frozen=True):
    """The services to observe. `state` is the installation's state directory; without it no kept one is known."""

    every: Annotated[Duration, msgspec.Meta(ge=0.1)] = 10.0
    services: tuple[Entry, ...] = ()
    state: str = ""

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.services]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"service {twice[0]!r} is given twice")


class Told(msgspec.Struct, frozen=True):
    """What the helper says of a kept service; the rest of it is the helper's own affair."""

    name: str
    wanted: bool = True
    pid: int | None = None
    started: int | None = None
    exit: int | None = None


_read_told = msgspec.json.Decoder(Told).decode


class _Usage(NamedTuple):
    time: float
    ticks: int
    memory: int


def _usage(pid: int, now: float) -> _Usage | None:
    try:
        # Field 24 of stat is an estimate, off by megabytes on machines with many processors; newer kernels sum up here.
        memory = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return _Usage(now, int(fields[11]) + int(fields[12]), memory)


class _Service:
    """One service as it is known now. `on_end` is called at the end of its process, not of one that was replaced."""

    def __init__(self, entry: Entry, on_end: Callable[["_Service"], None]) -> None:
        self.entry = entry
        self._on_end = on_end
        self._wanted = entry.wanted
        self._process: Process | None = None
        self._pidfd: int | None = None
        self._exit: int | None = None
        self._restarts = 0
        self._since: float | None = None
        self._known: tuple[Any, ...] = ()
        self._usage: _Usage | None = None
        self._pidfile: tuple[int, int] | None = None

    @property
    def state(self) -> str | None:
        if self._pidfd is not None:
            return "running"
        if not self._wanted or self._exit == 0:
            return "stopped"
        if self._exit is not None:
            return "failed"
        if self._process is not None:
            return "gone"
        return "stopped" if self.entry.provider == "pidfile" else None

    def learn(self, told: Told) -> None:
        """Take what the helper says."""
        self._wanted = self.entry.wanted and told.wanted
        process = None
        if told.pid is not None and told.started is not None:
            process = Process(told.pid, told.started)
        if process is not None and process != self._process:
            if self._is_newer(process):
                self._take(process)
                self._exit = told.exit
        elif self._pidfd is None and told.exit is not None:
            self._exit = told.exit

    def _is_newer(self, process: Process) -> bool:
        """Tell whether it took the place of ours: a file that is older than an announcement must not undo that."""
        if self._process is None or process.alive:
            return True
        return not self._process.alive and process.started >= self._process.started

    def look(self) -> None:
        """Read the pidfile. One that was not written anew says nothing new: after an end its pid may be another's."""
        path = Path(self.entry.pidfile or "")
        try:
            status, text = path.stat(), path.read_bytes()
            written = (status.st_ino, status.st_mtime_ns)
            process = find(int(text.split(None, 1)[0])) if written != self._pidfile else None
        except (OSError, ValueError, IndexError):
            return
        if process is not None:
            self._pidfile = written
            if process != self._process:
                self._take(process)

    def _take(self, process: Process) -> None:
        self.close()
        self._restarts += self._process is not None
        self._process, self._exit, self._usage = process, None, None
        self._pidfd = process.open()
        if self._pidfd is not None:
            asyncio.get_running_loop().add_reader(self._pidfd, self._end)
        elif process.alive:
            raise OSError(f"process {process.pid} runs, but cannot be watched: too many open files?")

    def _end(self) -> None:
        self.close()
        self._on_end(self)

    def close(self) -> None:
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def changed(self, now: float) -> bool:
        """Tell whether anything but its usage is other than when this was last asked."""
        known = (self.state, self._wanted, self._process, self._exit)
        if known == self._known:
            return False
        if known[0] == "running" and self._process is not None:
            age = time.clock_gettime(time.CLOCK_BOOTTIME) - self._process.started / _TICKS
            self._since = round(now - age, 2)
        elif not self._known or known[0] != self._known[0]:
            self._since = now
        before, self._known = self._known, known
        # How it ended can wait for the beat: that it ended was told already, and the remedy is under way.
        return not before or (before[0] == "running", *before[1:3]) != (known[0] == "running", *known[1:3])

    def record(self, now: float, *, urgent: bool) -> Record:
        """Return what is known of it, and in those that are not urgent its usage since the last one of them."""
        process = self._process
        known = {
            "service": self.entry.name,
            "provider": self.entry.provider,
            "state": self.state,
            "wanted": self._wanted,
            "pid": process and process.pid,
            "started": process and process.started,
            "exit": self._exit,
            "since": self._since,
            "restarts": self._restarts,
        }
        if not urgent:
            known |= self._measure(now)
        return Record(now, {name: value for name, value in known.items() if value is not None}, urgent=urgent)

    def _measure(self, now: float) -> dict[str, Any]:
        if self._pidfd is None or self._process is None or (usage := _usage(self._process.pid, now)) is None:
            return {}
        before, self._usage = self._usage, usage
        measured: dict[str, Any] = {"memory_bytes": usage.memory}
        if before is not None and usage.time > before.time:
            used = (usage.ticks - before.ticks) / _TICKS
            measured["cpu_percent"] = round(100 * used / (usage.time - before.time), 2)
        return measured


class _Observer:
    """All services: what beats, pidfds and announcements bring goes into one queue. Open it with `async with`."""

    def __init__(self, settings: Services, clock: Clock) -> None:
        self._every = settings.every
        self._state = Path(settings.state) if settings.state else None
        self._clock = clock
        self._services = {entry.name: _Service(entry, self._note) for entry in settings.services}
        self._found: asyncio.Queue[Record | BaseException] = asyncio.Queue()
        self._socket: socket.socket | None = None

    async def __aenter__(self) -> Self:
        self._beating = asyncio.create_task(self._beat(), name="services")
        self._beating.add_done_callback(self._failed)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beating.cancel()
        await asyncio.wait([self._beating])
        with ExitStack() as closing:
            for service in self._services.values():
                closing.callback(service.close)
            if self._socket is not None:
                asyncio.get_running_loop().remove_reader(self._socket)
                closing.callback(self._socket.close)

    async def next(self) -> Record:
        """Wait for the next record."""
        found = await self._found.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def _failed(self, beating: asyncio.Task[None]) -> None:
        if not beating.cancelled() and (error := beating.exception()) is not None:
            self._found.put_nowait(error)

    def _note(self, service: _Service, *, beat: bool = False, first: bool = False) -> None:
        now = self._clock.now()
        urgent = service.changed(now) and not first
        if beat or urgent:
            self._found.put_nowait(service.record(now, urgent=urgent))

    async def _beat(self) -> None:
        first = True
        async for _ in self._clock.every(self._every):
            if self._socket is None and self._state is not None:
                self._socket = self._listen(self._state / "run" / "service.news")
            for service in self._services.values():
                self._refresh(service)
                self._note(service, beat=True, first=first)
            first = False

    def _refresh(self, service: _Service) -> None:
        if service.entry.provider == "pidfile":
            service.look()
        elif self._state is not None:
            with contextlib.suppress(FileNotFoundError):
                self._tell((self._state / "services" / f"{service.entry.name}.json").read_bytes())

    def _tell(self, text: bytes) -> _Service | None:
        try:
            told = _read_told(text)
        except msgspec.MsgspecError as exc:
            log.warning("what the helper says of a service cannot be read", extra={"error": str(exc)})
            return None
        service = self._services.get(told.name)
        if service is not None and service.entry.provider == "kept":
            service.learn(told)
            return service
        return None

    def _listen(self, path: Path) -> socket.socket | None:
        """Bind the socket of announcements, unless another emitter hears them there."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as opened:
            ours = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
            os.fchmod(ours.fileno(), 0o600)  # what bind makes gets this mode: at no moment has it another
            try:
                ours.connect(str(path))
                return None
            except FileNotFoundError:
                pass
            except ConnectionRefusedError:
                path.unlink()
            ours.bind(str(path))
            asyncio.get_running_loop().add_reader(ours, self._hear, ours)
            opened.pop_all()
        return ours

    def _hear(self, ours: socket.socket) -> None:
        try:
            for _ in range(_MOST_AT_ONCE):
                service = self._tell(ours.recv(_MOST_BYTES))
                if service is not None:
                    self._note(service)
        except BlockingIOError:
            return
        except OSError as exc:  # of a callback the event loop would only log it
            self._found.put_nowait(exc)


async def emit(settings: Services, clock: Clock) -> AsyncIterator[Record]:
    async with _Observer(settings, clock) as observer:
        while True:
            yield await observer.next()


EMITTER = Emitter("service", Services, emit, streams={"state": STATE})
