"""Records that the spool dropped: what no batch has told of outlives a kill, and is told by the next batch."""

from collections import Counter
from collections.abc import Iterator

import pytest

from emitters.spool.dropped import Dropped
from emitters.spool.frames import dropped_of
from exhaust.messages import Batch
from exhaust.wire import pack
from tests.spooling import World


@pytest.fixture
def it() -> Iterator[World]:
    """A world whose log is so full that metrics are dropped, for want of a broker."""
    made = World(1)
    try:
        while not made.spool.status()["dropped"]:
            made.meter(1)
            made.work(4)
        yield made
    finally:
        made.close()


def told(it: World) -> Counter[str]:
    """Let everything arrive, and what every stream then says; return what was told in all."""
    for _ in range(3):
        it.settle()
        it.meter(1)
    it.settle()
    return sum((Counter(batch.dropped) for batch in it.broker.got.values()), Counter())


def lose(it: World, times: int = 20) -> int:
    """Drop records, and let that be written; return how many."""
    for _ in range(times):
        it.meter(1)
        it.work(4)
    it.turn(0.3)
    it.work(4)
    return int(it.spool.status()["dropped"]["spool_full"])


def test_what_was_dropped_without_a_broker_outlives_kills_and_is_told_once(it: World) -> None:
    lost = lose(it)
    it.crash()
    lost += lose(it)
    it.crash()
    it.crash()
    assert told(it) == {"spool_full": lost}
    it.crash()
    assert told(it) == {"spool_full": lost}


def test_a_batch_that_has_told_of_it_before_a_kill_has_told_of_it(it: World) -> None:
    lost = lose(it)
    it.meter(0)
    it.work(4)
    it.crash()
    assert told(it) == {"spool_full": lost}


def test_an_empty_batch_is_stored_in_a_full_log_only_where_it_has_something_to_tell(it: World) -> None:
    unsent = it.spool.status()["unsent"]
    for _ in range(3):
        it.meter(0)
        it.work(4)
    assert it.spool.status()["unsent"] == unsent + 1


def test_notes_of_what_is_dropped_go_on_in_another_segment_and_take_no_more_room(it: World) -> None:
    level = it.log.level
    lost = max(lose(it, 3) for _ in range(400))
    assert it.log.level <= level + it.log.size / it.log._limit
    it.crash()
    assert told(it) == {"spool_full": lost}


def test_what_a_batch_told_that_became_too_old_others_tell(it: World) -> None:
    lost = lose(it)
    it.meter(0)
    it.work(4)
    teller = it.log.book.segments[-1]
    while it.log.book.segments[-1] is teller:
        it.tail((1, 1))
        it.work(4)
    while it.broker.asked:
        it.broker.answer(0, "refused")
    it.garbled = True
    it.clock.advance(8 * 86_400)
    it.turn(61.0)
    it.work(60)
    assert teller not in it.log.book.segments
    assert told(it)["spool_full"] == lost


def test_counts_of_a_batch_are_read_from_its_text() -> None:
    for given in ({"spool_full": 3, "too_old": 1}, {}):
        batch = Batch(
            id="b", time=1.0, host="h", emitter="e", stream="s", epoch=1, seq=2, dropped=given, forgone=[(1, 2, 3)]
        )
        assert dropped_of(pack(batch).body) == given


def test_what_is_told_leaves_what_was_dropped_meanwhile() -> None:
    dropped = Dropped([("e", "a", "full", 3), ("e", "b", "full", 1)])
    told = dropped.of(("e", "a"))
    dropped.add(("e", "a"), {"full": 2, "old": 1})
    dropped.remove(("e", "a"), told)
    dropped.remove(("e", "b"), {"full": 1})
    assert dropped.rows == [("e", "a", "full", 2), ("e", "a", "old", 1)]
    assert ("e", "b") not in dropped
