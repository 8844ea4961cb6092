"""Where time comes from: the system's clock, or one that a test or a replay turns by hand."""

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Protocol

_LOOK_AGAIN = 60.0


class Clock(Protocol):
    """Seconds since the epoch, and waiting for them to come."""

    def now(self) -> float: ...

    async def until(self, moment: float) -> None:
        """Return at `moment`, at once if it has passed; at the latest after what was left when asked."""

    def every(self, seconds: float) -> AsyncIterator[float]:
        """Yield the time now, and again each `seconds`; beats that were missed are skipped, not made up for."""


async def _beats(clock: Clock, seconds: float, until: Callable[[float], Awaitable[None]]) -> AsyncIterator[float]:
    due = clock.now()
    while True:
        await until(due)
        now = clock.now()
        yield now
        due += seconds * max(1, 1 + (now - due) // seconds)
        due = min(due, clock.now() + seconds)  # further away only where the clock was set back


class SystemClock:
    """The machine's wall clock, to the microsecond."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def now(self) -> float:
        return round(self._wall(), 6)

    async def until(self, moment: float) -> None:
        await self._wait(moment, moment - self._wall())

    async def _wait(self, moment: float, most: float) -> None:
        # A wall clock may be set while we wait. Forward: look again at least once a minute. Back: wait no longer than
        # `most` seconds on the clock that nobody sets.
        latest = self._monotonic() + most
        while (left := min(moment - self._wall(), latest - self._monotonic())) > 0:  # noqa: ASYNC110  time has no event
            await asyncio.sleep(min(left, _LOOK_AGAIN))

    def every(self, seconds: float) -> AsyncIterator[float]:
        return _beats(self, seconds, partial(self._wait, most=seconds))


class VirtualClock:
    """Stands still until told otherwise; waiters are woken in the order of their moments."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        return self._now

    async def until(self, moment: float) -> None:
        if moment <= self._now:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (moment, self._count, woken))
        await woken

    def every(self, seconds: float) -> AsyncIterator[float]:
        return _beats(self, seconds, self.until)

    def advance(self, seconds: float) -> None:
        """Move time on and wake whoever waited for it."""
        self._now = round(self._now + seconds, 6)
        while self._waiting and self._waiting[0][0] <= self._now:
            woken = heapq.heappop(self._waiting)[2]
            if not woken.done():
                woken.set_result(None)
