"""One process of an installation: its broker, its topology, its services and what it tells of itself."""

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import resource
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import Broker, Queue
from exhaust.broker.rabbitmq import RabbitMQ
from exhaust.clock import SystemClock
from exhaust.configuration import Configuration
from exhaust.errors import ConfigurationError, ExhaustError, LockedError, StoreError
from exhaust.lifecycle.inspection import Inspection, check_socket
from exhaust.lifecycle.reloading import Reload, Reread
from exhaust.lifecycle.service import LEAVE_WITHIN, Service, Station, reload_on_hangup, serve, stop_on_signals
from exhaust.lifecycle.supervisor import SUPERVISOR
from exhaust.lifecycle.systemd import Systemd
from exhaust.processes import Process, ended
from exhaust.routing import EXCHANGES, QUEUES, agent_queue, control_queue
from exhaust.signing import Keys

log = logging.getLogger(__name__)

# In the order in which they are told to stop: that of the data's way, and last who hears of all others.
COMPONENTS = ("emitters", "analyzers", "activator", "orchestrator", "agent", "helper", "collector")
STUCK = 70
_OPEN_FILES = 65_536

Compose = Callable[[str, Configuration, Station], Service]


@contextlib.asynccontextmanager
async def opened_broker(configuration: Configuration, name: str) -> AsyncIterator[Broker]:
    """Open the broker that is configured; connecting and declaring go on in the background.

    The helper has privilege and so no network: it gets one that reaches nobody.
    """
    exchanges, queues = topology(configuration)
    if configuration.embedded or name == "helper":
        async with Embedded() as embedded:
            await embedded.declare(exchanges, queues)
            yield embedded
    else:
        called, existing = f"exhaust-{name}@{configuration.host}", not configuration.declares
        async with RabbitMQ(
            configuration.broker, name=called, exchanges=exchanges, queues=queues, existing=existing
        ) as rabbit:
            yield rabbit


def topology(configuration: Configuration) -> tuple[Sequence[str], Sequence[Queue]]:
    """Return every exchange and queue of the installation: who starts first declares them for all."""
    queues = [queue for component in QUEUES.values() for queue in component]
    # In one process there is one agent: nobody would ever read what lies in the queues of others.
    hosts = {configuration.host, *(() if configuration.embedded else configuration.inventory.hosts)}
    own = [queue(host) for host in sorted(hosts) for queue in (agent_queue, control_queue)]
    return EXCHANGES, [*queues, *own]


def own_folder(state: Path) -> None:
    """Make the state directory, which is nobody else's to read: it holds what the token guards."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreError(f"{state}: cannot be made: {exc.strerror}") from exc


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock that nobody else holds. Raises LockedError."""
    try:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as exc:
        raise LockedError(f"'exhaust up' runs on {path.parent} already: stop that one first") from exc
    except PermissionError as exc:
        raise StoreError(f"{path}: {exc.strerror}") from exc


class Running:
    """The services of one process, made anew for each configuration that they are to run by."""

    name = "services"

    def __init__(
        self,
        components: Sequence[str],
        configuration: Configuration,
        compose: Compose,
        systemd: Systemd,
        reload: Reload,
    ) -> None:
        self._components = components
        self._configuration = configuration
        self._compose = compose
        self._systemd = systemd
        self._reload = reload
        self._clock = SystemClock()
        self._process = process_name(components)
        self._broker: Broker | None = None
        self._next: Configuration | None = None
        self._restarts = int(os.environ.get("EXHAUST_RESTARTS", "0"))
        socket = configuration.state / "run" / f"{self._process}.sock"
        check_socket(socket)
        self.stuck = False
        self.inspection = Inspection(
            socket, (), self._clock, ready=self._ready, about=self._about, stuck=self._stuck_broker
        )

    def status(self) -> dict[str, Any]:
        return self.inspection.status()

    async def run(self, until: asyncio.Event) -> None:
        """Run by one configuration after another, until told or one of the services ends or fails.

        One that proves impossible only in use, such as an address that is taken, is left for the one before it.
        """
        current: Configuration | None = self._configuration
        last_good: Configuration | None = None
        while current is not None and not until.is_set():
            try:
                current, last_good = await self._live(current, until), current
            except Exception as exc:
                faults = [error for error in leaves(exc) if isinstance(error, ConfigurationError)]
                if last_good is None or not faults:
                    raise
                self._reload.refuse([fault for error in faults for fault in error.faults])
                current, last_good = last_good, None

    async def _live(self, configuration: Configuration, until: asyncio.Event) -> Configuration | None:
        """Run the services by one configuration; return the next to run by, None where it is time to leave."""
        self._next, over = None, asyncio.Event()
        async with opened_broker(configuration, self._process) as broker:
            station = Station(
                configuration.host, configuration.state, self._clock, broker, Keys(configuration.state / "keys")
            )
            services = [self._compose(component, configuration, station) for component in self._components]
            self._broker = broker
            self.inspection.show(services)
            _settle_memory()
            sides = [
                asyncio.create_task(self._stop_when_stuck(broker, over), name="stuck"),
                asyncio.create_task(_pass_on(until, over), name="until"),
                asyncio.create_task(self._take_next(configuration, over), name="reload"),
            ]
            try:
                await serve(services, over)
            finally:
                for task in sides:
                    task.cancel()
        return self._next

    async def _take_next(self, current: Configuration, over: asyncio.Event) -> None:
        self._systemd.resumed()
        while self._next is None:
            await self._reload.asked.wait()
            self._systemd.reloading()
            self._next = await self._reload.taken(current)
            if self._next is None:
                self._systemd.resumed()
        log.info("configuration taken, starting the services anew", extra={"components": ",".join(self._components)})
        over.set()

    async def _stop_when_stuck(self, broker: Broker, over: asyncio.Event) -> None:
        if isinstance(broker, RabbitMQ):
            await broker.stuck.wait()
            log.error("our own messages do not come back: leaving, to be started anew")
            self.stuck = True
            over.set()

    def _ready(self) -> dict[str, bool]:
        return {"broker": self._broker is not None and self._broker.connected}

    def _about(self) -> dict[str, Any]:
        broker = {"connected": self._ready()["broker"], "last_error": getattr(self._broker, "last_error", None)}
        return {"restarts": self._restarts, "broker": broker, **self._reload.status()}

    def _stuck_broker(self) -> dict[str, str]:
        return {"broker": "our own messages do not come back"} if self.stuck else {}

    def told(self) -> str:
        """Return what the service manager shows of us."""
        status = self.inspection.status()
        waiting = [name for name, well in status["checks"].items() if not well]
        standby = [name for name, row in status["services"].items() if row.get("state") == "standby"]
        why = status["broker"]["last_error"]
        parts = [
            f"waiting for {', '.join(waiting)}{f': {why}' if why else ''}" if waiting else "",
            f"standing by: {', '.join(standby)}" if standby else "",
            f"reload refused: {self._reload.refused}" if self._reload.refused else "",
        ]
        return "; ".join(filter(None, parts)) or "ready"


