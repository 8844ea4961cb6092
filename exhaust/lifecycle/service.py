"""The life of a service, written once: run until told, drain within a deadline, leave the process."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from exhaust.broker.interface import Broker
from exhaust.clock import Clock
from exhaust.errors import ExhaustError
from exhaust.signing import Keys

log = logging.getLogger(__name__)

DRAIN_WITHIN = 8.0
LEAVE_WITHIN = 9.5
_CANCEL_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class Station:
    """Where a component runs: what the composition root hands to each."""

    host: str
    state: Path
    clock: Clock
    broker: Broker
    keys: Keys

    @property
    def sockets(self) -> Path:
        """The folder of the unix sockets of this installation."""
        return self.state / "run"


class Service(Protocol):
    """What is run: it takes work until told, then takes no more, finishes what is in flight and returns."""

    name: str

    async def run(self, until: asyncio.Event) -> None: ...

    def status(self) -> dict[str, Any]:
        """Plain data for `/status`."""


@runtime_checkable
class Watched(Protocol):
    """A service that can tell that it hangs while the event loop turns."""

    name: str

    def stuck(self) -> str:
        """Why it makes no progress though it could; empty while it does, or waits for others."""


async def serve(services: Sequence[Service], until: asyncio.Event, *, drain_within: float = DRAIN_WITHIN) -> None:
    """Run services side by side until told. One that ends by itself or fails ends all: the supervisor starts anew.

    They are told to stop one after the other, in the order given. Raises what the failed one raised, or TimeoutError
    where the drain of all took longer than `drain_within` seconds.
    """
    stops = [asyncio.Event() for _ in services]
    tasks = [asyncio.create_task(one.run(stop), name=one.name) for one, stop in zip(services, stops, strict=True)]
    sides: list[asyncio.Task[Any]] = [asyncio.create_task(until.wait(), name="until")]
    try:
        first, _ = await asyncio.wait([*sides, *tasks], return_when=asyncio.FIRST_COMPLETED)
        until.set()
        in_turn = stop_in_turn(list(zip(stops, tasks, strict=True)), drain_within)
        sides.append(asyncio.create_task(in_turn, name="stop"))
        done, hung = await asyncio.wait(tasks, timeout=drain_within)
        failed = [task for task in done if task.cancelled() or task.exception()]
        failed.sort(key=lambda task: task not in first)  # what failed first is why we stop
        for task in failed[1:]:
            log.error("failed while stopping", extra={"service": task.get_name()})
        for task in failed:
            task.result()
        if hung:
            names = ", ".join(task.get_name() for task in hung)
            raise TimeoutError(f"{names} did not stop within {drain_within:g} s")
    finally:
        await _cancel([*sides, *tasks])


async def stop_in_turn(lives: Sequence[tuple[asyncio.Event, asyncio.Future[Any]]], within: float) -> None:
    """Tell each to stop once the one before it has ended, or has had its share of half of the time; await their ends.

    So what one has sent is taken by the next, which still listens, and the last has half of `within` seconds left.
    """
    for stop, life in lives:
        stop.set()
        await asyncio.wait([life], timeout=within / 2 / len(lives))
    await asyncio.wait([life for _, life in lives])


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_CANCEL_WITHIN)


def stop_on_signals(
    until: asyncio.Event, *, at_once: asyncio.Event | None = None, within: float = LEAVE_WITHIN
) -> None:
    """Set `until` at SIGTERM or SIGINT, after which the process is gone `within` seconds, whatever hangs.

    A second one sets `at_once`, for who must end others first; where there is none to set, it ends the process.
    """
    loop = asyncio.get_running_loop()
    rest = [event for event in (until, at_once) if event is not None]

    # Not the loop's own handlers: those wait for the loop to turn, and it may be the loop that hangs.
    def stop(number: int, frame: object) -> None:
        if not rest:
            os._exit(128 + number)
        signal.signal(signal.SIGALRM, _give_up)
        if signal.getitimer(signal.ITIMER_REAL)[0] == 0:
            signal.setitimer(signal.ITIMER_REAL, within)
        loop.call_soon_threadsafe(rest.pop(0).set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _give_up(number: int, frame: object) -> None:
    try:
        log.error("did not stop in time: leaving as it is")
    finally:  # a line that was being written when the time was up may forbid another
        os._exit(1)


def reload_on_hangup(asked: asyncio.Event, until: asyncio.Event) -> None:
    """Set `asked` at SIGHUP; but `until` where it says that the terminal we were started from has gone."""
    terminal = os.isatty(0)

    def hear() -> None:
        (until if terminal and not os.isatty(0) else asked).set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hear)


def run_to_exit(main: Awaitable[int]) -> None:
    """Run `main` and leave the process with what it returns, even if a library's task will not end when cancelled.

    A robust AMQP connection that still consumes was seen to keep asyncio.run from returning; what matters is closed
    in order before this, so nothing is lost by not waiting for such a task.
    """

    async def guarded() -> None:
        code = 70
        try:
            code = await main
        except asyncio.CancelledError:
            log.error("cancelled")
        except ExhaustError as exc:
            log.error("stopped by a fault", extra={"error": str(exc)})
            code = 1
        except Exception:
            log.exception("stopped by a fault of ours")
        sys.stdout.flush()
        logging.shutdown()
        os._exit(code)

    asyncio.run(guarded())
