"""Services that a supervisord keeps: started, ended and reloaded by asking it, so that it knows what is meant to run.

A start and a stop are ordered without waiting for what supervisord calls a success: the end of a process is told by its
pidfd, and a start is over once there is a process; whether it holds is for the loop to see.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from agents.record import Record, Records
from agents.reloading import reload
from exhaust.errors import UnreachableError
from exhaust.plugins import ActionError
from exhaust.processes import Process, ended, find
from exhaust.supervisord import (
    ALREADY_STARTED,
    BACKOFF,
    EXITED,
    NOT_RUNNING,
    RUNNING,
    STARTING,
    STOPPING,
    Info,
    Supervisord,
    SupervisordError,
)

_LOOK_AGAIN = 0.01


class SupervisedService(msgspec.Struct, frozen=True, tag="supervisord"):
    """A service as the configuration has it: `name` is supervisord's, `group:process` or plain."""

    name: str
    socket: str
    wanted: bool = True


class _Service:
    """One such service. Its record says whether it is wanted, and what process we saw last."""

    def __init__(self, given: SupervisedService, records: Records) -> None:
        self._name = given.name
        self._supervisord = Supervisord(given.socket)
        self._records = records
        self.record = records.read(given.name) or Record(given.name, (), None, {}, given.wanted)
        self.lock = asyncio.Lock()

    async def process(self) -> Process | None:
        """Return the process that supervisord has for it, None if it has none or one that has ended."""
        info = await self._info()
        return find(info.pid) if info.pid else None

    async def start(self) -> int:
        """Start it unless it runs; return its pid."""
        info = await self._noticed()
        if info.state in (BACKOFF, STOPPING):  # waiting before it tries again; or told to stop by somebody else
            await self.stop(None)
        if info.state == STOPPING or not info.pid:
            await self._order("supervisor.startProcess", self._name, False, unless=ALREADY_STARTED)
        process = await self.process()
        if process is None:
            reason = (await self._noticed()).spawnerr or "nothing"
            raise ActionError(f"service '{self._name}' ended as soon as it was started; supervisord says '{reason}'")
        self._write(wanted=True, pid=process.pid, started=process.started)
        return process.pid

    async def stop(self, patience: float | None, *, kill: bool = False) -> int | None:
        """Stop it, after `patience` seconds by force if `kill`, however often supervisord starts it again meanwhile."""
        previous: int | None = None
        exited = False
        while True:
            info = await self._noticed()
            previous = previous or info.pid or None
            if info.state == STOPPING:
                await self._end(info.pid, patience, kill=kill)
            elif info.state in (STARTING, RUNNING, BACKOFF):
                await self._order("supervisor.stopProcess", self._name, False, unless=NOT_RUNNING)
            elif info.state == EXITED and not exited:
                exited = True  # if supervisord is to start it again, it does so before it answers the next question
            elif info.pid:
                raise ActionError(f"service '{self._name}': supervisord says {info.statename} of process {info.pid}")
            else:
                return previous

    async def reload(self) -> int:
        """Have supervisord send SIGHUP; return its pid."""

        async def order() -> None:
            await self._order("supervisor.signalProcess", self._name, "HUP")

        return await reload(self._name, await self.process(), order)

    def want(self, *, wanted: bool) -> None:
        """Change whether it ought to run."""
        self._write(wanted=wanted)

    async def check(self, patience: float) -> None:
        """Refuse what cannot be promised: supervisord itself kills what takes longer than its `stopwaitsecs`."""
        with self._answering():
            configs = await self._supervisord.configs()
        spelled = self._name if ":" in self._name else f"{self._name}:{self._name}"
        waits = min(
            (config.stopwaitsecs for config in configs if f"{config.group}:{config.name}" == spelled), default=0
        )
        if waits < patience:
            what = f"supervisord kills it {waits} s after a stop: 'stopwaitsecs' must not be less than 'stop_timeout'"
            raise ActionError(f"service '{self._name}': 'kill' is false, but {what}")

    async def _end(self, pid: int, patience: float | None, *, kill: bool) -> None:
        process = find(pid)
        pidfd = process.open() if process else None
        if pidfd is None:
            return
        try:
            async with asyncio.timeout(patience):
                await ended(pidfd)
        except TimeoutError:
            if not kill:
                what = f"service '{self._name}' did not stop within {patience:g} s, and 'kill' is false"
                raise ActionError(what, {"pid": pid}) from None
            await self._order("supervisor.signalProcess", self._name, "KILL", unless=NOT_RUNNING)
            await ended(pidfd)
        finally:
            os.close(pidfd)

    async def _noticed(self) -> Info:
        """Return what supervisord knows, once it has noticed what has ended."""
        while (info := await self._info()).pid and find(info.pid) is None:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(_LOOK_AGAIN)
        return info

    async def _info(self) -> Info:
        with self._answering():
            return await self._supervisord.info(self._name)

    async def _order(self, method: str, *params: Any, unless: int | None = None) -> Any:
        """Call a method; a refusal with the code `unless` says that it is so already."""
        with self._answering():
            try:
                return await self._supervisord.call(method, *params)
            except SupervisordError as exc:
                if exc.code != unless:
                    raise
                return None

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (UnreachableError, SupervisordError) as exc:
            raise ActionError(f"service '{self._name}': {exc}") from exc

    def _write(self, **changes: object) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)
        self._records.write(self.record)


class Supervised:
    """All such services of a host, asked only for what is one."""

    def __init__(self, services: Sequence[SupervisedService], records: Records) -> None:
        self._known = services
        self._records = records
        self._services: dict[str, _Service] = {}

    def open(self) -> None:
        for given in self._known:
            self._services[given.name] = _Service(given, self._records)

    async def pid(self, name: str) -> int | None:
        process = await self._services[name].process()
        return process.pid if process else None

    async def start(self, name: str) -> int:
        service = self._services[name]
        async with service.lock:
            return await service.start()

    async def stop(self, name: str, patience: float, *, kill: bool) -> int | None:
        service = self._services[name]
        async with service.lock:
            if not kill:
                await service.check(patience)
            service.want(wanted=False)  # before it ends, so that nobody takes its end for a fault
            return await service.stop(patience, kill=kill)

    async def restart(self, name: str, patience: float, *, kill: bool) -> tuple[int, int | None]:
        service = self._services[name]
        async with service.lock:
            if not kill:
                await service.check(patience)
            previous = await service.stop(patience, kill=kill)
            return await service.start(), previous

    async def reload(self, name: str) -> int:
        service = self._services[name]
        async with service.lock:
            return await service.reload()

    def status(self) -> dict[str, object]:
        return {
            name: {"provider": "supervisord", "wanted": service.record.wanted}
            for name, service in self._services.items()
        }
