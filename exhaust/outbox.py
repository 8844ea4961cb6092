"""Sends what a store has to send, in order, confirms pipelined, until each publication is confirmed."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import partial

from exhaust.broker.interface import Broker, Publication
from exhaust.errors import BrokerError, UncertainError
from exhaust.store import Store

log = logging.getLogger(__name__)

_MOST_IN_FLIGHT = 256
_TIDY_AFTER = 0.25
_PATIENCE = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Outbox:
    """Publishes at once what is handed to it after its commit; after a failure it goes back to the store's order.

    A confirmed publication leaves the store with the next commit, or when nothing else happens: if the process dies
    before that, it is sent again with the same id.
    """

    def __init__(self, store: Store, broker: Broker) -> None:
        self._store = store
        self._broker = broker
        self._behind = True
        self._failures = 0
        self._flying: set[asyncio.Future[None]] = set()
        self._confirmed: list[int] = []
        self._wake = asyncio.Event()
        self.last_error = ""

    @property
    def well(self) -> bool:
        return not self._failures

    def confirmed(self) -> list[int]:
        """Take the numbers that the next commit may delete."""
        taken, self._confirmed = self._confirmed, []
        return taken

    def post(self, numbers: Sequence[int], publications: Sequence[Publication]) -> None:
        """Send what was just committed; where older ones wait, it waits its turn in the store."""
        if self._behind or len(self._flying) + len(numbers) > _MOST_IN_FLIGHT:
            self._behind = True
            self._wake.set()
            return
        for number, publication in zip(numbers, publications, strict=True):
            self._send(number, publication)

    async def run(self) -> None:
        """Send what is behind, and tidy up, until cancelled."""
        while True:
            if self._behind:
                await self._catch_up()
            elif self._confirmed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _TIDY_AFTER)
                self._tidy()
            else:
                await self._wake.wait()
            self._wake.clear()

    async def drained(self) -> None:
        """Return when nothing is in flight any more."""
        while self._flying:
            await asyncio.wait(self._flying)
            await asyncio.sleep(0)
        self._tidy()

    def _send(self, number: int, publication: Publication) -> None:
        future = asyncio.ensure_future(self._broker.publish(publication))
        self._flying.add(future)
        future.add_done_callback(partial(self._settle, number, publication))

    def _settle(self, number: int, publication: Publication, future: asyncio.Future[None]) -> None:
        self._flying.discard(future)
        self._wake.set()
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error:
            self._fail(publication, error)
        else:
            self._confirmed.append(number)

    def _fail(self, publication: Publication, error: BaseException | None) -> None:
        self._behind = True
        self._failures += 1
        self.last_error = f"{publication.type} to {publication.exchange}: {error or 'given up'}"
        if error and not isinstance(error, BrokerError):
            raise error
        if self._failures == 1 and not isinstance(error, UncertainError):
            log.warning("publishing failed, trying on", extra={"error": self.last_error})

    def _tidy(self) -> None:
        if confirmed := self.confirmed():
            self._store.commit(sent=confirmed)

    async def _catch_up(self) -> None:
        """Send all that the store has. Nothing may be in flight then, or it would be sent twice."""
        await self.drained()
        last = 0
        while page := self._store.unsent(last, _MOST_IN_FLIGHT):
            self._failures = 0
            for number, publication in page:
                self._send(number, publication)
            await self.drained()
            if self._failures:
                await asyncio.sleep(_PATIENCE[min(self._failures, len(_PATIENCE)) - 1])
                return
            last = page[-1][0]
        self._behind = False
