"""Who leads: whoever holds the store's lock. Only then does a component take work; a standby waits for the lock."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from exhaust.errors import LockedError
from exhaust.lifecycle.service import Service, Watched
from exhaust.store import Store

_TRY_AGAIN = 0.25


@contextlib.asynccontextmanager
async def leading(path: Path, until: asyncio.Event) -> AsyncIterator[Store | None]:
    """Open the store at `path` once nobody else holds it; None if told to stop before that."""
    with contextlib.ExitStack() as stack:
        store = None
        while store is None and not until.is_set():
            try:
                store = stack.enter_context(Store(path))
            except LockedError:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(until.wait(), _TRY_AGAIN)
        yield store


class Led:
    """A service that is made once its store is ours."""

    def __init__(self, name: str, path: Path, make: Callable[[Store], Service]) -> None:
        self.name = name
        self._path = path
        self._make = make
        self._service: Service | None = None

    async def run(self, until: asyncio.Event) -> None:
        async with leading(self._path, until) as store:
            if store is None:
                return
            self._service = self._make(store)
            try:
                await self._service.run(until)
            finally:
                self._service = None

    def status(self) -> dict[str, Any]:
        return {"state": "standby"} if self._service is None else {"state": "leading", **self._service.status()}

    def stuck(self) -> str:
        return self._service.stuck() if isinstance(self._service, Watched) else ""
