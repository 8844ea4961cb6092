"""Keeps the children of `exhaust up` running: who ends is started again, and who hangs is killed for it."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exhaust.clock import Clock
from exhaust.lifecycle.inspection import ask
from exhaust.lifecycle.service import stop_in_turn
from exhaust.processes import Process, ended, find, has_ended, reap, send, spawn

# Where a child finds who keeps it: it ends with its supervisor, or a second set would run beside it.
SUPERVISOR = "EXHAUST_SUPERVISOR"

log = logging.getLogger(__name__)

Ask = Callable[[Path, float], Awaitable[str | None]]

_PATIENCE = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STEADY = 30.0
_MANY_ENDS, _ENDS_WITHIN = 5, 60.0
_EAGER = 4


@dataclass(frozen=True, slots=True)
class Child:
    """What is kept running: its name, its command line, and where it answers how it is, if it does."""

    name: str
    argv: tuple[str, ...]
    socket: Path | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is waited for a child, in seconds.

    Killed is who, having answered once, does not answer for `hung_after`, or who has not answered `starts_within` of
    its start; and who has not ended when all were to have stopped: `stop_within` of the first being told to.
    """

    ask_every: float = 1.0
    hung_after: float = 10.0
    starts_within: float = 30.0
    stop_within: float = 9.0


def children(components: Sequence[str], config: str, *, embedded: bool, sockets: Path | None = None) -> list[Child]:
    """Return the processes of an installation: one with the embedded broker, else one a component."""
    base = (sys.executable, "-m", "exhaust.main", "run")
    sets = {"all": tuple(components)} if embedded else {name: (name,) for name in components}
    return [
        Child(name, (*base, *several, "--config", config), sockets and sockets / f"{name}.sock")
        for name, several in sets.items()
    ]