async def run_services(
    components: Sequence[str],
    configuration: Configuration,
    compose: Compose,
    systemd: Systemd,
    *,
    reread: Reread | None = None,
) -> int:
    """Run components in this process until told; return its exit code.

    At SIGHUP they are started anew with what `reread` returns; it raises ConfigurationError with every fault.
    """
    raise_open_files()
    reload = Reload(reread, SystemClock(), listens="collector" in components)
    running = Running(components, configuration, compose, systemd, reload)
    own_folder(configuration.state)
    until = asyncio.Event()
    stop_on_signals(until)
    if reread is not None:
        reload_on_hangup(reload.asked, until)
    inspection = running.inspection
    sides = [
        asyncio.create_task(stop_when_orphaned(until), name="supervisor"),
        asyncio.create_task(tell_stopping(systemd, until), name="stopping"),
        asyncio.create_task(systemd.attend(inspection.answering, inspection.fault, running.told), name="systemd"),
    ]
    log.info("started", extra={"components": ",".join(components), "pid": os.getpid()})
    try:
        code = await served([running, inspection], until, LEAVE_WITHIN)
    finally:
        for task in sides:
            task.cancel()
    if code == 0:
        log.info("stopped", extra={"components": ",".join(components)})
    return STUCK if running.stuck else code


def process_name(components: Sequence[str]) -> str:
    """Return what a process of these is called, on its socket and to the broker."""
    return components[0] if len(components) == 1 else "all"


async def served(services: Sequence[Service], until: asyncio.Event, drain_within: float) -> int:
    """Serve until told; return 0, or 1 where a fault ended it, which is logged."""
    try:
        await serve(services, until, drain_within=drain_within)
    except (ExhaustError, TimeoutError) as exc:
        log.error("stopped by a fault", extra={"error": str(exc)})
        return 1
    except ExceptionGroup as group:
        known, unknown = group.split(ExhaustError)
        for error in leaves(known):
            log.error("stopped by a fault", extra={"error": str(error)})
        if unknown is not None:
            log.error("stopped by a fault", exc_info=unknown)
        return 1
    return 0


def leaves(error: BaseException | None) -> Iterator[BaseException]:
    """Yield what is at the bottom of a group of errors; one that is no group is its own bottom."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    elif error is not None:
        yield error


def _settle_memory() -> None:
    """Leave what is there after a start out of every collection: looking through it again would only cost time."""
    if gc.get_freeze_count():  # what the services before these have left
        gc.unfreeze()
        gc.collect()
    gc.freeze()


def raise_open_files() -> None:
    """Let this process open as many files as it may, up to what the service manager would let it.

    The 1024 that are usual are soon gone, to connections of others among them, and without files the whole loop stops.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _pass_on(until: asyncio.Event, over: asyncio.Event) -> None:
    await until.wait()
    over.set()


async def tell_stopping(systemd: Systemd, until: asyncio.Event) -> None:
    """Tell the service manager as soon as we are told to stop."""
    await until.wait()
    systemd.stopping()


async def stop_when_orphaned(until: asyncio.Event) -> None:
    """End with the supervisor that started us, if one did."""
    pid, _, started = os.environ.get(SUPERVISOR, "").partition("@")
    if not pid:
        return
    pidfd = Process(int(pid), int(started)).open()
    if pidfd is not None:
        await ended(pidfd)
    log.error("our supervisor is gone: leaving")
    until.set()
