"""Numbers that the spool gave up: the next batch of their stream says that they will never come."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

import pytest

from emitters.spool.forgone import MOST_TOLD, Forgone
from emitters.spool.frames import BATCH, Frame, scan
from exhaust.messages import Batch, Codec
from tests.spooling import World

Numbers = set[tuple[str, int, int]]
LONG = 8 * 86_400


@pytest.fixture
def it() -> Iterator[World]:
    made = World(1)
    try:
        fill(made)
        yield made
    finally:
        made.close()


def fill(it: World) -> None:
    """Fill several segments with batches that nobody takes."""
    for _ in range(30):
        it.tail((1, 1))
        it.meter(1)
        it.work(4)
    refuse(it)


def refuse(it: World) -> None:
    while it.broker.asked:
        it.broker.answer(0, "refused")
    it.turn()
    it.garbled = True  # what is lost from here on is the test's own doing


def files(it: World) -> list[str]:
    return sorted(name for name in it.disk.names if name.endswith(".log"))


def frames(it: World, name: str) -> list[Frame]:
    found = scan(bytes(it.disk.names[name].seen), int(name[:16], 16))
    return [one for one in found if isinstance(one, Frame) and one.kind == BATCH]


def held(it: World, name: str) -> Mapping[str, Batch]:
    """Return the batches in a file, by id."""
    found = [cast("Batch", Codec.decode(one.body)) for one in frames(it, name)]
    return {batch.id: batch for batch in found}


def stored(it: World) -> Mapping[str, Batch]:
    """Return all batches that are on disk."""
    return {name: batch for file in files(it) for name, batch in held(it, file).items()}


def garble(it: World, name: str, *places: int) -> None:
    """Change a byte in each of these frames of a file, at the beginning of its text."""
    for place in places:
        at = frames(it, name)[place].position - int(name[:16], 16) + 45
        for data in (it.disk.names[name].seen, it.disk.names[name].safe):
            data[at] ^= 1


def speak(it: World) -> None:
    """Let everything arrive, and what every stream then says."""
    for _ in range(2):
        it.settle()
        it.tail((1, 1))
        it.meter(1)
    it.settle()


def told(it: World) -> Numbers:
    got = it.broker.got.values()
    stretches = [(batch.stream, *stretch) for batch in got for stretch in batch.forgone]
    return {(stream, epoch, n) for stream, epoch, first, last in stretches for n in range(first, last + 1)}


def lost(it: World, batches: Mapping[str, Batch]) -> Numbers:
    return numbers(batch for name, batch in batches.items() if name not in it.broker.got)


def numbers(batches: Iterable[Batch]) -> Numbers:
    return {(batch.stream, batch.epoch, batch.seq) for batch in batches}


def grow_old(it: World) -> None:
    it.clock.advance(LONG)
    it.turn(61.0)
    it.work(60)


def test_what_was_too_old_is_told_once_by_its_stream_s_next_batch(it: World) -> None:
    batches = stored(it)
    grow_old(it)
    speak(it)
    assert len(lost(it, batches)) > 60
    assert lost(it, batches) <= told(it)
    assert len([batch for batch in it.broker.got.values() if batch.forgone]) == 3


@pytest.mark.parametrize("end", [World.restart, World.crash])
def test_an_end_between_giving_up_and_telling_forgets_nothing(it: World, end: Callable[[World], None]) -> None:
    batches = stored(it)
    grow_old(it)
    end(it)
    speak(it)
    assert lost(it, batches)
    assert lost(it, batches) <= told(it)


def test_what_tells_of_it_may_be_given_up_itself(it: World) -> None:
    batches = dict(stored(it))
    grow_old(it)
    fill(it)
    batches |= stored(it)
    assert any(batch.forgone for batch in batches.values())
    grow_old(it)
    speak(it)
    assert lost(it, batches) <= told(it)


@pytest.mark.parametrize("place", [0, 1, -1])
def test_what_is_garbled_on_disk_is_told_whether_a_start_or_the_backlog_finds_it(it: World, place: int) -> None:
    batches = stored(it)
    damaged = {name: batch for file in (1, 2, -1) for name, batch in held(it, files(it)[file]).items()}
    for name in (files(it)[1], files(it)[-1]):
        garble(it, name, 1, 2)
    garble(it, files(it)[2], place)
    it.restart()
    speak(it)
    assert len(lost(it, batches)) == 5
    assert lost(it, batches) <= told(it) <= numbers(damaged.values())


def test_a_file_that_somebody_removed_is_said_once_and_its_numbers_are_told(
    it: World, caplog: pytest.LogCaptureFixture
) -> None:
    batches = stored(it)
    name = files(it)[1]
    unsent = len(frames(it, name))
    it.disk.unlink(name)
    it.restart()
    it.meter(1)
    it.work(4)
    it.restart()
    (said,) = [record for record in caplog.records if "files of the spool are missing" in record.message]
    assert (vars(said)["files"], vars(said)["lost"]) == ([name], unsent)
    speak(it)
    assert len(lost(it, batches)) == unsent
    assert lost(it, batches) <= told(it)


def test_a_file_that_somebody_removes_while_it_is_in_use_is_told(it: World) -> None:
    batches = stored(it)
    it.disk.unlink(files(it)[1])
    speak(it)
    assert lost(it, batches)
    assert lost(it, batches) <= told(it)


def test_of_what_became_too_old_only_that_is_told_which_nobody_had(it: World) -> None:
    batches = stored(it)
    it.work(60)
    while len(it.broker.got) < 16:
        it.broker.answer(0, "confirmed")
        it.work(4)
    had = numbers(it.broker.got.values())
    refuse(it)
    grow_old(it)
    speak(it)
    assert lost(it, batches) <= told(it)
    assert not had & told(it)


def test_where_all_arrives_nothing_is_called_forgone(it: World) -> None:
    it.crash()
    speak(it)
    assert lost(it, stored(it)) == told(it) == set()


def test_stretches_that_touch_are_one_and_a_batch_tells_only_so_many() -> None:
    forgone = Forgone(most=50)
    for number in (4, 2, 3, 9):
        forgone.add(("e", "a"), (7, number, number))
    assert forgone.of(("e", "a")) == [(7, 2, 4), (7, 9, 9)]
    for number in range(0, 200, 2):
        forgone.add(("e", "b"), (7, number, number))
    assert len(forgone.of(("e", "b"))) == MOST_TOLD
    assert len(forgone.rows) == 50
    forgone.remove(("e", "b"), [(7, 0, 300), (8, 0, 1)])
    assert ("e", "b") not in forgone
    assert Forgone(forgone.rows).rows == forgone.rows