class Health:
    """Judges one life of a child by its answers, on a clock that nobody sets.

    What passes between two answers counts only in part, lest a pause of our own be laid to the child.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self.answered = False
        self._limits = limits
        self._last = now
        self._unwell = 0.0

    def take(self, fault: str | None, now: float) -> str | None:
        """Take an answer, None where it is well; return why the child is to be killed, if it is."""
        passed, self._last = min(now - self._last, 3 * self._limits.ask_every), now
        if fault is None:
            self.answered, self._unwell = True, 0.0
            return None
        self._unwell += passed
        limit = self._limits.hung_after if self.answered else self._limits.starts_within
        return f"{fault}, for {self._unwell:.0f} s" if self._unwell >= limit else None


class Keeper:
    """Keeps one child running; `complete` is called when it has answered for the first time."""

    def __init__(
        self,
        child: Child,
        clock: Clock,
        limits: Limits,
        complete: Callable[[], None],
        *,
        ask: Ask = ask,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.child = child
        self.answered = False
        self._clock = clock
        self._limits = limits
        self._complete = complete
        self._ask = ask
        self._monotonic = monotonic
        self._pidfd: int | None = None
        self._pid: int | None = None
        self._state = "waiting"
        self._to_reload = False
        self._since = clock.now()
        self._began = monotonic()
        self._restarts = self._failures = 0
        self._last_exit: int | None = None
        self._last_error = ""
        self._ends: deque[float] = deque(maxlen=_MANY_ENDS)
        self._crashing = False

    @property
    def state(self) -> str:
        """`starting` until it answers, `running`, `hung` while it is killed for that, `waiting` until it is started.

        `crashing` instead of these for one that ended many times within a minute, until it has run steadily.
        """
        if self._crashing and self._pid is not None and self._steady():
            self._crashing = False
        return "crashing" if self._crashing else self._state

    def status(self) -> dict[str, Any]:
        """Return the child's row of the supervisor's status."""
        return {
            "state": self.state,
            "pid": self._pid,
            "since": self._since,
            "restarts": self._restarts,
            "last_exit": self._last_exit,
            "last_error": self._last_error,
        }

    def reload(self) -> None:
        """Tell it to read its configuration again: one that is starting as soon as it listens to that."""
        if self._state == "starting":
            self._to_reload = True
        else:
            self._signal(signal.SIGHUP)

    async def keep(self, until: asyncio.Event, at_once: asyncio.Event) -> None:
        """Start it again whenever it ends, until told; the sooner it ends the longer the pause."""
        while not until.is_set():
            self._began = self._monotonic()
            hung = None
            try:
                hung = await self._live(until, at_once)
            except OSError as exc:
                self._last_exit, self._last_error = None, f"cannot be started: {exc}"
            if until.is_set():
                return
            pause = self._end(hung)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), pause)

    def _steady(self) -> bool:
        return self._monotonic() - self._began > _STEADY

    def _end(self, hung: str | None) -> float:
        """Note that a life is over; return how long to wait before the next."""
        name, self._state, self._since = self.child.name, "waiting", self._clock.now()
        if hung is not None:
            self._last_error = f"killed, since it hung: {hung}"
        if self._steady():
            self._failures, self._crashing = 0, False
        else:
            self._failures += 1
        pause = _PATIENCE[min(self._failures, len(_PATIENCE)) - 1] if self._failures else 0.0
        told = {"child": name, "exit": self._last_exit, "error": self._last_error, "pause": pause}
        log.error("child ended, starting it again", extra=told)
        self._ends.append(self._monotonic())
        if len(self._ends) == _MANY_ENDS and self._ends[-1] - self._ends[0] < _ENDS_WITHIN and not self._crashing:
            self._crashing = True
            log.error("child keeps ending: see what it logged", extra={"child": name, "error": self._last_error})
        self._restarts += 1
        return pause

    async def _live(self, until: asyncio.Event, at_once: asyncio.Event) -> str | None:
        """Run one life of it; return why it was killed, None where it ended otherwise."""
        own = find(os.getpid()) or Process(os.getpid(), 0)
        extra = {"EXHAUST_RESTARTS": str(self._restarts), SUPERVISOR: f"{own.pid}@{own.started}"}
        process = spawn(self.child.argv, env={**os.environ, **extra}, stdin=None, stdout=1, stderr=2)
        self._pid, self._since, self._state = process.pid, self._clock.now(), "starting"
        self._to_reload = False
        pidfd = process.open()
        if pidfd is None:
            pidfd = os.pidfd_open(process.pid)  # ended already, and not yet collected: it is our child
        self._pidfd = pidfd
        life = asyncio.ensure_future(ended(pidfd))
        stop = asyncio.ensure_future(until.wait())
        watch = asyncio.ensure_future(self.watch())
        try:
            await asyncio.wait([life, stop, watch], return_when=asyncio.FIRST_COMPLETED)
            hung = watch.result() if watch.done() and not life.done() and not stop.done() else None
            if hung is not None:
                self._kill(hung)
            elif not life.done():
                await self._stop(life, at_once)
            await life
            self._note(reap(pidfd))
            return hung
        finally:
            for task in (life, stop, watch):
                task.cancel()
            self._pidfd = self._pid = None
            if not has_ended(pidfd):  # we are cut off: nobody else will tell it to stop
                send(pidfd, signal.SIGTERM)
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)

    async def watch(self) -> str:
        """Ask again and again how it is; return why it is to be killed."""
        health = Health(self._limits, self._monotonic())
        if self.child.socket is None:
            self._answer()
            await asyncio.Event().wait()
        assert self.child.socket is not None  # noqa: S101  the event is never set
        while True:
            fault = await self._ask(self.child.socket, 2 * self._limits.ask_every)
            if (hung := health.take(fault, self._monotonic())) is not None:
                return hung
            if fault is None and self._state != "running":
                self._answer()
            pause = self._limits.ask_every / (1 if health.answered else _EAGER)
            await self._clock.until(self._clock.now() + pause)

    def _signal(self, number: signal.Signals) -> None:
        if self._pidfd is not None:
            send(self._pidfd, number)

    def _answer(self) -> None:
        self._state = "running"
        self.answered = True
        if self._to_reload:
            self._to_reload = False
            self._signal(signal.SIGHUP)
        self._complete()

    def _kill(self, hung: str) -> None:
        """End it by force: one that is stopped, or blocked, hears nothing else."""
        self._state = "hung"
        self._last_error = hung
        log.error("child hangs, killing it", extra={"child": self.child.name, "pid": self._pid, "reason": hung})
        self._signal(signal.SIGKILL)

    async def _stop(self, life: asyncio.Future[Any], at_once: asyncio.Event) -> None:
        self._signal(signal.SIGTERM)
        hurry: asyncio.Future[Any] = asyncio.ensure_future(at_once.wait())
        await asyncio.wait([life, hurry], return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not life.done():
            log.error("child does not stop, killing it", extra={"child": self.child.name, "pid": self._pid})
            self._signal(signal.SIGKILL)

    def _note(self, status: int | None) -> None:
        self._last_exit = status
        if status is not None and status < 0:
            with contextlib.suppress(ValueError):
                self._last_error = f"killed by {signal.Signals(-status).name}"
        elif status is not None:
            self._last_error = f"ended with exit code {status}"


class Supervisor:
    """The service that keeps all children; `complete` is set once each of them has answered.

    They are told to stop in the order given, and all of them have `stop_within` for it.
    """

    name = "supervisor"

    def __init__(self, kept: Sequence[Child], clock: Clock, limits: Limits = Limits()) -> None:
        self.complete = asyncio.Event()
        self.at_once = asyncio.Event()
        self._stop_within = limits.stop_within
        self._keepers = {child.name: Keeper(child, clock, limits, self._look) for child in kept}

    async def run(self, until: asyncio.Event) -> None:
        """Keep them until told; then stop one after the other, with `at_once` by force, and return when they ended."""
        async with asyncio.TaskGroup() as tasks:
            lives = []
            for name, keeper in self._keepers.items():
                stop = asyncio.Event()
                lives.append((stop, tasks.create_task(keeper.keep(stop, self.at_once), name=name)))
            await until.wait()
            await self._stop(lives)

    async def _stop(self, lives: Sequence[tuple[asyncio.Event, asyncio.Task[None]]]) -> None:
        in_turn = asyncio.create_task(stop_in_turn(lives, self._stop_within), name="stop")
        hurry = asyncio.create_task(self.at_once.wait(), name="hurry")
        try:
            await asyncio.wait([in_turn, hurry], timeout=self._stop_within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            in_turn.cancel()
            hurry.cancel()
        self.at_once.set()
        for stop, _ in lives:
            stop.set()

    def status(self) -> dict[str, Any]:
        return {"children": {name: keeper.status() for name, keeper in self._keepers.items()}}

    def ready(self) -> dict[str, bool]:
        """Tell of each child whether it runs."""
        return {name: keeper.state == "running" for name, keeper in self._keepers.items()}

    def reload(self) -> None:
        """Tell all that run to read their configuration again."""
        for keeper in self._keepers.values():
            keeper.reload()

    def _look(self) -> None:
        if all(keeper.answered for keeper in self._keepers.values()):
            self.complete.set()
