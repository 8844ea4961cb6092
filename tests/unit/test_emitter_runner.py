"""The component that runs emitters: what it spools, measures, restarts and closes."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from emitters.runner import Emitters
from emitters.spool.opening import opened_log
from emitters.spool.segments import Log
from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import ACKNOWLEDGE, Delivery, Disposition, Publication
from exhaust.clock import Clock, VirtualClock
from exhaust.errors import BrokerError
from exhaust.lifecycle.service import Station
from exhaust.messages import Batch, Codec
from exhaust.plugins import Emitter, Lost, Record, Settings
from exhaust.routing import EXCHANGES, QUEUES
from exhaust.settings import Duration
from exhaust.signing import Keys

MOST = 16 << 20


class Load(Settings, frozen=True):
    every: Duration = 10.0


async def load(settings: Load, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
    async for now in clock.every(settings.every):
        one, five, fifteen = os.getloadavg()
        yield Record(now, {"load1": one, "load5": five, "load15": fifteen})


LOAD = Emitter("load", Load, load, streams={"system": {"load1": "double: mean over 1 minute"}})


class Recording(Embedded):
    """A broker that keeps what it was given and confirms at once, unless it `holds`; or, with `away`, takes nothing."""

    def __init__(self, *, away: bool = False) -> None:
        super().__init__()
        self.away = away
        self.all: list[Batch] = []
        self.holds = False
        self.held: list[asyncio.Future[None]] = []
        self.ids: list[str] = []

    @property
    def batches(self) -> list[Batch]:
        """What came, without the empty batch with which each stream begins."""
        return [batch for batch in self.all if batch.records or batch.seq]

    def publish(self, publication: Publication) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.away:
            future.set_exception(BrokerError("away"))
            return future
        message = Codec.decode(publication.body)
        assert isinstance(message, Batch)
        self.all.append(message)
        self.ids.append(publication.id)
        self.held.append(future)
        if not self.holds:
            self.answer()
        return future

    def answer(self) -> None:
        for future in self.held:
            future.set_result(None)
        self.held.clear()


class Source:
    """An emitter that yields what a test puts into it; what is an exception is raised, None is the end."""

    def __init__(self, name: str = "source", streams: tuple[str, ...] = ("a",), *, waits: bool = False) -> None:
        self.queue: asyncio.Queue[Record | Exception | None] = asyncio.Queue()
        self.opened = 0
        self.closed = 0
        self.positions: Mapping[str, Any] = {}
        self.emitter = Emitter(name, Settings, self._emit, streams={stream: {} for stream in streams}, waits=waits)

    async def _emit(self, settings: Settings, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
        self.opened += 1
        self.positions = positions
        self.began = dict(positions)
        try:
            while (found := await self.queue.get()) is not None:
                if isinstance(found, Exception):
                    raise found
                yield found
        finally:
            self.closed += 1


Pairs = list[tuple[Emitter[Any], Settings]]


class Running:
    """A component at work, with all that it was given."""

    def __init__(self, state: Path, pairs: Pairs, clock: VirtualClock, broker: Embedded, log: Log) -> None:
        self.clock = clock
        self.until = asyncio.Event()
        station = Station("web.1", state, clock, broker, Keys(state / "keys"))
        self.emitters = Emitters(station, pairs, log)

    def emitter(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.emitters.status()["emitters"][name]
        return found


@asynccontextmanager
async def running(
    state: Path, pairs: Pairs, broker: Embedded, clock: VirtualClock | None = None
) -> AsyncIterator[Running]:
    with opened_log(state / "spool", most=MOST) as log:
        it = Running(state, pairs, clock or VirtualClock(), broker, log)
        task = asyncio.create_task(it.emitters.run(it.until))
        try:
            yield it
        finally:
            it.until.set()
            async with asyncio.timeout(10):
                await task


async def eventually(holds: Callable[[], bool]) -> None:
    """Let the event loop turn until it holds."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  what is waited for has no event of its own
            await asyncio.sleep(0.001)


