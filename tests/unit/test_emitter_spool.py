"""The spool: what is on disk before it is sent, what waits or is dropped where there is no room, and what it says."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from emitters.spool.book import Placed, Segment
from emitters.spool.disk import Folder
from emitters.spool.group import Group
from emitters.spool.opening import opened_log
from emitters.spool.parcels import Parcel
from emitters.spool.segments import Log
from emitters.spool.sending import WINDOW
from emitters.spool.spool import Spool
from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import Publication
from exhaust.clock import VirtualClock
from exhaust.errors import BrokerError, StoreError, UnroutableError
from exhaust.messages import Batch, Codec
from exhaust.plugins import Keeps
from tests.spooling import World

A, B = ("e", "a"), ("e", "b")
RECORD = msgspec.Raw(b'{"time":1.0}')
MOST = 16 << 20
WITHIN = 20.0


class Gate(Embedded):
    """A broker that takes nothing while it is `away`, and has no queue for the keys in `unknown`."""

    connected = True

    def __init__(self, *, away: bool = False) -> None:
        super().__init__()
        self.away = away
        self.unknown: set[str] = set()
        self.fault: Exception | None = None
        self.holds = False
        self.held: list[asyncio.Future[None]] = []
        self.taken: list[tuple[str, Batch]] = []

    def publish(self, publication: Publication) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.fault or self.away:
            future.set_exception(self.fault or BrokerError("away"))
        elif publication.key.rpartition(".")[2] in self.unknown:
            future.set_exception(UnroutableError("nobody"))
        else:
            self.taken.append((publication.exchange, cast("Batch", Codec.decode(publication.body))))
            self.held.append(future)
            if not self.holds:
                self.answer()
        return future

    def answer(self) -> None:
        """Confirm what is held."""
        for future in self.held:
            if not future.done():
                future.set_result(None)
        self.held.clear()

    def numbers(self, stream: str, exchange: str = "") -> list[int]:
        return [b.seq for place, b in self.taken if b.stream == stream and place.endswith(exchange)]


@asynccontextmanager
async def spooling(
    path: Path, broker: Gate, *, most: int = MOST, clock: VirtualClock | None = None
) -> AsyncIterator[Spool]:
    with opened_log(path / "spool", most=most) as log:
        spool = Spool(log, broker, "h", clock or VirtualClock())
        sending = asyncio.create_task(spool.run())
        try:
            yield spool
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            spool.close()


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110  what is waited for has no event of its own
            await asyncio.sleep(0.001)


def parcel(stream: tuple[str, str] = A, count: int = 1, *, waits: bool = False, keeps: Keeps = "metrics") -> Parcel:
    return Parcel(stream, [RECORD] * count, count * len(RECORD), waits, keeps)


def large(keeps: Keeps = "metrics", *, waits: bool = False) -> Parcel:
    return Parcel(A, [msgspec.Raw(b'{"x":"%s"}' % (b"x" * 100_000))], 100_000, waits, keeps)


@contextmanager
def world() -> Iterator[World]:
    made = World(1)
    try:
        yield made
    finally:
        made.close()


async def test_a_batch_is_sent_once_it_is_on_disk_with_its_number_in_the_headers(tmp_path: Path) -> None:
    broker = Gate(away=True)
    async with spooling(tmp_path, broker) as spool:
        spool.put([parcel(A), parcel(B, 0), parcel(A, 2)])
        await spool.synced()
        assert spool.status()["unsent"] == 3
        broker.away = False
        await eventually(lambda: len(broker.taken) == 3)
    assert [(b.stream, b.seq, len(b.records)) for _, b in broker.taken] == [("a", 0, 1), ("b", 0, 0), ("a", 1, 2)]
    assert [place for place, _ in broker.taken] == ["exhaust.backlog"] * 3 or broker.taken[0][0] == "exhaust.telemetry"


def test_what_is_put_while_a_group_is_written_is_one_group_together() -> None:
    with world() as it:
        for _ in range(5):
            it.tail((1, 0))
        assert len(it.scribe.work) == 1
        it.work(1)
        assert len(it.scribe.work) == 1
        assert it.spool.status()["unsent"] == 2
        it.work(1)
        assert it.spool.status()["unsent"] == 10


async def test_what_was_confirmed_is_not_sent_again_by_the_next_run(tmp_path: Path) -> None:
    broker = Gate()
    async with spooling(tmp_path, broker) as spool:
        for _ in range(5):
            spool.put([parcel()])
        await spool.drain()
    async with spooling(tmp_path, broker) as spool:
        assert spool.status()["unsent"] == 0
        spool.put([parcel()])
        await spool.drain()
    assert broker.numbers("a") == [0, 1, 2, 3, 4, 0]
    assert broker.taken[-1][1].epoch > broker.taken[0][1].epoch


class Slow(Folder):
    """A disk that takes its time."""

    def __init__(self, path: Path, go_on: threading.Event) -> None:
        super().__init__(path)
        self._go_on = go_on

    def sync(self) -> None:
        self._go_on.wait(WITHIN)
        super().sync()


async def test_the_event_loop_turns_while_the_disk_takes_its_time(tmp_path: Path) -> None:
    go_on = threading.Event()
    log = Log(Slow(tmp_path, go_on), most=MOST)
    log.recover()
    spool = Spool(log, Gate(away=True), "h", VirtualClock())
    spool.put([parcel()])
    for _ in range(100):
        await asyncio.sleep(0)
    assert spool.status()["unsent"] == 0
    assert not spool.idle.is_set()
    go_on.set()
    async with asyncio.timeout(WITHIN):
        await spool.synced()
    assert spool.status()["unsent"] == 1
    spool.close()
    log.close()


async def test_positions_that_no_segment_has_room_for_end_the_service(tmp_path: Path) -> None:
    with opened_log(tmp_path / "spool", most=MOST) as log:
        log.book.move({"tail": {"file": "x" * log.size}})
        spool = Spool(log, Gate(), "h", VirtualClock())
        spool.positions("tail")
        running = asyncio.create_task(spool.run())
        spool.put([parcel()])
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.timeout(WITHIN):
                await running
        spool.close()
    assert "let emitters keep shorter positions" in str(caught.value.exceptions[0])


async def test_what_an_earlier_run_left_goes_to_the_backlog_and_fresh_batches_do_not_wait_for_it(
    tmp_path: Path,
) -> None:
    async with spooling(tmp_path, Gate(away=True)) as spool:
        spool.put([parcel() for _ in range(100)])
        await spool.synced()
    broker = Gate()
    broker.holds = True
    async with spooling(tmp_path, broker) as spool:
        await eventually(lambda: len(broker.taken) == WINDOW)
        spool.put([parcel(B)])
        await eventually(lambda: broker.numbers("b", "telemetry") == [0])
        assert broker.numbers("a") == list(range(WINDOW)), "only a few are on their way at a time"
        broker.holds = False
        broker.answer()
        await eventually(lambda: spool.status()["unsent"] == 0)
    assert broker.numbers("a", "backlog") == list(range(100))


async def test_after_a_failure_one_batch_at_a_time_is_tried_and_then_all_goes_on(tmp_path: Path) -> None:
    broker = Gate(away=True)
    async with spooling(tmp_path, broker) as spool:
        for _ in range(20):
            spool.put([parcel()])
        await eventually(lambda: "away" in spool.status()["last_error"])
        broker.away = False
        await eventually(lambda: spool.status()["unsent"] == 0)
        assert spool.status()["last_error"] == ""
        spool.put([parcel()])
        await eventually(lambda: broker.numbers("a", "telemetry")[-1:] == [20])
    assert sorted(broker.numbers("a")) == list(range(21))


async def test_what_no_queue_wants_holds_up_only_its_own_address(tmp_path: Path) -> None:
    broker = Gate()
    broker.unknown = {"a"}
    async with spooling(tmp_path, broker) as spool:
        spool.put([parcel(A), parcel(B), parcel(A), parcel(B)])
        await eventually(lambda: broker.numbers("b") == [0, 1])
        assert "nobody" in spool.status()["last_error"]
        assert spool.status()["unsent"] == 2
        broker.unknown = set()
        await eventually(lambda: spool.status()["unsent"] == 0)
    assert broker.numbers("a") == [0, 1]


async def test_a_fault_that_is_not_the_brokers_ends_it(tmp_path: Path) -> None:
    broker = Gate()
    broker.fault = TypeError("ours")
    with opened_log(tmp_path / "spool", most=MOST) as log:
        spool = Spool(log, broker, "h", VirtualClock())
        spool.put([parcel()])
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.timeout(WITHIN):
                await spool.run()
        spool.close()
    assert isinstance(caught.value.exceptions[0], TypeError)


async def test_a_full_spool_drops_metrics_first_then_logs_then_audit(tmp_path: Path) -> None:
    broker = Gate(away=True)
    levels = []
    async with spooling(tmp_path, broker) as spool:
        classes: tuple[Keeps, ...] = ("metrics", "logs", "audit")
        for number, keeps in enumerate(classes, 1):
            while spool.status()["dropped"].get("spool_full", 0) < number:
                spool.put([large(keeps)])
                await spool.synced()
            levels.append(spool._log.level)
    assert [round(level, 1) for level in levels] == [0.8, 0.9, 1.0]
    assert sum(path.stat().st_size for path in (tmp_path / "spool").glob("*.*")) <= MOST


async def test_a_spool_that_was_full_says_what_it_dropped_once_there_is_room(tmp_path: Path) -> None:
    broker = Gate(away=True)
    async with spooling(tmp_path, broker, most=MOST) as spool:
        while not spool.status()["dropped"]:
            spool.put([large()])
            await spool.synced()
        spool.put([parcel(count=3)])
        broker.away = False
        await eventually(lambda: spool.status()["unsent"] == 0)
        spool.put([parcel()])
        await spool.drain()
    assert broker.taken[-1][1].dropped == {"spool_full": 4}
    assert broker.numbers("a") == list(range(len(broker.taken)))


async def test_who_can_wait_waits_for_room_and_loses_nothing(tmp_path: Path) -> None:
    broker = Gate(away=True)
    async with spooling(tmp_path, broker) as spool:
        while not spool.tight:
            spool.put([large(waits=True)])
            await spool.synced()
        waiting = asyncio.create_task(spool.room("metrics", waits=True))
        await spool.room("metrics", waits=False)
        assert not waiting.done()
        broker.away = False
        async with asyncio.timeout(WITHIN):
            await waiting
        assert spool.status()["dropped"] == {}


async def test_while_the_broker_has_its_hands_full_sources_wait_before_their_records_become_backlog(
    tmp_path: Path,
) -> None:
    broker = Gate()
    broker.holds = True
    async with spooling(tmp_path, broker) as spool:
        while not spool.tight:
            spool.put([parcel()])
            await spool.synced()
        assert len(broker.taken) == 256
        waiting = asyncio.create_task(spool.room("metrics", waits=True))
        await asyncio.sleep(0)
        assert not waiting.done()
        broker.answer()
        async with asyncio.timeout(WITHIN):
            await waiting
        broker.holds = False
    assert broker.numbers("a", "telemetry") == list(range(256))


async def test_a_stop_says_what_was_dropped(tmp_path: Path) -> None:
    broker = Gate()
    async with spooling(tmp_path, broker) as spool:
        spool.put([parcel()])
        await spool.synced()
        spool.drop(A, "unusable", 2)
        async with asyncio.timeout(WITHIN):
            await spool.drain()
    assert [(b.seq, b.dropped) for _, b in broker.taken] == [(0, {}), (1, {"unusable": 2})]


async def test_a_stop_says_which_numbers_were_given_up(tmp_path: Path) -> None:
    broker = Gate()
    async with spooling(tmp_path, broker) as spool:
        spool.put([parcel(), parcel(B)])
        await spool.synced()
        for stream in (A, ("e", "unused")):
            spool._log.book.forgone.add(stream, (1, 4, 5))
        async with asyncio.timeout(WITHIN):
            await spool.drain()
    assert [(b.stream, b.seq, b.forgone) for _, b in broker.taken[2:]] == [("a", 1, [(1, 4, 5)])]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_while_the_disk_refuses_sources_wait_or_lose_and_the_next_batch_says_so(error: int) -> None:
    with world() as it:
        it.meter(1)
        it.work(9)
        it.disk.failing = error
        it.tail((2, 1))
        it.meter(2)
        it.work(9)
        assert errno.errorcode[error] in it.spool.status()["last_error"]
        it.meter(3)
        it.turn(1.1)
        it.work(9)
        assert it.position.get("file", 0) == 0
        it.disk.failing = 0
        it.turn(1.1)
        it.work(9)
        assert (it.position["file"], it.spool.status()["last_error"]) == (3, "")
        it.meter(1)
        it.settle()
        it.check()
        told = [(batch.seq, batch.dropped) for batch in it.broker.got.values() if batch.stream == "m"]
        assert told == [(0, {}), (1, {"disk_full": 5})]


def test_a_write_that_fails_uses_up_no_number() -> None:
    with world() as it:
        it.tail((1, 0))
        it.disk.failing = errno.EIO
        it.work(3)
        it.disk.failing = 0
        it.turn(1.1)
        it.settle()
        assert [(batch.stream, batch.seq) for batch in it.broker.got.values()] == [("a", 0), ("b", 0)]


def test_confirms_are_written_down_soon_even_where_nothing_else_is() -> None:
    with world() as it:
        it.tail((1, 0))
        it.work(3)
        it.broker.answer(0, "confirmed")
        it.turn()
        it.turn(0.3)
        it.work(3)
        it.disk.crash(it.random)  # what is seen is on disk, or it is not: either is a whole log
        it._die()
        it.open()
        assert it.spool.status()["unsent"] <= 1
        it.settle()
        it.check()


def test_a_backlog_that_cannot_be_read_for_a_while_is_said_and_waited_for() -> None:
    with world() as it:
        it.tail((1, 1))
        it.work(3)
        it.broker.answer(0, "refused")
        it.broker.answer(0, "refused")
        it.disk.hidden = errno.EACCES
        it.work(9)
        assert "cannot be read" in it.spool.status()["last_error"]
        assert not it.broker.asked
        it.disk.hidden = 0
        it.settle()
        it.check()
        assert it.spool.status()["last_error"] == ""


def test_a_start_with_files_that_cannot_be_read_keeps_them_until_they_can() -> None:
    with world() as it:
        it.tail((1, 1))
        it.work(3)
        it.disk.hidden = errno.EACCES
        it.garbled = True  # where the source is cannot be known either
        it.crash()
        it.disk.hidden = 0
        it.settle()
        it.check()
        assert len(it.broker.got) == 2


def test_what_is_too_old_is_given_up_and_counted_by_stream() -> None:
    with world() as it:
        for _ in range(30):
            it.tail((1, 1))
            it.meter(1)
            it.work(4)
        sealed = sum(one.batches for one in it.log.book.segments[:-1])
        it.clock.advance(8 * 86_400)
        it.turn(61.0)
        it.work(40)
        assert it.spool.status()["dropped"] == {"too_old": sealed}
        assert it.spool.status()["unsent"] == 90 - sealed


def test_what_is_too_old_and_cannot_be_read_is_given_up_when_it_can_and_counted() -> None:
    with world() as it:
        for _ in range(30):
            it.tail((1, 1))
            it.meter(1)
            it.work(4)
        sealed = sum(one.batches for one in it.log.book.segments[:-1])
        it.clock.advance(8 * 86_400)
        for hidden, given_up in ((errno.EMFILE, {}), (errno.EACCES, {}), (0, {"too_old": sealed})):
            it.disk.hidden = hidden
            it.turn(61.0)
            it.work(40)
            assert it.spool.status()["dropped"] == given_up


def test_a_position_is_removed_and_outlives_a_crash() -> None:
    with world() as it:
        it.tail((1, 1))
        it.work(3)
        it._put([], {"tail": {"file": 2, "other": {"inode": 5}}})
        it.tail((0, 0))
        it.work(3)
        assert dict(it.position) == {"file": 2, "other": {"inode": 5}}
        it.crash()
        assert dict(it.position) == {"file": 2, "other": {"inode": 5}}
        it._put([], {"tail": {"other": None}})
        it.tail((0, 1))
        it.work(3)
        assert dict(it.position) == {"file": 3}


def test_an_epoch_is_higher_than_the_last_and_than_the_clock_s_even_if_all_was_lost() -> None:
    with world() as it:
        first = it.spool.status()["epoch"]
        assert first == int(it.clock.now() * 1000)
        it.tail((1, 0))
        it.work(3)
        it.crash()
        assert it.spool.status()["epoch"] == max(first + 1, int(it.clock.now() * 1000))
        it.disk.names.clear()
        it.crash()
        assert it.spool.status()["epoch"] > first


def asked(it: World, seconds: float) -> str:
    """Return what it says when that time has gone by."""
    told: list[str] = []
    it.turn(seconds)
    it._within(lambda: told.append(it.spool.stuck()))
    return told[0]


def test_it_is_not_stuck_for_what_the_broker_does_or_leaves_undone() -> None:
    with world() as it:
        assert asked(it, 100) == ""
        it.tail((1, 1))
        it.work(3)
        assert [asked(it, 50) for _ in range(3)] == ["", "", ""], "it confirms nothing"
        for _ in range(30):
            while it.broker.asked:
                it.broker.answer(0, "unroutable")
            assert asked(it, 0) == "", "it has no queue for it, and is asked again and again"
            it.turn(7)
        it.broker.connected = False
        assert [asked(it, 50) for _ in range(3)] == ["", "", ""]
        it.broker.connected = True
        it.settle()
        it.turn(1)
        it.work(3)
        assert [asked(it, 50) for _ in range(3)] == ["", "", ""]


def test_it_is_stuck_where_a_write_hangs() -> None:
    with world() as it:
        it.tail((1, 0))
        assert asked(it, 59) == ""
        assert asked(it, 2) == "a write has not come back for 61 s"
        it.work(3)
        assert asked(it, 2) == ""


def test_it_is_stuck_where_it_has_something_to_send_and_does_not_try() -> None:
    with world() as it:
        it.tail((1, 0))
        it.work(3)
        while it.broker.asked:
            it.broker.answer(0, "refused")
        it.turn()
        it.turn()
        assert len(it.scribe.work) == 1, "it waits for what it reads back"
        assert [asked(it, seconds) for seconds in (0, 59)] == ["", ""]
        it.broker.connected = False
        assert asked(it, 59) == ""
        it.broker.connected = True
        assert [asked(it, seconds) for seconds in (59, 1)] == ["", "nothing was sent for 60 s"]
        it.work(3)
        assert asked(it, 0) == ""


class Failing(Log):
    """A log that fails where nobody sees it."""

    where = ""

    def accept(self, group: Group, *, synced: bool = True) -> list[Segment]:
        if self.where == "a write":
            raise StoreError("ours")
        return super().accept(group, synced=synced)

    def confirm(self, placed: Placed) -> list[Segment]:
        if self.where == "a confirm":
            raise StoreError("ours")
        return super().confirm(placed)


@pytest.mark.parametrize("where", ["a write", "a confirm"])
async def test_a_fault_of_ours_in_a_callback_ends_it(tmp_path: Path, where: str) -> None:
    log = Failing(Folder(tmp_path), most=MOST)
    log.recover()
    log.where = where
    spool = Spool(log, Gate(), "h", VirtualClock())
    spool.put([parcel()])
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(WITHIN):
            await spool.run()
    spool.close()
    log.close()
    assert isinstance(caught.value.exceptions[0], StoreError)


async def test_a_start_works_after_positions_grew_too_long(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = "x" * (MOST // 70)
    with opened_log(tmp_path / "spool", most=MOST) as log:
        spool = Spool(log, Gate(), "h", VirtualClock())
        spool.positions("tail")
        for number in range(10):
            spool.put([parcel()], {"tail": {str(number): long}})
        with pytest.raises(ExceptionGroup):
            async with asyncio.timeout(WITHIN):
                await spool.run()
        spool.close()
    broker = Gate()
    async with spooling(tmp_path, broker) as spool:
        assert spool.positions("tail") == {}
        spool.put([parcel()])
        await eventually(lambda: spool.status()["unsent"] == 0)
    assert "positions are too long together" in caplog.text


def test_positions_that_nobody_asks_for_are_forgotten_after_a_week_and_the_others_never() -> None:
    with world() as it:
        it.spool.positions("former")
        it._put([], {"former": {"file": 1}})
        it.tail((1, 0))
        it.work(3)
        for day in range(8):
            it.settle()
            it.restart()
            it.turn()
            it.clock.advance(86_400)
            it.turn(61)
            assert ("former" in it.log.book.positions) == (day < 6)
            it.tail((1, 0))
            it.work(9)
        it.restart()
        assert it.log.book.positions.keys() == {"tail"}


def test_positions_that_nobody_asks_for_go_first_where_there_is_no_room() -> None:
    with world() as it:
        it._put([], {"former": {"file": "x" * 5000}, "earlier": {"file": 1}})
        it.tail((1, 0))
        it.work(3)
        it._put([], {"tail": {"more": "y" * 5000}})
        for _ in range(10):
            it.tail((1, 1))
            it.work(4)
        assert it.log.book.positions.keys() == {"tail", "earlier"}


async def test_its_status_tells_how_much_waits_and_for_how_long(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with spooling(tmp_path, Gate(away=True), clock=clock) as spool:
        spool.put([parcel(count=2), parcel(B)])
        await spool.synced()
        clock.advance(30)
        status: dict[str, Any] = spool.status()
    assert (status["unsent"], status["backlog"], status["oldest"]) == (2, 2, 30.0)
    assert status["bytes"] > 300
    assert {"dropped", "epoch", "last_error", "disk", "quarantined"} <= set(status)
