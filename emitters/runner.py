"""Runs the emitters of this host side by side and spools what they yield."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, cast

import msgspec

from emitters.lanes import Lane, Use, uses
from emitters.meter import metering
from emitters.self import seeing
from emitters.spool.parcels import Parcel
from emitters.spool.segments import Log
from emitters.spool.spool import Spool
from exhaust.lifecycle.service import Station
from exhaust.plugins import Emitter, Lost, Record, Settings

log = logging.getLogger(__name__)

HEARTBEAT = 10.0
MOST_RECORDS = 500
MOST_BYTES = 256 << 10  # of a batch, and so of a record
LINGER = 0.02
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0

_encode = msgspec.json.Encoder().encode


class Emitters:
    """The component. Uses of the same emitter share its streams; one that fails does not disturb the others."""

    name = "emitters"

    def __init__(
        self,
        station: Station,
        emitters: Sequence[tuple[Emitter[Any], Settings]],
        log: Log,
        *,
        spool: Spool | None = None,
    ) -> None:
        self._clock = station.clock
        self._spool = spool or Spool(log, station.broker, station.host, station.clock)
        self._uses = uses([(seeing(emitter, self.status), settings) for emitter, settings in emitters])
        now = self._clock.now()
        self._lanes = {
            (emitter.name, stream): Lane((emitter.name, stream), emitter.keeps, emitter.waits, now)
            for emitter, settings in emitters
            for stream in getattr(settings, "streams", emitter.streams)
        }
        self._waiting = asyncio.Event()

    async def run(self, until: asyncio.Event) -> None:
        """Observe until told; then close the emitters, send what is there, and wait a while for the confirms."""
        with closing(self._spool), metering():
            async with asyncio.TaskGroup() as group:
                spool = group.create_task(self._spool.run(), name="spool")
                self._put([lane.empty() for lane in self._lanes.values()])  # tells the ledger what to expect
                tasks = [self._start(group, one, until) for one in self._uses]
                tasks.append(group.create_task(self._gather(), name="gather"))
                tasks.append(group.create_task(self._beat(), name="heartbeat"))
                await until.wait()
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                self._put_waiting()
                await self._spool.drain()
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
                    "dropped": self._spool.dropped(one.emitter.name),
                    "cpu_seconds": round(one.meter.seconds, 6),
                    "sources": one.sources,
                }
                for one in self._uses
            },
            "spool": self._spool.status(),
        }

    def stuck(self) -> str:
        return self._spool.stuck()

    def _start(self, group: asyncio.TaskGroup, one: Use, until: asyncio.Event) -> asyncio.Task[None]:
        return group.create_task(self._observe(one, until), name=one.name, context=one.meter.context())

    async def _observe(self, one: Use, until: asyncio.Event) -> None:
        """Run one emitter again and again, after a pause that grows while it keeps failing."""
        pause = _FIRST_PAUSE
        while True:
            began = self._clock.now()
            try:
                await self._iterate(one)
                error = "it ended by itself"
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

    async def _iterate(self, one: Use) -> None:
        lanes = self._lanes_of(one)
        for lane in lanes.values():
            lane.last = self._clock.now()
        if one.sizes:  # it goes on from what is safe: what it yielded before it failed must be by then
            self._put_waiting()
            await self._spool.synced()
        positions = self._spool.positions(one.name)
        one.begin(positions)
        for source, why in one.sources.items():
            if why:
                log.info("source cannot be used here", extra={"emitter": one.name, "source": source, "reason": why})
        # An emitter is an async generator; the protocol says no more than what it means to its readers.
        records = cast("AsyncGenerator[Record | Lost]", one.emitter.emit(one.settings, self._clock, positions))
        async with aclosing(records):
            one.running = True
            async for record in records:
                if isinstance(record, Lost):
                    self._spool.drop(_lane(lanes, record.stream).stream, record.reason, record.count)
                    continue
                one.records += 1
                one.last_time = record.time
                if self._take(one, lanes, record) or self._spool.tight:
                    await self._spool.room(one.emitter.keeps, waits=one.emitter.waits)
                    await asyncio.sleep(0)  # one that is never short of records must not starve the others

    def _lanes_of(self, one: Use) -> dict[str, Lane]:
        """Return an emitter's lanes by stream; of the only stream, also by no name."""
        lanes = {stream: lane for (emitter, stream), lane in self._lanes.items() if emitter == one.emitter.name}
        if len(lanes) == len(one.emitter.streams) == 1:
            lanes[""] = next(iter(lanes.values()))
        return lanes

    def _take(self, one: Use, lanes: Mapping[str, Lane], record: Record) -> bool:
        """Put an urgent record now; let another wait for company, until a batch is full. Return whether one was."""
        lane, full = _lane(lanes, record.stream), False
        if (text := self._encoded(lane, record)) is not None:
            full = lane.size + len(text) > MOST_BYTES
            if full:
                self._put_waiting()
            lane.records.append(msgspec.Raw(text))
            lane.size += len(text)
        if record.position is not None:
            one.move(*record.position)
        if record.urgent:
            self._put_urgent(lane, alone=record.position is None)
        elif len(lane.records) >= MOST_RECORDS:
            self._put_waiting()
            full = True
        else:
            self._waiting.set()
        return full

    def _encoded(self, lane: Lane, record: Record) -> bytes | None:
        """Return the record as JSON; None, with the loss counted, where it cannot be or is too big for a batch."""
        try:
            text = _encode({**record.fields, "time": record.time})
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            log.debug("record cannot be encoded", extra={"stream": lane.stream, "error": str(exc)})
            self._spool.drop(lane.stream, "unusable", 1)
            return None
        if len(text) > MOST_BYTES:
            self._spool.drop(lane.stream, "too_big", 1)
            return None
        return text

    def _put_urgent(self, lane: Lane, *, alone: bool) -> None:
        """Put a lane at once; with everything else that waits, where its sources' positions are to go along."""
        lanes = [lane] if alone else [*(one for one in self._lanes.values() if one is not lane), lane]
        self._put([one.take() for one in lanes if one.records], {} if alone else self._moved())

    async def _gather(self) -> None:
        """Put what is there; while the spool is busy let it gather, for as long as a reader would not notice."""
        while True:
            await self._waiting.wait()
            if not self._spool.idle.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER):
                        await self._spool.idle.wait()
            self._put_waiting()

    def _put_waiting(self) -> None:
        self._waiting.clear()
        self._put([lane.take() for lane in self._lanes.values() if lane.records], self._moved())

    def _moved(self) -> Mapping[str, Mapping[str, Any]]:
        return {one.name: one.take_moved() for one in self._uses if one.moved}

    def _put(self, parcels: Sequence[Parcel], moved: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        now = self._clock.now()
        if parcels or moved:
            self._spool.put(parcels, moved)
        for parcel in parcels:
            self._lanes[parcel.stream].last = now

    async def _beat(self) -> None:
        """Send an empty batch of each stream that has nothing to say while its emitter runs: silence means a fault."""
        while True:
            now = self._clock.now()
            resting = {one.emitter.name for one in self._uses if not one.running}
            alive = {stream: lane for stream, lane in self._lanes.items() if stream[0] not in resting}
            for lane in alive.values():
                lane.last = min(lane.last, now)  # the clock may have been set back
            self._put([lane.empty() for lane in alive.values() if lane.last + HEARTBEAT <= now])
            await self._clock.until(min((lane.last for lane in alive.values()), default=now) + HEARTBEAT)


def _lane(lanes: Mapping[str, Lane], stream: str) -> Lane:
    if stream not in lanes:
        raise ValueError(f"stream '{stream}' is not among the emitter's: {', '.join(filter(None, lanes))}")
    return lanes[stream]