def one(source: Source) -> Pairs:
    return [(source.emitter, Settings())]


def numbers(batches: list[Batch], stream: str = "a") -> list[int]:
    return [batch.seq for batch in batches if batch.stream == stream]


@pytest.fixture
def loud(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level("INFO"):
        yield caplog


async def test_an_emitter_of_a_few_lines_reaches_the_readers_of_an_embedded_broker(tmp_path: Path) -> None:
    arrived: list[Delivery] = []

    async def keep(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        arrived.extend(deliveries)
        return [ACKNOWLEDGE] * len(deliveries)

    async with Embedded() as broker, contextlib.AsyncExitStack() as consumers:
        await broker.declare(EXCHANGES, ())
        await consumers.enter_async_context(broker.consume(QUEUES["collector"][0], keep))
        async with running(tmp_path, [(LOAD, Load())], broker) as it:
            await eventually(lambda: len(arrived) == 2)
            assert it.emitter("load")["records"] == 1
    first, batch = (Codec.decode(one.body) for one in arrived)
    assert isinstance(first, Batch)
    assert isinstance(batch, Batch)
    assert arrived[1].key == "web%2E1.load.system"
    assert (batch.host, batch.emitter, batch.stream, first.seq, batch.seq) == ("web.1", "load", "system", 0, 1)
    assert first.records == []
    assert batch.records[0]["time"] == batch.time
    assert set(batch.records[0]) == {"time", "load1", "load5", "load15"}


async def test_each_stream_begins_with_an_empty_batch_even_where_its_emitter_never_works(tmp_path: Path) -> None:
    source, broker = Source(streams=("a", "b")), Recording()
    source.queue.put_nowait(ValueError("no such device"))
    async with running(tmp_path, one(source), broker):
        await eventually(lambda: len(broker.all) == 2)
    assert [(batch.stream, batch.seq, batch.records) for batch in broker.all] == [("a", 0, []), ("b", 0, [])]


async def test_an_urgent_record_goes_at_once_with_what_waited_before_it(tmp_path: Path) -> None:
    source, broker = Source(), Recording()
    for number in range(4):
        source.queue.put_nowait(Record(1.0, {"n": number}, urgent=number in (1, 2)))
    async with running(tmp_path, one(source), broker):
        await eventually(lambda: len(broker.batches) == 3)
    assert [[record["n"] for record in batch.records] for batch in broker.batches] == [[0, 1], [2], [3]]
    assert numbers(broker.batches) == [1, 2, 3]


async def test_what_is_there_together_is_one_batch_of_at_most_500(tmp_path: Path) -> None:
    source, broker = Source(), Recording()
    for number in range(1200):
        source.queue.put_nowait(Record(1.0, {"n": number}))
    async with running(tmp_path, one(source), broker):
        await eventually(lambda: sum(len(batch.records) for batch in broker.batches) == 1200)
    assert [len(batch.records) for batch in broker.batches] == [500, 500, 200]
    assert [record["n"] for batch in broker.batches for record in batch.records] == list(range(1200))
    assert len(set(broker.ids)) == len(broker.ids)
    assert all(name[14] == "7" for name in broker.ids)


async def test_while_a_confirm_is_awaited_records_gather_but_not_for_long(tmp_path: Path) -> None:
    source, broker = Source(), Recording()
    async with running(tmp_path, one(source), broker):
        await eventually(lambda: len(broker.all) == 1)
        broker.holds = True
        source.queue.put_nowait(Record(1.0, {"n": 0}))
        await eventually(lambda: len(broker.all) == 2)
        for number in range(1, 10):
            source.queue.put_nowait(Record(1.0, {"n": number}))
            await asyncio.sleep(0)
        await eventually(lambda: len(broker.all) == 3)
        assert [record["n"] for record in broker.all[2].records] == list(range(1, 10))
        source.queue.put_nowait(Record(1.0, {"n": 10}, urgent=True))
        await eventually(lambda: len(broker.all) == 4)
        broker.answer()


async def test_a_batch_has_no_more_than_256_kib(tmp_path: Path) -> None:
    source, broker = Source(), Recording()
    for _ in range(20):
        source.queue.put_nowait(Record(1.0, {"text": "x" * 60_000}))
    async with running(tmp_path, one(source), broker):
        await eventually(lambda: sum(len(batch.records) for batch in broker.batches) == 20)
    assert [len(batch.records) for batch in broker.batches] == [4] * 5


async def test_a_stream_with_nothing_to_say_sends_an_empty_batch_every_10_seconds(tmp_path: Path) -> None:
    source, broker = Source(streams=("a", "b")), Recording()
    async with running(tmp_path, one(source), broker) as it:
        await eventually(lambda: source.opened == 1 and len(broker.all) == 2)
        it.clock.advance(5)
        source.queue.put_nowait(Record(it.clock.now(), {}, stream="b"))
        await eventually(lambda: len(broker.batches) == 1)
        for count, seconds in ((2, 5), (3, 5), (4, 5)):
            it.clock.advance(seconds)
            await eventually(lambda count=count: len(broker.batches) == count)  # type: ignore[misc]
    assert [(batch.stream, len(batch.records)) for batch in broker.batches] == [("b", 1), ("a", 0), ("b", 0), ("a", 0)]
    assert numbers(broker.batches) == [1, 2]


async def test_an_emitter_that_fails_is_started_again_later_and_silent_until_then(
    tmp_path: Path, loud: pytest.LogCaptureFixture
) -> None:
    source, other, broker = Source(), Source("other"), Recording()
    async with running(tmp_path, one(source) + one(other), broker) as it:
        for count, pause in ((1, 1), (2, 2), (3, 4)):
            source.queue.put_nowait(ValueError("no such device"))
            await eventually(lambda count=count: source.closed == count)  # type: ignore[misc]
            await eventually(lambda: not it.emitter("source")["running"])
            it.clock.advance(pause - 0.01)
            await asyncio.sleep(0.01)
            assert it.emitter("source")["restarts"] == count - 1
            it.clock.advance(0.01)
            await eventually(lambda count=count: source.opened == count + 1)  # type: ignore[misc]
        assert it.emitter("source")["last_error"] == "ValueError: no such device"
        source.queue.put_nowait(None)
        await eventually(lambda: it.emitter("source")["last_error"] == "it ended by itself")
        other.queue.put_nowait(Record(1.0, {}))
        await eventually(lambda: it.emitter("other")["records"] == 1)
        it.clock.advance(7.9)
        await asyncio.sleep(0.01)
        assert not [batch for batch in broker.batches if batch.emitter == "source"]
    assert [record.getMessage() for record in loud.records] == ["emitter failed, starting it again"] * 2


async def test_two_uses_of_an_emitter_share_its_sequence(tmp_path: Path) -> None:
    first, second, broker = Source(), Source(), Recording()
    async with running(tmp_path, one(first) + one(second), broker) as it:
        for count, source in enumerate((first, second, first), 1):
            source.queue.put_nowait(Record(1.0, {}))
            await eventually(lambda count=count: len(broker.batches) == count)  # type: ignore[misc]
        assert it.emitter("source")["records"] == 2
        assert it.emitter("source/2")["records"] == 1
    assert numbers(broker.batches) == [1, 2, 3]


async def test_after_a_restart_the_epoch_is_higher_and_the_sequence_starts_again(tmp_path: Path) -> None:
    broker = Recording()
    for count in (1, 2):
        source = Source()
        source.queue.put_nowait(Record(1.0, {}))
        async with running(tmp_path, one(source), broker):
            await eventually(lambda count=count: len(broker.batches) == count)  # type: ignore[misc]
    assert [(batch.seq, batch.epoch - broker.all[0].epoch) for batch in broker.all] == [(0, 0), (1, 0), (0, 1), (1, 1)]


async def test_what_an_absent_broker_did_not_take_is_sent_by_the_next_run(tmp_path: Path) -> None:
    source, away = Source(), Recording(away=True)
    for urgent in (True, True):
        source.queue.put_nowait(Record(1.0, {}, urgent=urgent))
    async with running(tmp_path, one(source), away) as it:
        await eventually(lambda: "away" in it.emitters.status()["spool"]["last_error"])
        await eventually(lambda: it.emitters.status()["spool"]["unsent"] == 3)
    broker = Recording()
    async with running(tmp_path, [], broker):
        await eventually(lambda: len(broker.batches) == 2)
    assert [batch.seq for batch in broker.all] == [0, 1, 2]


async def test_a_stop_closes_the_emitters_and_sends_what_is_there(tmp_path: Path) -> None:
    broker, closed = Recording(), asyncio.Event()
    stops: list[asyncio.Event] = []

    async def last(settings: Settings, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
        try:
            stops[0].set()
            yield Record(1.0, {"n": 1})
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with running(tmp_path, [(Emitter("last", Settings, last, streams={"a": {}}), Settings())], broker) as it:
        stops.append(it.until)
        await it.until.wait()
    assert closed.is_set()
    assert [batch.records for batch in broker.batches] == [[{"time": 1.0, "n": 1}]]


async def test_what_a_source_itself_has_lost_is_told_with_the_next_batch(tmp_path: Path) -> None:
    async def leaky(settings: Settings, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record | Lost]:
        yield Lost("kernel", 3)
        yield Record(1.0, {"n": 1}, urgent=True)
        await asyncio.Event().wait()

    broker = Recording()
    emitter = Emitter("leaky", Settings, leaky, streams={"a": {}}, sources=lambda: {"best": "needs root", "next": ""})
    async with running(tmp_path, [(emitter, Settings())], broker) as it:
        await eventually(lambda: len(broker.batches) == 1)
        assert it.emitters.status()["emitters"]["leaky"]["sources"] == {"best": "needs root", "next": ""}
    assert [batch.dropped for batch in broker.batches] == [{"kernel": 3}]


async def test_an_emitter_that_fails_while_it_is_closed_does_not_keep_the_service_from_stopping(
    tmp_path: Path, loud: pytest.LogCaptureFixture
) -> None:
    async def clumsy(settings: Settings, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
        try:
            yield Record(1.0, {})
            await asyncio.Event().wait()
        finally:
            raise OSError("cannot be closed")

    pairs: Pairs = [(Emitter("clumsy", Settings, clumsy, streams={"a": {}}), Settings())]
    async with running(tmp_path, pairs, Recording()) as it:
        await eventually(lambda: it.emitter("clumsy")["records"] == 1)
    assert [record.error for record in loud.records] == ["OSError: cannot be closed"]  # type: ignore[attr-defined]


async def test_a_record_that_is_no_plain_data_is_dropped_and_counted(tmp_path: Path) -> None:
    source, broker = Source(), Recording()
    source.queue.put_nowait(Record(1.0, {"what": object()}))
    source.queue.put_nowait(Record(1.0, {"what": "x" * 300_000}))
    source.queue.put_nowait(Record(1.0, {"time": "mine"}))
    async with running(tmp_path, one(source), broker):
        await eventually(lambda: len(broker.batches) == 1)
    assert broker.batches[0].dropped == {"unusable": 1, "too_big": 1}
    assert broker.batches[0].records == [{"time": 1.0}]


async def test_a_record_of_an_undeclared_stream_is_the_emitters_fault(tmp_path: Path) -> None:
    source, broker = Source(streams=("a", "b")), Recording()
    source.queue.put_nowait(Record(1.0, {}))
    async with running(tmp_path, one(source), broker) as it:
        await eventually(lambda: "is not among the emitter's: a, b" in it.emitter("source")["last_error"])
        assert source.closed == 1


async def test_an_emitter_that_is_never_short_of_records_does_not_starve_the_others(tmp_path: Path) -> None:
    async def flood(settings: Settings, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
        while True:
            yield Record(1.0, {})

    source, broker = Source(), Recording()
    source.queue.put_nowait(Record(1.0, {}))
    pairs: Pairs = [(Emitter("flood", Settings, flood, streams={"a": {}}), Settings()), *one(source)]
    async with running(tmp_path, pairs, broker):
        await eventually(lambda: any(batch.emitter == "source" for batch in broker.batches))


def numbered(*ns: int, urgent: bool = False) -> list[Record]:
    return [Record(1.0, {"n": n}, stream="ab"[n % 2], urgent=urgent, position=("file", n)) for n in ns]


async def test_an_emitter_goes_on_from_where_its_records_are_safe(tmp_path: Path) -> None:
    for run in (0, 1):
        source, broker = Source(streams=("a", "b")), Recording()
        for record in numbered(*range(1, 8)):
            source.queue.put_nowait(record)
        async with running(tmp_path, one(source), broker):
            await eventually(lambda: source.positions.get("file") == 7)  # noqa: B023  used within this turn
        assert source.began == ({} if run == 0 else {"file": 7})


async def test_an_urgent_record_with_a_position_takes_all_along_that_was_before_it(tmp_path: Path) -> None:
    source, broker = Source(streams=("a", "b")), Recording()
    for record in (*numbered(1, 2), *numbered(3, urgent=True)):
        source.queue.put_nowait(record)
    async with running(tmp_path, one(source), broker):
        await eventually(lambda: source.positions.get("file") == 3)
        assert sorted(record["n"] for batch in broker.batches for record in batch.records) == [1, 2, 3]


async def test_an_emitter_that_failed_goes_on_from_its_last_record_and_the_other_use_from_its_own(
    tmp_path: Path,
) -> None:
    source, other, broker = Source(streams=("a", "b")), Source(streams=("a", "b")), Recording()
    for record in numbered(*range(1, 6)):
        source.queue.put_nowait(record)
    source.queue.put_nowait(ValueError("gone"))
    other.queue.put_nowait(numbered(1)[0])
    async with running(tmp_path, one(source) + one(other), broker) as it:
        await eventually(lambda: source.closed == 1)
        await eventually(lambda: not it.emitter("source")["running"])
        it.clock.advance(1)
        await eventually(lambda: source.opened == 2)
        assert source.began == {"file": 5}
        await eventually(lambda: other.positions.get("file") == 1)


async def test_a_position_that_is_no_plain_data_or_too_long_is_the_emitters_fault(tmp_path: Path) -> None:
    source, broker = Source(), Recording()
    source.queue.put_nowait(Record(1.0, {}, position=("file", object())))
    async with running(tmp_path, one(source), broker) as it:
        await eventually(lambda: "unsupported" in it.emitter("source")["last_error"])
        source.queue.put_nowait(Record(1.0, {}, position=("file", "x" * 200_000)))
        it.clock.advance(1)
        await eventually(lambda: "forget parts with None" in it.emitter("source")["last_error"])


async def test_a_source_that_can_wait_is_not_asked_for_more_than_there_is_room_for(tmp_path: Path) -> None:
    async def flood(settings: Settings, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
        for n in range(positions.get("file", 0) + 1, 2000):
            yield Record(1.0, {"n": n, "text": "x" * 20_000}, position=("file", n))
        await asyncio.Event().wait()

    pairs: Pairs = [(Emitter("flood", Settings, flood, streams={"a": {}}, waits=True), Settings())]
    broker = Recording(away=True)
    async with running(tmp_path, pairs, broker) as it:
        await eventually(lambda: it.emitters.status()["spool"]["bytes"] > 10 << 20)
        await eventually(lambda: it.emitter("flood")["records"] > 500)
        stopped = it.emitter("flood")["records"]
        broker.away = False
        await eventually(lambda: it.emitter("flood")["records"] == 1999)
        await eventually(lambda: it.emitters.status()["spool"]["unsent"] == 0)
        assert it.emitters.status()["spool"]["dropped"] == {}
    assert stopped < 1000
    assert sorted(record["n"] for batch in broker.batches for record in batch.records) == list(range(1, 2000))
