"""Kept services: processes that the helper starts, watches and adopts again, and that outlive it."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agents.record import Record, Records
from agents.reloading import reload
from exhaust.errors import ConfigurationError
from exhaust.plugins import ActionError
from exhaust.processes import Process, ended, find, reap, send, spawn

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_MARK = "EXHAUST_SERVICE"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,99}")
_LEFTOVERS_END_WITHIN = 2.0
MOST_PRINTED = 16 << 20
"""Of what a service prints about so many bytes are in its log, and as many that came before them in `<name>.log.1`."""


class KeptService(msgspec.Struct, frozen=True, tag="kept"):
    """A service as the configuration has it; `argv` names the program by its absolute path."""

    name: str
    argv: tuple[str, ...]
    cwd: str | None = None
    env: dict[str, str] = {}
    wanted: bool = True


class _Service:
    """One kept service. Its record is written, then announced, at each change."""

    def __init__(self, kept: KeptService, records: Records) -> None:
        self._kept = kept
        self._records = records
        self._path = records.path(kept.name)
        self._log = self._path.with_suffix(".log")
        self._pidfd: int | None = None
        self._gone = asyncio.Event()
        self.record = Record(kept.name, kept.argv, kept.cwd, kept.env, kept.wanted)
        self.lock = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The pid while it runs. Asked of the kernel: that its end was not yet noticed does not make it alive."""
        record = self.record
        if self._pidfd is None or record.pid is None or not Process(record.pid, record.started or 0).alive:
            return None
        return record.pid

    def take_up(self, *, rebooted: bool) -> None:
        """Adopt what runs since before this helper; start what never ran in this boot of the machine."""
        known = self._records.read(self._kept.name)
        if known is not None and not rebooted:
            self.record = known
            if known.pid and known.started and self._watch(Process(known.pid, known.started)):
                return
        # One that was started and not recorded: the helper died in between, or the disk was full. It may be of the same
        # tick as the one before it: clock ticks are 10 ms, and a restart may take less.
        after = self.record.started or 0
        orphans = [process for process in _marked(self._path) if process.started >= after and _leads(process.pid)]
        if orphans and self._watch(orphans[-1]):
            self._write(pid=orphans[-1].pid, started=orphans[-1].started, exit=None)
            return
        if known is None or rebooted:
            self._write()
            if self._kept.wanted:
                with contextlib.suppress(ActionError):  # the record says that it is down, which is for the loop to see
                    self.start()

    def start(self, *, wanted: bool = True) -> int:
        """Start the process, which must not run now."""
        kept = self._kept
        env = ENVIRONMENT | kept.env | {_MARK: str(self._path)}
        try:
            log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                process = spawn(kept.argv, env=env, cwd=kept.cwd, stdout=log, stderr=log)
            finally:
                os.close(log)
        except OSError as exc:
            self._write(wanted=wanted)
            raise ActionError(f"service '{kept.name}': '{kept.argv[0]}' cannot be started: {exc.strerror}") from exc
        self._forget()
        # Not process.open(): one that has ended already is still our child, and must be collected.
        self._attend(os.pidfd_open(process.pid))
        self.record = Record(kept.name, kept.argv, kept.cwd, kept.env, wanted, process.pid, process.started)
        self._write()
        return process.pid

    async def stop(self, patience: float, *, kill: bool) -> int | None:
        """End the process with SIGTERM, then what is left of its session by force if `kill`; return its pid."""
        running, last = self.pid, self.record
        if running is not None and self._pidfd is not None:
            send(self._pidfd, signal.SIGTERM)
            send(self._pidfd, signal.SIGCONT)  # a stopped process takes no SIGTERM
            try:
                async with asyncio.timeout(patience):
                    await self._gone.wait()
            except TimeoutError:
                if not kill:
                    what = f"service '{last.name}' did not stop within {patience:g} s, and 'kill' is false"
                    raise ActionError(what, {"pid": running}) from None
                if self._pidfd is not None:
                    send(self._pidfd, signal.SIGKILL)
                await self._gone.wait()
        if kill and last.pid:
            await self._end_leftovers(last.pid)
        return running

    async def reload(self) -> int:
        """Have the process read its configuration again; return its pid."""
        pid, record = self.pid, self.record
        return await reload(record.name, Process(pid, record.started or 0) if pid else None)

    def want(self, *, wanted: bool) -> None:
        """Change whether it ought to run."""
        if self.record.wanted != wanted:
            self._write(wanted=wanted)

    def trim(self) -> None:
        """Begin the log anew once it is long: its writer appends, and so goes on at the new end."""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            if log.seek(0, os.SEEK_END) > MOST_PRINTED:
                log.seek(-MOST_PRINTED, os.SEEK_END)
                self._log.with_suffix(".log.1").write_bytes(log.read())
                os.truncate(self._log, 0)

    def close(self) -> None:
        """Stop watching. The process goes on."""
        self._forget()

    async def _end_leftovers(self, session: int) -> None:
        """Kill what a process that has ended left in its session; only what carries the mark of this service."""
        try:
            os.killpg(session, 0)  # cheap: usually nothing is left
        except OSError:
            return
        left = [process for process in _marked(self._path) if _session(process.pid) == session]
        fds = [fd for process in left if (fd := process.open()) is not None]
        try:
            for fd in fds:
                send(fd, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEFTOVERS_END_WITHIN):
                    for fd in fds:
                        await ended(fd)
        finally:
            for fd in fds:
                os.close(fd)

    def _watch(self, process: Process) -> bool:
        pidfd = process.open()
        if pidfd is None:
            return False
        self._attend(pidfd)
        return True

    def _attend(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self._gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, self._ended)

    def _ended(self) -> None:
        if self._pidfd is None:
            return
        status = reap(self._pidfd)
        self._forget()
        self._write(exit=status)
        self._gone.set()

    def _forget(self) -> None:
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            reap(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _write(self, **changes: object) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)
        self._records.write(self.record)


