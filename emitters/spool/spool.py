"""Where records are safe before they are sent: in a log on disk, numbered, until the broker has confirmed them."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from emitters.spool.backlog import Backlog
from emitters.spool.book import Placed, Positions
from emitters.spool.frames import Hole
from emitters.spool.numbering import Numbers
from emitters.spool.outdated import Outdated
from emitters.spool.parcels import Parcel, Stream
from emitters.spool.scribe import Scribe, Thread
from emitters.spool.segments import Log
from emitters.spool.sending import PATIENCE, Sender
from emitters.spool.writing import Writer
from exhaust.broker.interface import Broker, Publication
from exhaust.clock import Clock
from exhaust.plugins import Keeps

log = logging.getLogger(__name__)

SHARES: Mapping[Keeps, float] = {"metrics": 0.8, "logs": 0.9, "audit": 1.0}
"""How full the log may be before records of a class wait, or are dropped."""
OLDEST = 7 * 86_400.0
STUCK_AFTER = 60.0
_MANY_PENDING = 4 << 20
_MOST_PENDING = 16 << 20
_WAIT_AT_MOST = 1.0
_DRAIN_WITHIN = 3.0
_LOOK_FOR_OLD = 60.0


class Spool:
    """Batches of one host and epoch. What was `put` is on disk a sync later, and only then on its way.

    Where space runs short, or the disk refuses, records wait or are dropped; the next batch of their stream says how
    many. `idle` is set while everything is on disk and nothing fresh is without its confirm; `tight` while `room` may
    have to be waited for.
    """

    def __init__(
        self,
        log: Log,
        broker: Broker,
        host: str,
        clock: Clock,
        *,
        oldest: float = OLDEST,
        scribe: Scribe | None = None,
        patience: Sequence[float] = PATIENCE,
    ) -> None:
        self._log = log
        self._broker = broker
        self._clock = clock
        self._numbers = Numbers(log.book.dropped)
        scribe = scribe or Thread()
        self._sender = Sender(broker, Backlog(log, scribe, self._lose), self._confirmed, self._look, patience=patience)
        self._writer = Writer(log, scribe, host, self._numbers, self._stored, self._look)
        self._outdated = Outdated(log, scribe, oldest)
        log.book.begin(max(log.book.epoch + 1, int(clock.now() * 1000)))
        self._resting_since: float | None = None  # by the event loop's clock
        self._eased = asyncio.Event()
        self._failed = asyncio.Event()
        self.tight = False
        self.idle = asyncio.Event()
        self.idle.set()
        for emitter, stream, count in log.lost:
            self._numbers.drop((emitter, stream), "garbled", count)

    def put(self, parcels: Sequence[Parcel], moved: Positions | None = None) -> None:
        """Take parcels for the next group; `moved` is where their sources are after all of them."""
        taken = [parcel for parcel in parcels if self._takes(parcel)]
        now = self._clock.now()
        for parcel in taken:
            parcel.time = now
        self._writer.put(taken, moved or {})
        if self._writer.busy:
            self.idle.clear()
            self.tight = self.tight or self._crowded()

    def _takes(self, parcel: Parcel) -> bool:
        # An empty one that has something to tell is small, and what it tells is told nowhere else.
        keeps: Keeps = parcel.keeps if parcel.records or not self._has_to_tell(parcel.stream) else "audit"
        if parcel.waits or not (why := self._refusal(keeps)):
            return True
        self.drop(parcel.stream, why, len(parcel.records))
        return False

    def _has_to_tell(self, stream: Stream) -> bool:
        return stream in self._log.book.dropped or stream in self._log.book.forgone

    def _refusal(self, keeps: Keeps) -> str:
        """Return why records of a class cannot be stored now; empty where they can."""
        if self._writer.refused:
            return "disk_full"
        return "spool_full" if self._writer.size >= _MOST_PENDING or self._log.level >= SHARES[keeps] else ""

    def drop(self, stream: Stream, reason: str, count: int) -> None:
        """Count records that go no further; the stream's next batch tells of them."""
        self._numbers.drop(stream, reason, count)
        if count:
            self._writer.note()

    async def room(self, keeps: Keeps, *, waits: bool) -> None:
        """Return when there is room for more; at the latest after a second for who cannot wait."""
        if waits:
            while self._crowded() or self._refusal(keeps):
                await self._easing()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_AT_MOST):
                while self._crowded() and not self._writer.refused:
                    await self._easing()

    def _crowded(self) -> bool:
        """Tell whether disk or broker have their hands full: what comes on top would only become backlog."""
        return self._writer.size >= _MANY_PENDING or self._sender.full

    async def synced(self) -> None:
        """Return when all that was put is on disk."""
        while self._writer.busy:
            await self._easing()

    async def _easing(self) -> None:
        self._eased.clear()
        await self._eased.wait()

    def positions(self, use: str) -> Mapping[str, Any]:
        """Return where the source of an emitter's use is, as far as it is on disk: it changes as that advances."""
        return MappingProxyType(self._log.book.ask(use, self._clock.now()))

    def batches(self, emitter: str) -> int:
        """Return how many batches of an emitter were stored in this epoch."""
        return self._numbers.batches(emitter)

    def dropped(self, emitter: str) -> Mapping[str, int]:
        """Return how many records of an emitter went no further since this process began, by reason."""
        return dict(self._numbers.lost_by.get(emitter, {}))

    async def run(self) -> None:
        """Send until cancelled. Raises what is wrong with us rather than with the disk or the broker."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sender.run(), name="send")
            group.create_task(self._give_up_old(), name="old")
            await self._failed.wait()
            if self._writer.fault is not None:
                raise self._writer.fault

    async def drain(self) -> None:
        """Tell what was dropped, and wait a while for the confirms; what gets none is sent by the next run."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_WITHIN):
                if not self._writer.refused:
                    await self.synced()
                    now, untold = self._clock.now(), self._numbers.untold(self._log.book.forgone)
                    self._writer.put([Parcel(stream, (), time=now) for stream in untold], {})
                    await self.synced()
                await self._sender.landed()

    def close(self) -> None:
        """Write no more."""
        self._writer.close()

    def status(self) -> dict[str, Any]:
        """Return what an operator wants to know of it; `oldest` is an age in seconds, None where nothing is unsent."""
        told, oldest = self._log.status(), self._log.book.oldest
        return {
            **told,
            "backlog": max(0, told["unsent"] - self._sender.flying),
            "oldest": None if oldest is None else max(0.0, self._clock.now() - oldest),
            "dropped": dict(self._numbers.lost),
            "epoch": self._log.book.epoch,
            "last_error": self._writer.refused or self._sender.last_error,
        }

    def stuck(self) -> str:
        """Say what has hung here for a minute; empty where all is well, or where the broker is what is waited for.

        A broker that confirms nothing, or wants nothing, would do so after a new start as well.
        """
        now = asyncio.get_running_loop().time()
        if self._writer.since is not None and now - self._writer.since >= STUCK_AFTER:
            return f"a write has not come back for {now - self._writer.since:.0f} s"
        waits = self._sender.flying or not self._broker.connected or getattr(self._broker, "blocked", False)
        since = self._resting_since
        if since is None or waits or not self._log.book.unsent or self._sender.tried > since:
            self._resting_since = since = now
        return f"nothing was sent for {now - since:.0f} s" if now - since >= STUCK_AFTER else ""

    def _stored(self, placed: Placed, publication: Publication) -> None:
        self._sender.post(placed, publication)

    def _confirmed(self, placed: Placed) -> None:
        self._writer.recycle(self._log.confirm(placed))
        self._writer.note()
        if self.tight:
            self._look()

    def _lose(self, start: int, hole: Hole) -> None:
        """Give up a stretch of the log in which there is no batch any more."""
        for emitter, stream, count in hole.lost:
            self.drop((emitter, stream), "garbled", count)
        self._writer.recycle(self._log.give_up(start, hole.end, max(1, len(hole.lost))))
        self._writer.note()
        self._look()

    async def _give_up_old(self) -> None:
        while True:
            for start, segment in self._outdated.found(self._clock.now()):
                try:
                    given = await self._outdated.look(segment)
                except OSError as exc:
                    log.warning("what is too old cannot be read now, trying on", extra={"error": str(exc)})
                    continue
                log.warning("giving up what is too old", extra={"bytes": segment.end - segment.start})
                for stream, count in given.records.items():
                    self.drop(stream, "too_old", count)
                self._sender.forget(start, segment.end)
                self._writer.recycle(self._outdated.give_up(start, segment, given))
                self._writer.note()
                self._look()
            await asyncio.sleep(_LOOK_FOR_OLD)
            if unasked := self._log.book.attend(self._clock.now()):
                log.warning("forgetting positions that nobody asks for any more", extra={"uses": unasked})

    def _look(self) -> None:
        """See how things are, and wake those who wait for something of the spool."""
        writer = self._writer
        self.tight = bool(writer.refused) or self._crowded() or self._log.level >= SHARES["metrics"]
        if writer.busy or self._sender.fresh:
            self.idle.clear()
        else:
            self.idle.set()
        if writer.fault is not None:
            self._failed.set()
        self._eased.set()
