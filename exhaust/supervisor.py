"""Keeps the children of `exhaust up` running: one process with the embedded broker, else one a component."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exhaust.clock import Clock
from exhaust.processes import Process, ended, find, has_ended, reap, send, spawn

# Where a child finds who keeps it: it ends with its supervisor, or a second set would run beside it.
SUPERVISOR = "EXHAUST_SUPERVISOR"

log = logging.getLogger(__name__)

_PATIENCE = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STEADY = 30.0
STOP_WITHIN = 12.0


@dataclass(frozen=True, slots=True)
class Child:
    """What is kept running: its name and its command line."""

    name: str
    argv: tuple[str, ...]


def children(components: Sequence[str], config: str, *, embedded: bool) -> list[Child]:
    """Return the processes of an installation."""
    base = (sys.executable, "-m", "exhaust.main", "run")
    if embedded:
        return [Child("all", (*base, *components, "--config", config))]
    return [Child(name, (*base, name, "--config", config)) for name in components]


async def supervise(
    kept: Sequence[Child], until: asyncio.Event, clock: Clock, *, stop_within: float = STOP_WITHIN
) -> None:
    """Keep all of them running until told; then stop them, by force after `stop_within`, and return when they ended."""
    async with asyncio.TaskGroup() as tasks:
        for child in kept:
            tasks.create_task(_keep(child, until, clock, stop_within), name=child.name)


async def _keep(child: Child, until: asyncio.Event, clock: Clock, stop_within: float) -> None:
    """Start it again whenever it ends; the sooner it ends the longer the pause."""
    failures = restarts = 0
    own = find(os.getpid()) or Process(os.getpid(), 0)
    while not until.is_set():
        began = clock.now()
        extra = {"EXHAUST_RESTARTS": str(restarts), SUPERVISOR: f"{own.pid}@{own.started}"}
        try:
            status = await _live(child, until, extra, stop_within)
        except OSError as exc:
            status = None
            log.error("child cannot be started", extra={"child": child.name, "error": str(exc)})
        if until.is_set():
            return
        failures = 0 if clock.now() - began > _STEADY else failures + 1
        restarts += 1
        pause = _PATIENCE[min(failures, len(_PATIENCE)) - 1] if failures else 0.0
        log.error("child ended, starting it again", extra={"child": child.name, "exit": status, "pause": pause})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), pause)


async def _live(child: Child, until: asyncio.Event, extra: Mapping[str, str], within: float) -> int | None:
    """Run one life of a child: return its exit status, or None once it was told to stop and has."""
    process = spawn(child.argv, env={**os.environ, **extra}, stdin=None, stdout=1, stderr=2)
    pidfd = process.open()
    if pidfd is None:
        pidfd = os.pidfd_open(process.pid)  # ended already, and not yet collected: it is our child
    life = asyncio.ensure_future(ended(pidfd))
    stop = asyncio.ensure_future(until.wait())
    try:
        await asyncio.wait([life, stop], return_when=asyncio.FIRST_COMPLETED)
        if not life.done():
            await _stop(pidfd, life, within)
        await life
        return reap(pidfd)
    finally:
        life.cancel()
        stop.cancel()
        if not has_ended(pidfd):  # we are cut off: nobody else will tell it to stop
            send(pidfd, signal.SIGTERM)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)


async def _stop(pidfd: int, life: asyncio.Future[None], within: float) -> None:
    send(pidfd, signal.SIGTERM)
    done, _ = await asyncio.wait([life], timeout=within)
    if not done:
        send(pidfd, signal.SIGKILL)
