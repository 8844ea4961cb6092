"""Runs the emitters of this host side by side and spools what they yield."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from emitters.spool import Parcel, Spool, Stream
from exhaust.errors import StoreError
from exhaust.lifecycle.service import Station
from exhaust.plugins import Emitter, Record, Settings
from exhaust.store import Store

log = logging.getLogger(__name__)

HEARTBEAT = 10.0
MOST_RECORDS = 500
MOST_BYTES = 256 << 10  # of a batch, and so of a record
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Observer:
    """One configured emitter, and what the runner has measured of it."""

    name: str
    emitter: Emitter[Any]
    settings: Settings
    running: bool = False
    records: int = 0
    last_time: float | None = None
    restarts: int = 0
    last_error: str = ""


@dataclass(slots=True)
class _Lane:
    """A stream's records that wait for the next commit; `last` is when its last batch was made."""

    last: float
    records: list[msgspec.Raw] = field(default_factory=list)
    size: int = 0

    def take(self) -> list[msgspec.Raw]:
        taken, self.records, self.size = self.records, [], 0
        return taken


def _named(emitters: Sequence[tuple[Emitter[Any], Settings]]) -> Iterator[_Observer]:
    """Tell apart several uses of one emitter: service, service/2."""
    used: dict[str, int] = {}
    for emitter, settings in emitters:
        count = used[emitter.name] = used.get(emitter.name, 0) + 1
        yield _Observer(emitter.name if count == 1 else f"{emitter.name}/{count}", emitter, settings)


class Emitters:
    """The component. Uses of the same emitter share its streams; one that fails does not disturb the others."""

    name = "emitters"

    def __init__(
        self,
        station: Station,
        emitters: Sequence[tuple[Emitter[Any], Settings]],
        store: Store,
        *,
        spool: Spool | None = None,
    ) -> None:
        self._clock = station.clock
        self._spool = spool or Spool(store, station.broker, station.host)
        self._observers = list(_named(emitters))
        now = self._clock.now()
        self._lanes = {
            (emitter.name, stream): _Lane(now)
            for emitter, settings in emitters
            for stream in getattr(settings, "streams", emitter.streams)
        }
        self._waiting = asyncio.Event()

    async def run(self, until: asyncio.Event) -> None:
        """Observe until told; then close the emitters, send what is there, and wait a while for the confirms."""
        self._spool.recall()
        async with asyncio.TaskGroup() as group:
            spool = group.create_task(self._spool.run(), name="spool")
            tasks = [group.create_task(self._observe(one, until), name=one.name) for one in self._observers]
            tasks.append(group.create_task(self._gather(), name="gather"))
            tasks.append(group.create_task(self._beat(), name="heartbeat"))
            await until.wait()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._put(self._waiting_parcels())
            await self._spool.drain(self._clock.now())
            spool.cancel()

    def status(self) -> dict[str, Any]:
        """Return what an operator wants to know of it."""
        return {
            "emitters": {
                one.name: {
                    "running": one.running,
                    "records": one.records,
                    "batches": self._spool.batches(one.emitter.name),
                    "last_time": one.last_time,
                    "restarts": one.restarts,
                    "last_error": one.last_error,
                }
                for one in self._observers
            },
            "spool": self._spool.status(),
        }

    async def _observe(self, one: _Observer, until: asyncio.Event) -> None:
        """Run one emitter again and again, after a pause that grows while it keeps failing."""
        pause = _FIRST_PAUSE
        while True:
            began = self._clock.now()
            try:
                await self._iterate(one)
                error = "it ended by itself"
            except StoreError:
                raise
            except Exception as exc:  # noqa: BLE001  the one place: a plug-in's fault must not stop the others
                error = f"{type(exc).__name__}: {exc}"
            finally:
                one.running = False
            now = self._clock.now()
            if now - began >= _LONGEST_PAUSE:
                pause, one.last_error = _FIRST_PAUSE, ""
            if error != one.last_error:
                one.last_error = error
                log.error("emitter failed, starting it again", extra={"emitter": one.name, "error": error})
            if until.is_set():  # closing it raised something other than what it was cancelled with
                return
            await self._clock.until(now + pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            one.restarts += 1

    async def _iterate(self, one: _Observer) -> None:
        for (emitter, _), lane in self._lanes.items():
            if emitter == one.emitter.name:
                lane.last = self._clock.now()
        # An emitter is an async generator; the protocol says no more than what it means to its readers.
        records = cast("AsyncGenerator[Record]", one.emitter.emit(one.settings, self._clock))
        async with aclosing(records):
            one.running = True
            async for record in records:
                one.records += 1
                one.last_time = record.time
                if self._take(one.emitter, record):
                    await asyncio.sleep(0)  # an emitter that is never short of records must not starve the others

    def _take(self, emitter: Emitter[Any], record: Record) -> bool:
        """Spool an urgent record now; let another wait until this turn of the event loop is over, or a batch is full.

        Returns whether a batch was.
        """
        stream = (emitter.name, record.stream or self._only_stream(emitter))
        lane = self._lanes.get(stream)
        if lane is None:
            raise ValueError(f"stream '{record.stream}' is not among the emitter's: {', '.join(emitter.streams)}")
        text = self._encoded(stream, record)
        if text is None:
            return False
        if record.urgent:
            earlier: list[Parcel] = [(stream, lane.take())] if lane.records else []
            self._put([*earlier, (stream, [msgspec.Raw(text)])])
            return False
        full = len(lane.records) >= MOST_RECORDS or lane.size + len(text) > MOST_BYTES
        if full:
            self._put(self._waiting_parcels())
        lane.records.append(msgspec.Raw(text))
        lane.size += len(text)
        self._waiting.set()
        return full

    @staticmethod
    def _only_stream(emitter: Emitter[Any]) -> str:
        return next(iter(emitter.streams)) if len(emitter.streams) == 1 else ""

    def _encoded(self, stream: Stream, record: Record) -> bytes | None:
        """Return the record as JSON; None, with the loss counted, where it cannot be or is too big for a batch."""
        try:
            text = _encode({**record.fields, "time": record.time})
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            log.debug("record cannot be encoded", extra={"stream": stream, "error": str(exc)})
            self._spool.drop(stream, "unusable", 1)
            return None
        if len(text) > MOST_BYTES:
            self._spool.drop(stream, "too_big", 1)
            return None
        return text

    async def _gather(self) -> None:
        while True:
            await self._waiting.wait()
            self._put(self._waiting_parcels())

    def _waiting_parcels(self) -> list[Parcel]:
        self._waiting.clear()
        return [(stream, lane.take()) for stream, lane in self._lanes.items() if lane.records]

    def _put(self, parcels: Sequence[Parcel]) -> None:
        now = self._clock.now()
        self._spool.put(parcels, now)
        for stream, _ in parcels:
            self._lanes[stream].last = now

    async def _beat(self) -> None:
        """Send an empty batch of each stream that has nothing to say while its emitter runs: silence means a fault."""
        while True:
            now = self._clock.now()
            resting = {one.emitter.name for one in self._observers if not one.running}
            alive = {stream: lane for stream, lane in self._lanes.items() if stream[0] not in resting}
            for lane in alive.values():
                lane.last = min(lane.last, now)  # the clock may have been set back
            self._put([(stream, []) for stream, lane in alive.items() if lane.last + HEARTBEAT <= now])
            await self._clock.until(min((lane.last for lane in alive.values()), default=now) + HEARTBEAT)
