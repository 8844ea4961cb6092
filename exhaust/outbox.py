"""Sends what a store has to send, in order, confirms pipelined, until each publication is confirmed."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from functools import partial

from exhaust.broker.interface import Broker, Publication
from exhaust.errors import BrokerError, UncertainError, UnroutableError
from exhaust.store import Store

log = logging.getLogger(__name__)

_MOST_IN_FLIGHT = 256
_TIDY_AFTER = 0.25
_PATIENCE = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_LAND_WITHIN = 0.5
_DRAIN_WITHIN = 3.0
_LOOK_AGAIN = 0.01
_KNOCK_EVERY = 2.0

Address = tuple[str, str]


class Outbox:
    """Publishes at once what is handed to it after its commit; after a failure it goes back to the store's order.

    A confirmed publication leaves the store with the next commit, or when nothing else happens: if the process dies
    before that, it is sent again with the same id. What no queue wants is put aside with all for the same address, and
    the oldest of it tried again every two seconds, while the rest goes on; what expires is dropped once it has.
    """

    def __init__(self, store: Store, broker: Broker) -> None:
        self._store = store
        self._broker = broker
        self._behind = True
        self._rounds = 0
        self._failed = False
        self._flying: dict[int, asyncio.Future[None]] = {}
        self._confirmed: list[int] = []
        self._unwanted: dict[Address, tuple[int, Publication]] = {}
        self._knock_at = 0.0
        self._latest = 0.0
        self._fault: BaseException | None = None
        self._wake = asyncio.Event()
        self.last_error = ""

    @property
    def well(self) -> bool:
        """Whether what there is to send can be expected to go soon."""
        return self._steady or self._broker.connected

    @property
    def _steady(self) -> bool:
        return not self._rounds and not self._failed

    def confirmed(self) -> list[int]:
        """Take the numbers that the next commit may delete."""
        taken, self._confirmed = self._confirmed, []
        return taken

    def post(self, numbers: Sequence[int], publications: Sequence[Publication]) -> None:
        """Send what was just committed; where older ones wait, it waits its turn in the store."""
        self._latest = max([self._latest, *(publication.time for publication in publications)])
        if self._behind or len(self._flying) + len(numbers) > _MOST_IN_FLIGHT:
            self._fall_behind()
            return
        for number, publication in zip(numbers, publications, strict=True):
            self._send(number, publication)

    async def run(self) -> None:
        """Send what is behind, and tidy up, until cancelled. Raises what the broker raised where it is a fault."""
        while True:
            self._wake.clear()
            self._raise_fault()
            if self._behind:
                await self._catch_up()
            elif self._unwanted and self._knock_at <= asyncio.get_running_loop().time():
                self._knock()
            else:
                await self._rest()

    async def drained(self, within: float = _DRAIN_WITHIN) -> None:
        """Return when nothing is in flight any more, or time is up: what has no confirm then the next run sends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._flying or (self._behind and self.well and self._store.backlog()):
                    await (self._landed(self._flying, within) if self._flying else asyncio.sleep(_LOOK_AGAIN))
        self._tidy()
        self._raise_fault()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _fall_behind(self) -> None:
        self._behind = True
        self._wake.set()

    def _send(self, number: int, publication: Publication) -> None:
        if number not in self._flying and (publication.exchange, publication.key) not in self._unwanted:
            self._launch(number, publication)

    def _launch(self, number: int, publication: Publication) -> None:
        future = asyncio.ensure_future(self._broker.publish(publication))
        self._flying[number] = future
        future.add_done_callback(partial(self._settle, number, publication))

    def _settle(self, number: int, publication: Publication, future: asyncio.Future[None]) -> None:
        del self._flying[number]
        error = None if future.cancelled() else future.exception()
        if isinstance(error, UnroutableError):
            if self._is_over(publication):
                log.warning("nobody took this in its time", extra={"id": publication.id, "type": publication.type})
                self._done(number, publication)
            else:
                self._put_aside(number, publication, error)
        elif error or future.cancelled():
            self._fail(publication, error)
        else:
            if not self._unwanted:
                self.last_error = ""
            self._done(number, publication)

    def _done(self, number: int, publication: Publication) -> None:
        self._confirmed.append(number)
        if self._unwanted.pop((publication.exchange, publication.key), None):
            self._fall_behind()
        if len(self._confirmed) == 1:
            self._wake.set()

    def _is_over(self, publication: Publication) -> bool:
        """Whether what has been sent since tells that it has expired; so what expires cannot pile up."""
        return publication.expires is not None and publication.time + publication.expires < self._latest

    def _put_aside(self, number: int, publication: Publication, error: UnroutableError) -> None:
        self.last_error = f"{publication.type} to {publication.exchange}: {error}"
        address = (publication.exchange, publication.key)
        if not self._unwanted:
            self._knock_at = asyncio.get_running_loop().time() + _KNOCK_EVERY
            self._wake.set()
        if address not in self._unwanted:
            log.warning("nobody takes this, trying on", extra={"error": self.last_error})
            self._unwanted[address] = (number, publication)

    def _knock(self) -> None:
        """Try the oldest for each address that nobody wanted; when one is taken, the rest follows in order."""
        self._knock_at = asyncio.get_running_loop().time() + _KNOCK_EVERY
        for number, publication in self._unwanted.values():
            if number not in self._flying:
                self._launch(number, publication)

    def _fail(self, publication: Publication, error: BaseException | None) -> None:
        self.last_error = f"{publication.type} to {publication.exchange}: {error or 'given up'}"
        if error and not isinstance(error, BrokerError):
            self._fault = self._fault or error
        if self._steady and not isinstance(error, UncertainError):
            log.warning("publishing failed, trying on", extra={"error": self.last_error})
        self._failed = True
        self._fall_behind()

    def _tidy(self) -> None:
        if confirmed := self.confirmed():
            self._store.commit(sent=confirmed)

    async def _rest(self) -> None:
        """Wait for something to do: failures, addresses to try again, or confirms that no commit took along."""
        seconds = _TIDY_AFTER if self._confirmed else None
        if self._unwanted:
            left = max(0.0, self._knock_at - asyncio.get_running_loop().time())
            seconds = left if seconds is None else min(left, seconds)
        try:
            async with asyncio.timeout(seconds):  # wait_for of Python 3.11 may swallow a cancellation
                await self._wake.wait()
        except TimeoutError:
            self._tidy()

    async def _landed(self, numbers: Iterable[int], within: float = _LAND_WITHIN) -> None:
        """Wait until what is in flight of these has come down, or time is up."""
        if flying := [self._flying[number] for number in numbers if number in self._flying]:
            await asyncio.wait(flying, timeout=within)
        await asyncio.sleep(0)  # so that the futures' callbacks have run
        self._raise_fault()

    async def _catch_up(self) -> None:
        """Send all that the store has and that is not in flight."""
        await self._landed(self._flying)  # what failed together goes again in order
        self._rounds += self._failed
        self._failed = False
        last = 0
        while page := self._page(last):
            for number, publication in page:
                self._send(number, publication)
            last = page[-1][0]
            await self._landed([number for number, _ in page])
            while len(self._flying) >= _MOST_IN_FLIGHT:
                await asyncio.wait(list(self._flying.values()), return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0)
            if self._failed:
                await asyncio.sleep(_PATIENCE[min(self._rounds, len(_PATIENCE) - 1)])
                return
        self._rounds = 0
        self._behind = False

    def _page(self, after: int) -> list[tuple[int, Publication]]:
        """Return the next from the store; what is confirmed leaves it first, so that nothing is sent twice."""
        self._tidy()
        return self._store.unsent(after, _MOST_IN_FLIGHT)
