"""Who leads: whoever holds the store's lock. Only then does a component take work; a standby waits for the lock."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from exhaust.errors import LockedError
from exhaust.lifecycle.service import Service, Watched
from exhaust.store import Store

_TRY_AGAIN = 0.25

T = TypeVar("T")

Opening = Callable[[], AbstractContextManager[T]]
"""Opens what only one may have; raises LockedError while somebody else has it."""


@overload
def leading(place: Path, until: asyncio.Event) -> AbstractAsyncContextManager[Store | None]: ...
@overload
def leading(place: Opening[T], until: asyncio.Event) -> AbstractAsyncContextManager[T | None]: ...
@contextlib.asynccontextmanager
async def leading(place: Path | Opening[Any], until: asyncio.Event) -> AsyncIterator[Any]:
    """Open the store at a path, or whatever else, once nobody else holds it; None if told to stop before that."""
    with contextlib.ExitStack() as stack:
        opened = None
        while opened is None and not until.is_set():
            try:
                opened = stack.enter_context(Store(place) if isinstance(place, Path) else place())
            except LockedError:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(until.wait(), _TRY_AGAIN)
        yield opened


class Led(Generic[T]):
    """A service that is made once its store, or what else only one may have, is ours."""

    @overload
    def __init__(self: "Led[Store]", name: str, place: Path, make: Callable[[Store], Service]) -> None: ...
    @overload
    def __init__(self, name: str, place: Opening[T], make: Callable[[T], Service]) -> None: ...
    def __init__(self, name: str, place: Path | Opening[Any], make: Callable[[Any], Service]) -> None:
        self.name = name
        self._place = place
        self._make = make
        self._service: Service | None = None

    async def run(self, until: asyncio.Event) -> None:
        async with leading(self._place, until) as opened:
            if opened is None:
                return
            self._service = self._make(opened)
            try:
                await self._service.run(until)
            finally:
                self._service = None

    def status(self) -> dict[str, Any]:
        return {"state": "standby"} if self._service is None else {"state": "leading", **self._service.status()}

    def stuck(self) -> str:
        return self._service.stuck() if isinstance(self._service, Watched) else ""
