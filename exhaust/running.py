"""One process of an installation: its broker, its topology, its services and what it tells of itself."""

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import Broker, Queue
from exhaust.broker.rabbitmq import RabbitMQ
from exhaust.configuration import Configuration
from exhaust.errors import BrokerError, ExhaustError, LockedError, StoreError
from exhaust.inspection import Inspection
from exhaust.processes import Process, ended
from exhaust.routing import EXCHANGES, QUEUES, agent_queue, control_queue
from exhaust.service import Service, Station, serve, stop_on_signals
from exhaust.supervisor import SUPERVISOR

log = logging.getLogger(__name__)

COMPONENTS = ("emitters", "collector", "analyzers", "activator", "orchestrator", "agent", "helper")
STUCK = 70


@contextlib.asynccontextmanager
async def opened_broker(configuration: Configuration, name: str) -> AsyncIterator[Broker]:
    """Open the broker that is configured; connecting goes on in the background.

    The helper has privilege and so no network: it gets one that reaches nobody.
    """
    if configuration.embedded or name == "helper":
        async with Embedded() as embedded:
            yield embedded
    else:
        async with RabbitMQ(configuration.broker, name=f"exhaust-{name}@{configuration.host}") as rabbit:
            yield rabbit


def topology(configuration: Configuration) -> tuple[Sequence[str], Sequence[Queue]]:
    """Return every exchange and queue of the installation: who starts first declares them for all."""
    queues = [queue for component in QUEUES.values() for queue in component]
    hosts = {configuration.host, *configuration.inventory.hosts}
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


async def run_services(
    components: Sequence[str], services: Sequence[Service], station: Station, configuration: Configuration
) -> int:
    """Run until told; return the process's exit code."""
    own_folder(station.state)
    until = asyncio.Event()
    stop_on_signals(until)
    broker = station.broker
    name = components[0] if len(components) == 1 else "all"
    inspection = Inspection(
        station.sockets / f"{name}.sock",
        services,
        station.clock,
        ready=lambda: {"broker": broker.connected},
        about={"restarts": int(os.environ.get("EXHAUST_RESTARTS", "0"))},
    )
    gc.freeze()  # what is there after the start stays: looking through it again and again would only cost time
    log.info("started", extra={"components": ",".join(components), "pid": os.getpid()})
    declaring = asyncio.create_task(_declare(broker, configuration), name="declare")
    orphaned = asyncio.create_task(stop_when_orphaned(until), name="supervisor")
    guard = asyncio.create_task(_stop_when_stuck(broker, until), name="stuck")
    try:
        await serve([*services, inspection], until)
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
    finally:
        for task in (declaring, guard, orphaned):
            task.cancel()
    log.info("stopped", extra={"components": ",".join(components)})
    return STUCK if isinstance(broker, RabbitMQ) and broker.stuck.is_set() else 0


async def _declare(broker: Broker, configuration: Configuration) -> None:
    try:
        await broker.declare(*topology(configuration))
    except BrokerError as exc:
        log.error("exchanges and queues are not as they ought to be", extra={"error": str(exc)})


def leaves(group: BaseExceptionGroup[BaseException] | None) -> Iterator[BaseException]:
    """Yield what is at the bottom of a group of errors."""
    for error in group.exceptions if group is not None else ():
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


async def _stop_when_stuck(broker: Broker, until: asyncio.Event) -> None:
    if isinstance(broker, RabbitMQ):
        await broker.stuck.wait()
        log.error("our own messages do not come back: leaving, to be started anew")
        until.set()


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