class Kept:
    """All kept services of a host, asked only for what is one. Opened and closed inside the running loop."""

    def __init__(self, services: Sequence[KeptService], records: Records) -> None:
        wrong = [f"service '{kept.name}' must have an absolute program" for kept in services if not _absolute(kept)]
        wrong += [f"'{kept.name}' cannot be a service's name" for kept in services if not _NAME.fullmatch(kept.name)]
        if wrong:
            raise ConfigurationError(wrong)
        self._known = services
        self._records = records
        self._services: dict[str, _Service] = {}

    def open(self, *, rebooted: bool) -> None:
        """Adopt and start services; what has died since the last helper is left to the loop."""
        for kept in self._known:
            service = _Service(kept, self._records)
            self._services[kept.name] = service
            service.take_up(rebooted=rebooted)

    def trim(self) -> None:
        """Bound the logs of all services."""
        for service in list(self._services.values()):
            service.trim()

    def close(self) -> None:
        for service in self._services.values():
            service.close()

    async def pid(self, name: str) -> int | None:
        return self._services[name].pid

    async def start(self, name: str) -> int:
        service = self._services[name]
        async with service.lock:
            service.want(wanted=True)
            return service.pid or service.start()

    async def stop(self, name: str, patience: float, *, kill: bool) -> int | None:
        service = self._services[name]
        async with service.lock:
            service.want(wanted=False)  # before it ends, so that nobody takes its end for a fault
            return await service.stop(patience, kill=kill)

    async def restart(self, name: str, patience: float, *, kill: bool) -> tuple[int, int | None]:
        service = self._services[name]
        async with service.lock:
            previous = await service.stop(patience, kill=kill)
            return service.start(), previous

    async def reload(self, name: str) -> int:
        service = self._services[name]
        async with service.lock:
            return await service.reload()

    def status(self) -> dict[str, object]:
        return {name: {"pid": service.pid, "wanted": service.record.wanted} for name, service in self._services.items()}


def _absolute(kept: KeptService) -> bool:
    return bool(kept.argv) and kept.argv[0].startswith("/")


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _leads(pid: int) -> bool:
    return _session(pid) == pid


def _marked(path: Path) -> list[Process]:
    """Return the processes that descend from a start of the service with this record, oldest first."""
    mark = f"{_MARK}={path}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(find(int(entry.name)))
    return sorted((process for process in found if process), key=lambda process: process.started)
