"""Listeners that are kept: each is opened again, after a pause that grows, whenever it cannot hear any more."""

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from emitters.listening.intake import Intake
from exhaust.clock import Clock

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


class Listener(Protocol):
    """One way to hear. `wanted` is whether the settings ask for it, or it is used because it is there."""

    name: str
    wanted: bool

    async def open(self) -> None:
        """Begin to hear. Raises OSError with the reason where that cannot be."""

    async def serve(self) -> None:
        """Hear until that is no longer possible, then raise OSError with the reason."""

    async def close(self) -> None:
        """Give back what was opened, as far as it was."""


class Keeping:
    """All listeners of an emitter at work, each in a task of its own. Open it with `async with`."""

    def __init__(self, listeners: Sequence[Listener], intake: Intake, clock: Clock) -> None:
        self._listeners = listeners
        self._intake = intake
        self._clock = clock

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._keep(one), name=one.name) for one in self._listeners]
        for task in self._tasks:
            task.add_done_callback(self._done)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._intake.fail(error)

    async def _keep(self, one: Listener) -> None:
        pause, told = FIRST_PAUSE, ""
        while True:
            began = self._clock.now()
            try:
                await one.open()
                await one.serve()
            except OSError as exc:
                reason = exc.strerror or str(exc)
            finally:
                await one.close()
            now = self._clock.now()
            if now - began >= LONGEST_PAUSE:
                pause, told = FIRST_PAUSE, ""
            if reason != told:
                told = reason
                level = logging.WARNING if one.wanted else logging.INFO
                log.log(level, "source cannot be used, trying again", extra={"source": one.name, "reason": reason})
            await self._clock.until(now + pause)
            pause = min(2 * pause, LONGEST_PAUSE)
