"""The outbox: in order, pipelined, each until it is confirmed, and nobody held up by what nobody wants."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from exhaust.errors import BrokerError, UncertainError, UnroutableError
from exhaust.store import Store
from tests.outboxes import WITHIN, Desk, Line, eventually, working


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "x.db") as opened:
        yield opened


async def test_what_is_posted_is_published_at_once_in_order_without_waiting_for_confirms(store: Store) -> None:
    async with working(store) as desk:
        desk.post("a", "b")
        desk.post("c")
        assert desk.line.sent == ["a", "b", "c"]
        desk.line.confirm("c", "a")
        await eventually(lambda: store.backlog() == 1)
        assert [sent.id for _, sent in store.unsent(0, 9)] == ["b"]


async def test_what_an_earlier_run_left_goes_first(store: Store) -> None:
    async with working(store, before=["a", "b"]) as desk:
        desk.post("c")
        await desk.sent("a", "b", *([] if "c" not in desk.line.sent else ["c"]))
        desk.line.confirm("a", "b")
        await desk.sent("a", "b", "c")


async def test_a_confirm_leaves_with_the_next_commit(store: Store) -> None:
    async with working(store) as desk:
        (first,) = desk.post("a")
        desk.line.confirm("a")
        await asyncio.sleep(0)
        desk.post("b")
        assert [sent.id for _, sent in store.unsent(0, 9)] == ["b"]
        assert store.unsent(0, 1)[0][0] > first


async def test_a_confirm_leaves_by_itself_when_nothing_else_happens(store: Store) -> None:
    async with working(store) as desk:
        desk.post("a")
        desk.line.confirm("a")
        await desk.empty()


async def test_after_a_failure_all_that_is_left_goes_again_in_order(store: Store) -> None:
    async with working(store) as desk:
        desk.post("a", "b", "c", "d")
        desk.line.confirm("b")
        desk.line.fail(BrokerError("away"), "d", "a", "c")
        await desk.sent("a", "b", "c", "d", "a", "c", "d")
        assert "away" in desk.outbox.last_error


async def test_nothing_is_sent_again_while_it_is_in_flight(store: Store) -> None:
    async with working(store) as desk:
        desk.post("a", "b", "c")
        desk.line.fail(UncertainError("no confirm"), "b")
        await desk.sent("a", "b", "c", "b")
        desk.line.confirm("a", "b", "c")
        await desk.empty()
        assert desk.line.sent == ["a", "b", "c", "b"]


async def test_what_may_have_arrived_goes_again_with_the_same_id(store: Store) -> None:
    async with working(store) as desk:
        desk.post("a")
        for n in range(2, 5):
            desk.line.fail(UncertainError("no confirm"), "a")
            await desk.sent(*["a"] * n)
        desk.line.confirm("a")
        await desk.empty()


async def test_while_the_broker_is_away_it_is_tried_ever_more_rarely(store: Store) -> None:
    async with working(store) as desk:
        desk.line.closed["k"] = BrokerError("away")
        desk.post("a")
        await eventually(lambda: len(desk.line.sent) == 4)
        await eventually(lambda: not desk.outbox.well)
        desk.post("b")
        assert desk.line.sent == ["a"] * 4
        desk.line.closed.clear()
        desk.line.prompt = True
        await desk.empty()
        assert desk.line.sent[4:] == ["a", "b"]
        await eventually(lambda: desk.outbox.well)


async def test_a_failure_is_logged_once_until_it_is_over(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    async with working(store) as desk:
        desk.line.closed["k"] = BrokerError("away")
        desk.post(*"abc")
        await eventually(lambda: len(desk.line.sent) == 9)
        assert caplog.messages == ["publishing failed, trying on"]


async def test_a_backlog_of_many_pages_goes_in_order_and_never_too_much_at_once(store: Store) -> None:
    ids = [f"{n:04}" for n in range(1000)]
    most = 0
    async with working(store, before=ids) as desk:
        while len(desk.line.sent) < 1000 or desk.line.open:
            most = max(most, len(desk.line.open))
            desk.line.confirm(*list(desk.line.open)[:50])
            await asyncio.sleep(0)
        assert desk.line.sent == ids
        await desk.empty()
    assert most <= 512


async def test_what_is_posted_beyond_measure_waits_its_turn(store: Store) -> None:
    ids = [f"{n:04}" for n in range(600)]
    async with working(store) as desk:
        for start in range(0, 600, 100):
            desk.post(*ids[start : start + 100])
        assert desk.line.sent == ids[:200]
        desk.line.prompt = True
        desk.line.confirm(*ids[:200])
        await desk.empty()
        assert desk.line.sent == ids


async def test_a_confirm_that_does_not_come_holds_nobody_up(store: Store) -> None:
    async with working(store, before=["stuck", "a"]) as desk:
        desk.post("b")
        desk.line.confirm("a")
        await desk.sent("stuck", "a", "b")
        desk.line.prompt = True
        desk.line.confirm("b")
        for one in "cdef":
            desk.post(one)
        await desk.sent("stuck", *"abcdef")
        await eventually(lambda: store.backlog() == 1)


async def test_what_nobody_wants_holds_nobody_up(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    async with working(store) as desk:
        desk.line.closed["unwanted"] = UnroutableError("no queue")
        desk.post("a", key="unwanted")
        await eventually(lambda: bool(desk.outbox.last_error))
        desk.line.prompt = True
        for n in range(20):
            desk.post(f"b{n}")
            await asyncio.sleep(0)
        assert desk.line.sent == ["a", *(f"b{n}" for n in range(20))]
        await eventually(lambda: store.backlog() == 1)
        assert desk.outbox.well
        assert caplog.messages == ["nobody takes this, trying on"]


async def test_what_nobody_wanted_goes_in_order_once_somebody_does(store: Store) -> None:
    async with working(store) as desk:
        desk.line.closed["unwanted"] = UnroutableError("no queue")
        desk.line.prompt = True
        desk.post("a", key="unwanted")
        await eventually(lambda: bool(desk.outbox.last_error))
        desk.post("b", "c", key="unwanted")
        desk.line.closed.clear()
        began = asyncio.get_running_loop().time()
        await desk.empty()
        assert desk.line.sent == ["a", "a", "b", "c"]
        assert asyncio.get_running_loop().time() - began < 3.0


async def test_what_nobody_wanted_before_it_expired_is_dropped(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    async with working(store) as desk:
        desk.line.closed["unwanted"] = UnroutableError("no queue")
        desk.line.prompt = True
        desk.post("a", "b", key="unwanted", expires=60.0)
        desk.post("c", key="unwanted", time=50.0, expires=60.0)
        await eventually(lambda: bool(desk.outbox.last_error))
        desk.post("d", time=62.0)
        await eventually(lambda: store.backlog() == 1)
        assert [sent.id for _, sent in store.unsent(0, 9)] == ["c"]
        assert caplog.messages.count("nobody took this in its time") == 2


async def test_a_full_page_that_nobody_wants_does_not_hide_what_is_behind(store: Store) -> None:
    async with working(store, unwanted=600) as desk:
        desk.line.prompt = True
        desk.post("a")
        await eventually(lambda: "a" in desk.line.sent)
        assert len(desk.line.sent) < 600


@pytest.mark.parametrize("behind", [True, False])
async def test_an_error_that_is_not_the_broker_s_stops_it_loudly(store: Store, behind: bool) -> None:
    desk = Desk(store, Line())
    desk.line.closed["k"] = ZeroDivisionError("a bug")
    if behind:
        desk.post("a")
    running = asyncio.create_task(desk.outbox.run())
    await asyncio.sleep(0.01)
    if not behind:
        desk.post("a")
    async with asyncio.timeout(WITHIN):
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await running
    with pytest.raises(ZeroDivisionError):
        await desk.outbox.drained()
    assert store.backlog() == 1


async def test_drained_waits_for_confirms_and_tidies(store: Store) -> None:
    async with working(store) as desk:
        desk.post("a", "b")
        draining = asyncio.create_task(desk.outbox.drained())
        await asyncio.sleep(0)
        desk.line.confirm("a")
        await asyncio.sleep(0)
        assert not draining.done()
        desk.line.confirm("b")
        async with asyncio.timeout(WITHIN):
            await draining
        assert not store.backlog()


async def test_drained_sends_what_is_behind(store: Store) -> None:
    async with working(store, before=[str(n) for n in range(400)]) as desk:
        desk.line.prompt = True
        desk.line.confirm(*list(desk.line.open))
        async with asyncio.timeout(WITHIN):
            await desk.outbox.drained()
        assert not store.backlog()


async def test_drained_waits_no_longer_than_it_may(store: Store) -> None:
    async with working(store) as desk:
        desk.post("a", "b")
        desk.line.confirm("a")
        began = asyncio.get_running_loop().time()
        await desk.outbox.drained(0.05)
        assert asyncio.get_running_loop().time() - began < 4.0
        assert [sent.id for _, sent in store.unsent(0, 9)] == ["b"]


async def test_drained_does_not_wait_for_a_broker_that_is_away(store: Store) -> None:
    async with working(store) as desk:
        desk.line.closed["k"] = BrokerError("away")
        desk.post("a")
        await eventually(lambda: not desk.outbox.well)
        began = asyncio.get_running_loop().time()
        await desk.outbox.drained()
        assert asyncio.get_running_loop().time() - began < 4.0


async def test_drained_waits_for_the_next_try_where_the_broker_is_back(store: Store) -> None:
    async with working(store) as desk:
        desk.line.closed["k"] = BrokerError("away")
        desk.post("a")
        await eventually(lambda: len(desk.line.sent) == 5)
        desk.line.closed.clear()
        desk.line.prompt = True
        async with desk.line:
            await desk.outbox.drained()
        assert not store.backlog()


@pytest.mark.parametrize("turns", range(6))
async def test_told_to_end_just_as_a_confirm_comes_it_ends(store: Store, turns: int) -> None:
    desk = Desk(store, Line())
    running = asyncio.create_task(desk.outbox.run())
    for name in "ab":
        for _ in range(5):
            await asyncio.sleep(0)
        desk.post(name)
        desk.line.confirm(name)
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    assert (await asyncio.wait([running], timeout=WITHIN))[0]
