"""Asks who keeps services of them: at every beat of all, and after an end of that one until it is settled."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from exhaust.errors import UnreachableError

_PAUSES = (0.0, 0.02, 0.1, 0.4, 1.0, 2.0)
"""Seconds before each question after an end: long enough together to see a second try of its own."""

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
W = TypeVar("W", bound="Answering[Any]")


class Asked(Protocol[A_co]):
    """A keeper that can be asked of several services at once. Raises UnreachableError where it does not answer."""

    async def infos(self, names: Sequence[str]) -> Sequence[A_co | Exception]: ...


class Answering(Protocol[A_contra]):
    """A service of which its keeper is asked."""

    name: str
    settled: bool

    def hear(self, answer: A_contra | Exception, asked: float) -> None: ...


class Enquiry(Generic[A, W]):
    """Asks one keeper. `tell` is called with each service after an answer, and whether it was asked for a beat."""

    def __init__(self, asked: Asked[A], services: Sequence[W], tell: Callable[[W, bool], None]) -> None:
        self._asked = asked
        self._services = services
        self._tell = tell
        self._due = False
        self._followed: dict[W, int] = {}
        self._wake = asyncio.Event()

    def beat(self) -> None:
        """Ask for all of them; a beat that comes while an answer is awaited waits for that."""
        self._due = True
        self._wake.set()

    def follow(self, service: W) -> None:
        """Ask for one whose process has ended, until it is known what becomes of it, or for some seconds."""
        self._followed[service] = 0
        self._wake.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self._pause()
            due, self._due = self._due, False
            services = self._services if due else list(self._followed)
            if services:
                await self._ask(services)
            for service in services:
                self._tell(service, due)
                self._follow_on(service)

    async def _pause(self) -> None:
        pause = min((_PAUSES[count] for count in self._followed.values()), default=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()
        self._wake.clear()

    def _follow_on(self, service: W) -> None:
        count = self._followed.pop(service, len(_PAUSES)) + 1
        if count < len(_PAUSES) and not service.settled:
            self._followed[service] = count

    async def _ask(self, services: Sequence[W]) -> None:
        asked = asyncio.get_running_loop().time()
        answers: Sequence[A | Exception]
        try:
            answers = await self._asked.infos([service.name for service in services])
        except UnreachableError as exc:
            answers = [exc] * len(services)
        for service, answer in zip(services, answers, strict=True):
            service.hear(answer, asked)
