"""Runs one decider: what arrives is decided, stored and acknowledged, and what follows from it is sent, once.

A decider is pure: it knows no broker, no disk and no clock. It is given messages with the time of their receipt and
says what follows: messages to send, state to keep, work to perform. The worker makes one transaction of a message's
mark as seen, the state and the messages to send; then it acknowledges, publishes, and starts the work.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from exhaust.broker.interface import ACKNOWLEDGE, REDELIVER, Broker, Delivery, Disposition, Publication, Queue, Reject
from exhaust.clock import Clock
from exhaust.decider import Decider
from exhaust.errors import ForgeryError, MessageError, StoreError
from exhaust.marks import mark_of
from exhaust.messages import Message, kind_of
from exhaust.outbox import Outbox
from exhaust.signing import Signer
from exhaust.store import Store
from exhaust.turn import Effect, Keep, Perform, Rows, Turn
from exhaust.wire import unpack

__all__ = ["Decider", "Effect", "Keep", "Perform", "Rows", "Worker"]

log = logging.getLogger(__name__)

_MOST_UNMARKED = 256
# What may wait is on disk by then.
_WAIT = 1.0
# Longer than a clock takes to notice that it was set: see `exhaust.clock`.
_LATE_AFTER = 90.0
# A tick that fails is asked again, each time twice as much later; in less than what counts as late.
_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Worker:
    """One component's decider at work. `perform` does what takes time and returns its outcome; it must not raise."""

    def __init__(
        self,
        name: str,
        decider: Decider,
        store: Store,
        broker: Broker,
        clock: Clock,
        queues: Sequence[Queue],
        *,
        signer: Signer | None = None,
        unpack: Callable[[Delivery], Any] = unpack,
        perform: Callable[[Any], Awaitable[Any]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._decider = decider
        self._store = store
        self._broker = broker
        self._clock = clock
        self._queues = queues
        self._signer = signer
        self._unpack = unpack
        self._perform = perform
        self._outbox = Outbox(store, broker)
        self._seen: dict[str, float] = {}
        self._later: dict[str, bytes | None] = {}
        self._later_by = math.inf
        self._rescheduled = asyncio.Event()
        self._alarm = math.inf
        self._monotonic = monotonic
        self._timing = False
        self._pause = 0.0
        self._paused_until = 0.0
        self._late_since: float | None = None
        self._fault: asyncio.Future[None] | None = None
        self._work: asyncio.TaskGroup | None = None
        self._busy = 0
        self._outcomes: list[tuple[Any, Any]] = []
        self._finished = asyncio.Event()
        self._finished.set()
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    async def run(self, until: asyncio.Event) -> None:
        """Work until told; then take no more, finish what is in flight, publish it, and return."""
        self._decider.recall(self._store.rows)
        self._fault = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as self._work:
            outbox = self._work.create_task(self._outbox.run(), name="outbox")
            faults = self._work.create_task(self._raise_fault(self._fault), name="handler")
            self._turn("resume", lambda: self._decider.resume(self._clock.now()))
            timer = self._work.create_task(self._keep_time(), name="timer")
            await self._consume(until)
            timer.cancel()
            self._timing = False
            await self._finished.wait()
            self._flush()
            await self._outbox.drained()
            outbox.cancel()
            faults.cancel()

    async def _consume(self, until: asyncio.Event) -> None:
        """Consume all queues until told, and return when their last deliveries are handled."""
        consuming: set[str] = set()

        async def one(queue: Queue) -> None:
            async with self._broker.consume(queue, self.handle):
                consuming.add(queue.name)
                await until.wait()

        async with asyncio.TaskGroup() as group:
            tasks = {queue.name: group.create_task(one(queue), name=queue.name) for queue in self._queues}
            await until.wait()
            for name, task in tasks.items():
                if name not in consuming:  # a broker that is away is not waited for
                    task.cancel()

    def status(self) -> dict[str, Any]:
        """Return what an operator wants to know of it."""
        return {
            "counts": dict(self.counts),
            "refused": dict(self.refused),
            "outbox": self._store.backlog(),
            "epoch": self._store.epoch,
            "last_error": self._outbox.last_error,
            **self._decider.status(),
        }

    def stuck(self) -> str:
        """Tell of what has been due for long and is not done, by a clock that nobody sets; asked every second or so."""
        if not self._timing or self._decider.due > self._clock.now():
            self._late_since = None
        elif self._late_since is None:
            self._late_since = self._monotonic()
        late = 0.0 if self._late_since is None else self._monotonic() - self._late_since
        return f"what is due has not been done for {late:.0f} s" if late > _LATE_AFTER else ""

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        """Decide all that has arrived in one transaction; only what cannot be handled is rejected."""
        if self._fault is not None and self._fault.done():
            return [REDELIVER] * len(deliveries)
        try:
            return self._decide(deliveries)
        except Exception as exc:
            # The decider has gone on from what is stored: only a new start brings them together again.
            if self._fault is not None:
                self._fault.set_exception(exc)
            raise

    def put(self, effects: Iterable[Effect]) -> None:
        """Do what a caller beside the queues asks for: durable when this returns, and on its way.

        Raises MessageError where one of the effects cannot be sent, and StoreError while nothing is taken; then
        nothing of it has happened.
        """
        if self._fault is None or self._fault.done():
            raise StoreError(f"the {self.name} takes nothing just now")
        turn = Turn()
        try:
            turn.take(list(effects), self._signer)
        except Exception:
            self._recall()
            raise
        try:
            self._commit(turn)
        except Exception as exc:
            self._fault.set_exception(exc)
            raise

    async def _raise_fault(self, fault: asyncio.Future[None]) -> None:
        await fault

    def _decide(self, deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        received = self._clock.now()
        marks = [mark_of(delivery) for delivery in deliveries]
        by_id = [mark for mark in marks if mark is not None]
        known = self._store.seen(by_id) if by_id else set()
        turn = Turn()
        answers: list[Disposition] = []
        for delivery, mark in zip(deliveries, marks, strict=True):
            if mark in known or mark in turn.seen or mark in self._seen:
                self.counts["duplicate"] += 1
                answers.append(ACKNOWLEDGE)
                continue
            try:
                message = self._unpack(delivery)
            except MessageError as exc:
                answers.append(self._refuse(delivery, exc))
                continue
            try:
                turn.take(self._decider.handle(message, received), self._signer)
            except StoreError:
                raise
            except Exception as exc:  # the one place: a fault of ours costs one message, not the service
                log.exception("message could not be handled", extra={"id": delivery.id, "type": delivery.type})
                self._commit(turn)
                known |= turn.seen.keys()
                turn = Turn()
                self._recall()
                answers.append(self._refuse(delivery, exc))
            else:
                self.counts["handled"] += 1
                if mark is not None:
                    turn.seen[mark] = received
                answers.append(ACKNOWLEDGE)
        self._commit(turn)
        return answers

    def _refuse(self, delivery: Delivery, exc: Exception) -> Reject:
        kind = "forged" if isinstance(exc, ForgeryError) else "unusable" if isinstance(exc, MessageError) else "failed"
        self.refused[kind] += 1
        return Reject(f"{kind}: {exc}"[:300])

    def _turn(self, about: str, decide: Callable[[], Iterable[Effect]]) -> Exception | None:
        """Make a turn of what no message asks for, without the messages that cannot be sent; return why it failed.

        It must never end the process, as the next one would find the same to do and end by it again. What fails has
        left no trace; only where the store fails is there nothing else to do.
        """
        turn = Turn()
        try:
            turn.take(list(decide()), self._signer, self._unsent)
        except StoreError:
            raise
        except Exception as exc:
            log.exception("turn could not be made", extra={"component": self.name, "turn": about})
            self.refused[about] += 1
            self._recall()
            return exc
        self._commit(turn)
        return None

    def _unsent(self, message: Message, exc: Exception) -> None:
        about = {"id": message.id, "type": kind_of(message), "causes": message.causes}
        log.error("message could not be sent", exc_info=exc, extra={"component": self.name, **about})
        self.refused["unsent"] += 1

    def _commit(self, turn: Turn) -> None:
        """Make a turn durable, then send what follows from it.

        Messages that nothing follows from are marked as seen with the next turn that is written anyway: were the mark
        lost, nothing would follow from them again.
        """
        self._seen |= turn.seen
        self._later |= turn.later
        if turn.keep or turn.send or turn.tell or len(self._seen) + len(self._later) >= _MOST_UNMARKED:
            self._write(turn.keep, turn.publications)
        elif self._later and self._later_by == math.inf:
            self._later_by = self._clock.now() + _WAIT
        for perform in turn.perform:
            assert self._work is not None, "work is only asked for while running"  # noqa: S101  a fault of ours
            self._busy += 1
            self._finished.clear()
            self._work.create_task(self._do(perform.work))
        if min(self._due, self._later_by) < self._alarm:
            self._rescheduled.set()

    def _write(self, keep: Mapping[str, bytes | None], send: Sequence[Publication]) -> None:
        numbers = self._store.commit(
            seen=self._seen, keep={**self._later, **keep}, send=send, sent=self._outbox.confirmed()
        )
        self._seen, self._later, self._later_by = {}, {}, math.inf
        self._outbox.post(numbers, send)
        self.counts["sent"] += len(send)

    def _flush(self) -> None:
        """Write what may wait, and has."""
        if self._seen or self._later:
            self._write({}, ())

    def _recall(self) -> None:
        """Let the decider go back to what is kept, after it failed in the middle of something."""
        self._flush()
        self._decider.recall(self._store.rows)

    async def _do(self, work: Any) -> None:
        assert self._perform is not None, "a decider that asks for work needs somebody who does it"  # noqa: S101
        try:
            outcome = await self._perform(work)
            self._outcomes.append((work, outcome))
            if len(self._outcomes) == 1:
                await asyncio.sleep(0)  # what else has come to its end by now shares the commit
                outcomes, self._outcomes = self._outcomes, []
                self._take(outcomes)
        finally:
            self._busy -= 1
            if not self._busy:
                self._finished.set()

    def _take(self, outcomes: Sequence[tuple[Any, Any]]) -> None:
        """Decide outcomes in one turn; where that fails, in one each, so that a bad one costs its own work only."""
        now = self._clock.now()
        fault = self._turn(
            "outcomes", lambda: chain.from_iterable(self._decider.performed(*one, now) for one in outcomes)
        )
        if fault is not None and len(outcomes) > 1:
            for one in outcomes:
                self._take([one])
        elif fault is not None:
            ((work, _),) = outcomes
            self._turn("outcome", lambda: self._decider.performed(work, fault, now))

    @property
    def _due(self) -> float:
        left = self._paused_until - self._monotonic() if self._pause else 0.0
        return self._decider.due if left <= 0.0 else max(self._decider.due, self._clock.now() + left)

    def _tick(self, now: float) -> None:
        if self._turn("tick", lambda: self._decider.tick(now)) is None:
            self._pause = 0.0
        else:
            self._pause = min(max(_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
            self._paused_until = self._monotonic() + self._pause

    async def _keep_time(self) -> None:
        self._timing = True
        while True:
            self._late_since = None
            await asyncio.sleep(0)  # a decider that is due again and again must not keep others from running
            now = self._clock.now()
            if self._due <= now:
                self._tick(now)
            elif self._later_by <= now:
                self._flush()
            else:
                self._alarm = min(self._due, self._later_by)
                if await self._nap() and self._clock.now() < self._alarm:
                    # What was left is over and the moment has not come: the clock was set back.
                    self._flush()
                    self._tick(self._clock.now())

    async def _nap(self) -> bool:
        """Return when something is due before the alarm, or at the alarm; say whether it was that."""
        self._rescheduled.clear()
        waits = [
            asyncio.ensure_future(self._rescheduled.wait()),
            asyncio.ensure_future(self._clock.until(self._alarm)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[1].done()
        finally:
            for wait in waits:
                wait.cancel()
