"""Sends batches: fresh ones at once, what was left behind by a way of its own, until the broker has confirmed each."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from emitters.spool.backlog import Backlog
from emitters.spool.book import Placed
from emitters.spool.spans import Spans
from exhaust.broker.interface import Broker, Publication
from exhaust.errors import BrokerError, UncertainError, UnroutableError
from exhaust.routing import BACKLOG

log = logging.getLogger(__name__)

PATIENCE = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
WINDOW = 32
_LATE_BYTES = 1 << 20
_MOST_IN_FLIGHT = 256
_MOST_BYTES = 16 << 20
_LAND_WITHIN = 0.5

Address = tuple[str, str]


@dataclass(slots=True)
class _Unwanted:
    """What no queue wants: the batch that is tried again, and the others for the same address that wait for it."""

    placed: Placed
    publication: Publication
    others: Spans


class Sender:
    """Publishes what it is handed, confirms pipelined, and beside that the backlog, a few at a time.

    `confirmed` is told of each batch that the broker has; `eased` when no fresh one is in flight any more, or there is
    room for more. After a failure everything goes to the backlog, of which one batch at a time is tried until one gets
    through.
    """

    def __init__(
        self,
        broker: Broker,
        backlog: Backlog,
        confirmed: Callable[[Placed], None],
        eased: Callable[[], None],
        *,
        patience: Sequence[float] = PATIENCE,
    ) -> None:
        self._broker = broker
        self._backlog = backlog
        self._confirmed = confirmed
        self._eased = eased
        self._patience = patience
        self._flying: dict[int, asyncio.Future[None]] = {}  # by the batch's end
        self._bytes = 0
        self._late = 0
        self._late_bytes = 0
        self._well = True
        self._failed = False
        self._rounds = 0
        self._unwanted: dict[Address, _Unwanted] = {}
        self._knocks = 0
        self._knock_at = 0.0
        self._fault: BaseException | None = None
        self._wake = asyncio.Event()
        self.tried = 0.0  # when it last tried to send something, by the event loop's clock
        self.last_error = ""

    @property
    def fresh(self) -> int:
        """How many fresh batches are in flight."""
        return len(self._flying) - self._late

    @property
    def full(self) -> bool:
        """Whether as many fresh batches are in flight as may be, and the broker takes its time."""
        crowded = self.fresh >= _MOST_IN_FLIGHT or self._bytes - self._late_bytes >= _MOST_BYTES
        return crowded and self._well

    @property
    def flying(self) -> int:
        """How many batches are in flight, fresh and late."""
        return len(self._flying)

    def post(self, placed: Placed, publication: Publication) -> None:
        """Send a fresh batch at once; where that cannot be, it becomes backlog."""
        address = (publication.exchange, publication.key)
        if self._well and not self.full and address not in self._unwanted:
            self._launch(placed, publication)
        else:
            self._backlog.add(placed.start, placed.end)
            self._wake.set()

    def forget(self, start: int, end: int) -> None:
        """Drop what waits in a stretch of the log."""
        self._backlog.forget(start, end)
        for one in self._unwanted.values():
            one.others.remove(start, end)

    async def run(self) -> None:
        """Send the backlog until cancelled. Raises what the broker raised where it is a fault of ours."""
        while True:
            self._wake.clear()
            if self._fault is not None:
                raise self._fault
            if self._failed:
                await self._back_off()
            elif self._unwanted and self._knock_at <= asyncio.get_running_loop().time():
                self._knock()
            elif self._backlog and self._may_send_late():
                await self._send_next()
            else:
                await self._rest()

    async def landed(self) -> None:
        """Return when nothing is in flight or to be sent, or nothing gets through."""
        while self._well and (self._flying or self._backlog):
            await (asyncio.wait(list(self._flying.values())) if self._flying else asyncio.sleep(0.01))
            await asyncio.sleep(0)  # so that the futures' callbacks have run

    def _may_send_late(self) -> bool:
        return self._late < (WINDOW if self._well else 1) and self._late_bytes < _LATE_BYTES

    def _launch(self, placed: Placed, publication: Publication) -> None:
        self.tried = asyncio.get_running_loop().time()
        future = asyncio.ensure_future(self._broker.publish(publication))
        self._flying[placed.end] = future
        self._bytes += placed.size
        if publication.exchange == BACKLOG:
            self._late += 1
            self._late_bytes += placed.size
        future.add_done_callback(partial(self._settle, placed, publication))

    def _settle(self, placed: Placed, publication: Publication, future: asyncio.Future[None]) -> None:
        try:
            self._land(placed, publication, future)
        except Exception as exc:  # noqa: BLE001  handed on: nobody sees what a future's callback raises
            self._fault = self._fault or exc
            self._wake.set()

    def _land(self, placed: Placed, publication: Publication, future: asyncio.Future[None]) -> None:
        self.tried = asyncio.get_running_loop().time()
        full = self.full
        del self._flying[placed.end]
        self._bytes -= placed.size
        late = publication.exchange == BACKLOG
        if late:
            self._late -= 1
            self._late_bytes -= placed.size
        error = None if future.cancelled() else future.exception()
        if isinstance(error, UnroutableError):
            self._put_aside(placed, publication, error)
        elif error or future.cancelled():
            self._fail(placed, publication, error)
        else:
            self._confirm(placed, publication)
        if late:
            self._wake.set()
        if full or not self.fresh:
            self._eased()

    def _confirm(self, placed: Placed, publication: Publication) -> None:
        self._confirmed(placed)
        self._well, self._rounds = True, 0
        if not self._unwanted:
            self.last_error = ""
        elif (freed := self._unwanted.pop((publication.exchange, publication.key), None)) is not None:
            if freed.placed.end not in self._flying and freed.placed != placed:
                freed.others.add(freed.placed.start, freed.placed.end)
            for start, end in freed.others:
                self._backlog.add(start, end)
            self._wake.set()

    def _put_aside(self, placed: Placed, publication: Publication, error: UnroutableError) -> None:
        self.last_error = f"{publication.type} to {publication.exchange}: {error}"
        self._well, self._rounds = True, 0  # the broker is there, and may want others
        held = self._unwanted.get(address := (publication.exchange, publication.key))
        if held is None:
            if not self._unwanted:
                self._knocks = 0
                self._knock_at = asyncio.get_running_loop().time() + self._patience[0]
                self._wake.set()
            log.warning("nobody takes this, trying on", extra={"error": self.last_error})
            self._unwanted[address] = _Unwanted(placed, publication, Spans())
        elif held.placed != placed:
            held.others.add(placed.start, placed.end)

    def _knock(self) -> None:
        """Try the oldest for each address that nobody wanted; when one is taken, the others follow in order."""
        self._knocks += 1
        pause = self._patience[min(self._knocks, len(self._patience) - 1)]
        self._knock_at = asyncio.get_running_loop().time() + pause
        for one in list(self._unwanted.values()):
            if one.placed.end not in self._flying:
                self._launch(one.placed, one.publication)

    def _fail(self, placed: Placed, publication: Publication, error: BaseException | None) -> None:
        self.last_error = f"{publication.type} to {publication.exchange}: {error or 'given up'}"
        if error and not isinstance(error, BrokerError):
            self._fault = self._fault or error
        if self._well and not isinstance(error, UncertainError):
            log.warning("publishing failed, trying on", extra={"error": self.last_error})
        self._well, self._failed = False, True
        held = self._unwanted.get((publication.exchange, publication.key))
        if held is None or held.placed != placed:  # else it is tried again from there
            self._backlog.add(placed.start, placed.end)
        self._wake.set()

    async def _back_off(self) -> None:
        """Let what fails together come down, and wait: longer each time, until something gets through."""
        if self._flying:
            await asyncio.wait(list(self._flying.values()), timeout=_LAND_WITHIN)
        await asyncio.sleep(self._patience[min(self._rounds, len(self._patience) - 1)])
        self._rounds += 1
        self._failed = False

    async def _send_next(self) -> None:
        try:
            found = await self._backlog.next()
        except OSError as exc:
            self.last_error = f"the spool cannot be read: {exc}"
            self.tried = asyncio.get_running_loop().time()
            await asyncio.sleep(self._patience[-1])
            return
        if found is None:
            return
        placed, publication = found
        if (held := self._unwanted.get((publication.exchange, publication.key))) is not None:
            held.others.add(placed.start, placed.end)
        else:
            self._launch(placed, publication)

    async def _rest(self) -> None:
        """Wait for something to do, or until addresses are to be tried again."""
        left = self._knock_at - asyncio.get_running_loop().time() if self._unwanted else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):  # wait_for of Python 3.11 may swallow a cancellation
                await self._wake.wait()
