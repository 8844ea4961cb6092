"""The log on a real file system: what is found again after a stop, a tear at any byte, and damage anywhere."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from emitters.spool.book import Placed
from emitters.spool.disk import Folder
from emitters.spool.frames import BATCH, HEAD, Frame, Hole, Numbered
from emitters.spool.group import Group
from emitters.spool.quarantine import Quarantine
from emitters.spool.segments import Log
from tests.faulty_disk import FaultyDisk

MOST = 1 << 20  # so segments are of 64 KiB


def made(path: Path, most: int = MOST) -> Log:
    log = Log(Folder(path), most=most)
    log.recover()
    return log


def put(log: Log, *bodies: bytes, time: float = 5.0) -> list[Placed]:
    """Write these as one group."""
    group = log.group()
    for body in bodies:
        if group.batch(log.book.reached, body, time, 1, {}) is None:
            assert not group.batches
            group = log.rolled(group)
            assert group.batch(log.book.reached, body, time, 1, {}) is not None
    return write(log, group)


def write(log: Log, group: Group) -> list[Placed]:
    log.write(group)
    log.recycle(log.accept(group))
    return group.batches


def found(log: Log) -> Iterator[Frame | Hole]:
    """Read all that is unsent, as the backlog does."""
    for start, end in log.book.unsent:
        position = start
        while (segment := log.book.following(position)) is not None and max(position, segment.start) < end:
            until = min(end, segment.end)
            some, position = log.reader.read(segment, max(position, segment.start), until)
            yield from (one for one in some if isinstance(one, Hole) or one.kind == BATCH)


def bodies(log: Log) -> list[bytes]:
    return [one.body for one in found(log) if isinstance(one, Frame)]


def start_often(path: Path, times: int, streams: int) -> Log:
    """Start, and write a batch of each stream, many times while nothing is sent; return the log of the last start."""
    for _ in range(times):
        log = made(path)
        log.book.begin(log.book.epoch + 1)
        group = log.group()
        for stream in range(streams):
            epoch = log.book.epoch
            body = b'{"emitter":"emitter","stream":"stream%d","epoch":%d,"seq":0}' % (stream, epoch)
            number = Numbered("emitter", f"stream{stream}", epoch, 0)
            assert group.batch(log.book.reached, body, 1.0, 0, {}, number) is not None
        write(log, group)
        log.close()
    return made(path)


def segments(path: Path) -> list[Path]:
    return sorted(path.glob("*.log"))


def garble(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 255]))


def test_what_was_written_is_there_again_in_order_over_many_segments(tmp_path: Path) -> None:
    log = made(tmp_path)
    sent = [b"%d" % n * 5000 for n in range(40)]
    for body in sent:
        put(log, body)
    log.close()
    again = made(tmp_path)
    assert bodies(again) == sent
    assert again.book.batches == 40
    assert len(segments(tmp_path)) > 3


def test_what_was_confirmed_is_not_there_again_and_its_segments_are_used_anew(tmp_path: Path) -> None:
    log = made(tmp_path)
    for n in range(60):
        for placed in put(log, b"%02d" % n * 5000):
            log.recycle(log.confirm(placed))
    put(log, b"last")
    log.close()
    assert bodies(made(tmp_path)) == [b"last"]
    assert len(list(tmp_path.glob("*.*"))) <= 3


def test_one_batch_that_is_unsent_keeps_its_segment_and_no_other(tmp_path: Path) -> None:
    log = made(tmp_path)
    placed = [one for n in range(60) for one in put(log, b"%02d" % n * 5000)]
    for one in placed[:30] + placed[31:]:
        log.recycle(log.confirm(one))
    write(log, log.group(roll=True))
    log.close()
    assert bodies(made(tmp_path)) == [b"30" * 5000]
    assert len(segments(tmp_path)) == 2


def test_a_tear_at_any_byte_of_the_last_write_leaves_all_before_it_and_nothing_of_what_is_torn(tmp_path: Path) -> None:
    log = made(tmp_path, MOST // 4)
    put(log, b"first", b"second")
    end = log.book.reached
    put(log, b"t" * 500, b"u" * 500)
    log.close()
    path = segments(tmp_path)[0]
    whole = path.read_bytes()
    last = log.book.reached
    assert last - end >= 1000
    for torn in range(end, last):
        path.write_bytes(whole[:torn] + bytes(len(whole) - torn))
        again = made(tmp_path, MOST // 4)
        left = [b"first", b"second", b"t" * 500][: 2 if torn < last - 500 - HEAD else 3]
        assert bodies(again) == left
        if torn % 100 == 0:
            put(again, b"next")
            again.close()
            assert bodies(made(tmp_path, MOST // 4)) == [*left, b"next"]
            for other in segments(tmp_path)[1:]:
                other.unlink()


def test_a_write_whose_end_is_on_disk_but_not_its_beginning_is_cut_and_quarantined(tmp_path: Path) -> None:
    log = made(tmp_path)
    put(log, b"first")
    end = log.book.reached
    put(log, b"t" * 100, b"u" * 100)
    log.close()
    garble(segments(tmp_path)[0], end + HEAD + 5)
    again = made(tmp_path)
    assert bodies(again) == [b"first"]
    (kept,) = (tmp_path / "quarantine").iterdir()
    assert b"u" * 100 in kept.read_bytes()
    assert again.status()["quarantined"] == kept.stat().st_size > 200


def test_damage_in_the_middle_costs_only_the_batch_that_it_hit(tmp_path: Path) -> None:
    log = made(tmp_path)
    places = [put(log, b'{"emitter":"e","stream":"s","n":%d}' % n)[0] for n in range(5)]
    log.close()
    garble(segments(tmp_path)[0], places[2].end - 3)
    again = made(tmp_path)
    assert [body[-2:] for body in bodies(again)] == [b"0}", b"1}", b"3}", b"4}"]
    assert again.lost == [("e", "s", 1)]
    assert again.status()["quarantined"] > 0


def test_damage_is_passed_by_when_a_segment_is_read_that_was_not_looked_at_before(tmp_path: Path) -> None:
    log = made(tmp_path)
    for n in range(40):
        put(log, b"%02d" % n * 5000)
    log.close()
    garble(segments(tmp_path)[0], 30_000)
    again = made(tmp_path)
    assert again.lost == []
    assert len(bodies(again)) == 39
    assert sum(isinstance(one, Hole) for one in found(again)) == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "noise", "stale"])
def test_nothing_in_the_files_keeps_it_from_opening(tmp_path: Path, damage: str) -> None:
    log = made(tmp_path)
    for n in range(40):
        put(log, b"%02d" % n * 5000)
    log.close()
    for path in segments(tmp_path)[-2:]:
        data = path.read_bytes()
        whole = {"empty": b"", "cut": data[:100], "zeros": bytes(len(data)), "noise": b"\xffEx\xfe" * 9000}
        path.write_bytes(whole.get(damage, segments(tmp_path)[0].read_bytes()))
    again = made(tmp_path)
    assert bodies(again)[:20] == [b"%02d" % n * 5000 for n in range(20)]
    put(again, b"next")
    assert bodies(again)[-1] == b"next"


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    log = made(tmp_path)
    put(log, b"a")
    log.close()
    for name in ("notes.txt", "0123.log", "f" * 16 + ".log"):
        (tmp_path / name).write_text("mine")
    (tmp_path / ("0" * 15 + "5.log")).mkdir()
    again = made(tmp_path)
    assert bodies(again) == [b"a"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_lost_its_log_takes_nothing_stale_for_its_own(tmp_path: Path) -> None:
    log = made(tmp_path)
    for n in range(60):
        for placed in put(log, b"%02d" % n * 5000):
            log.recycle(log.confirm(placed))
    log.close()
    for path in segments(tmp_path):
        path.unlink()
    again = made(tmp_path)
    put(again, b"new")
    again.close()
    assert bodies(made(tmp_path)) == [b"new"]


def test_positions_and_epoch_outlive_the_segments_that_they_were_written_in(tmp_path: Path) -> None:
    log = made(tmp_path)
    log.book.epoch = 7
    group = log.group()
    group.batch(log.book.reached, b"a", 5.0, 1, {"tail": {"file": 12, "gone": 3}})
    group.batch(log.book.reached, b"b", 5.0, 1, {"tail": {"gone": None}})
    for placed in write(log, group):
        log.recycle(log.confirm(placed))
    for n in range(60):
        for placed in put(log, b"%02d" % n * 5000):
            log.recycle(log.confirm(placed))
    log.close()
    book = made(tmp_path).book
    assert (book.epoch, book.positions) == (7, {"tail": {"file": 12}})


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_nothing_and_the_next_goes_elsewhere(error: int) -> None:
    disk = FaultyDisk()
    log = Log(disk, most=MOST)
    log.recover()
    put(log, b"first")
    disk.failing = error
    group = log.group()
    group.batch(log.book.reached, b"lost", 5.0, 1, {})
    with pytest.raises(OSError, match=errno.errorcode[error]):
        log.write(group)
    log.reject(group)
    disk.failing = 0
    put(log, b"second")
    assert bodies(log) == [b"first", b"second"]
    again = Log(disk, most=MOST)
    again.recover()
    assert bodies(again) == [b"first", b"second"]


def test_a_sector_that_cannot_be_read_costs_only_what_is_in_it() -> None:
    disk = FaultyDisk()
    log = Log(disk, most=MOST)
    log.recover()
    for n in range(8):
        put(log, b"%d" % n * 6000)
    disk.scratched = 20_000
    assert [body[:1] for body in bodies(log)] == [b"0", b"1", b"2", b"4", b"5", b"6", b"7"]


def test_a_segment_that_somebody_removed_is_passed_by(tmp_path: Path) -> None:
    log = made(tmp_path)
    for n in range(40):
        put(log, b"%02d" % n * 5000)
    segments(tmp_path)[1].unlink()
    left = [int(body[:2]) for body in bodies(log)]
    assert left[:6] == [0, 1, 2, 3, 4, 5]
    assert left[-1] == 39
    assert 20 < len(left) < 40
    log.close()
    assert [int(body[:2]) for body in bodies(made(tmp_path))] == left


def test_the_quarantine_keeps_the_newest_up_to_its_bound(tmp_path: Path) -> None:
    quarantine = Quarantine(Folder(tmp_path), most=100)
    for position in range(5):
        quarantine.put(position, b"x" * 40)
    names = sorted(path.name for path in (tmp_path / "quarantine").iterdir())
    assert names == [f"{3:016x}", f"{4:016x}"]
    assert quarantine.size == 80


def test_a_batch_that_no_segment_could_hold_has_no_place(tmp_path: Path) -> None:
    log = made(tmp_path)
    assert log.group().batch(0, bytes(70_000), 5.0, 1, {}) is None


def test_checkpoints_stay_small_however_often_a_start_begins_one_more_segment(tmp_path: Path) -> None:
    log = start_often(tmp_path, 60, 40)
    numbered = [segment for segment in log.book.segments if segment.numbers]
    assert numbered == log.book.segments[-4:]  # the newest is read again
    assert len(log._checkpoint()) < log.size // 4


def test_a_checkpoint_that_is_too_long_goes_without_numbers_and_the_start_succeeds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = start_often(tmp_path, 1, 10)
    for number in range(100):
        log.book.segments[0].numbers["x" * 500 + str(number)] = {"s": (0, 1)}
        log.book.forgone.add(("y" * 500 + str(number), "s"), (1, 0, 1))
    for _ in range(2):
        put(log, b"batch")
        assert log.group(roll=True).end - log._next < log.size // 2
    assert [record.message for record in caplog.records] == ["a checkpoint is too long, it goes without numbers"]
    log.close()
    assert b"batch" in bodies(made(tmp_path))


def test_what_is_untold_is_noted_beside_batches_and_found_again(tmp_path: Path) -> None:
    log = made(tmp_path)
    put(log, b"batch")
    log.book.forgone.add(("e", "s"), (1, 2, 3))
    log.book.dropped.add(("e", "s"), {"full": 2})
    owed = log.owes
    write(log, log.group())
    assert (owed, log.owes) == (True, False)
    assert len(segments(tmp_path)) == 1
    log.close()
    book = made(tmp_path).book
    assert (book.forgone.rows, book.dropped.rows) == ([("e", "s", 1, 2, 3)], [("e", "s", "full", 2)])
