"""Whatever is done to logs while they are followed, or while nobody follows them: each line comes once, in order."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.following import Reader, copytruncate, rotate, write


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture(params=[False, True], ids=["polled", "notified"])
def reader(request: pytest.FixtureRequest, log: Path) -> Iterator[Reader]:
    found = Reader((str(log),), notified=request.param)
    yield found
    found.opened.close()


def test_what_is_added_comes_once_its_line_has_ended(reader: Reader, log: Path) -> None:
    write(log, "one")
    reader.start().rounds()
    with log.open("a") as file:
        file.write("tw")
        file.flush()
        assert reader.rounds().lines == ["one"]
        file.write("o\nthree\n")
    assert reader.rounds().lines == ["one", "two", "three"]


def test_a_renamed_file_is_read_to_its_end_before_the_new_one(reader: Reader, log: Path) -> None:
    write(log, "one")
    reader.start().rounds()
    with log.open("a") as old:
        rotate(log)
        write(log, "three")
        old.write("two\n")
    assert reader.rounds().lines == ["one", "two", "three"]


def test_who_goes_on_writing_to_the_renamed_file_is_still_heard(reader: Reader, log: Path) -> None:
    write(log, "one")
    reader.start().rounds()
    with log.open("a") as old:
        rotate(log)
        write(log, "three")
        reader.rounds()
        old.write("two\n")
        old.flush()
        assert reader.rounds().lines == ["one", "three", "two"]


def test_a_file_that_is_emptied_is_read_from_its_beginning(reader: Reader, log: Path) -> None:
    write(log, "one", "two")
    reader.start().rounds()
    copytruncate(log)
    write(log, "three")
    assert reader.rounds().lines == ["one", "two", "three"]


def test_a_file_that_was_emptied_and_has_grown_longer_since_is_read_from_its_beginning(
    reader: Reader, log: Path
) -> None:
    write(log, "one", "two")
    reader.start().rounds()
    copytruncate(log)
    later = [f"line {n}" for n in range(1000)]
    write(log, *later)
    assert reader.rounds().lines == ["one", "two", *later]


def test_lines_that_were_not_read_before_a_file_was_emptied_are_read_from_its_copy(reader: Reader, log: Path) -> None:
    write(log, "one", "two")
    reader.start().rounds()
    write(log, "three")
    copytruncate(log)
    write(log, "four")
    assert reader.rounds().lines == ["one", "two", "three", "four"]


def test_a_hole_that_is_left_where_a_file_was_emptied_is_passed_over(reader: Reader, log: Path) -> None:
    write(log, *("x" * 100 for _ in range(1000)))
    with log.open("r+") as writer:  # not for appending: it goes on where it was
        writer.seek(0, os.SEEK_END)
        reader.start().rounds()
        os.truncate(log, 0)
        writer.write("one\n")
        writer.flush()
        assert reader.rounds().lines[1000].lstrip("\0") == "one"


@pytest.mark.parametrize("way", [rotate, copytruncate])
def test_three_rotations_while_nobody_reads_lose_and_repeat_nothing(reader: Reader, log: Path, way: Any) -> None:
    write(log, "one", "two")
    reader.start().rounds().store(0.5).kill()
    for lines in (["three"], ["four", "five"], ["six"]):
        write(log, *lines)
        way(log)
    write(log, "seven")
    assert reader.start().rounds().lines == ["one", "two", "three", "four", "five", "six", "seven"]


def test_rotations_faster_than_we_look_lose_nothing(reader: Reader, log: Path) -> None:
    write(log, "one")
    reader.start().rounds()
    for lines in (["two"], ["three"], ["four"]):
        write(log, *lines)
        rotate(log)
    assert reader.rounds().lines == ["one", "two", "three", "four"]
    write(log, "five")
    assert reader.rounds().lines == ["one", "two", "three", "four", "five"]


def test_what_was_rotated_away_before_the_first_start_is_not_read(reader: Reader, log: Path) -> None:
    write(log, "old")
    os.utime(log, (1, 1))
    rotate(log)
    write(log, "one")
    assert reader.start().rounds().lines == ["one"]
    rotate(log)
    write(log, "two")
    assert reader.rounds().lines == ["one", "two"]


def test_another_file_with_the_same_inode_is_read_from_its_beginning(reader: Reader, log: Path) -> None:
    write(log, "one", "two")
    reader.start().rounds().store().kill()
    inode = log.stat().st_ino
    for _ in range(1000):
        log.unlink()
        write(log, "three", "four", "five")
        if log.stat().st_ino == inode:
            break
        log.with_name("other").touch()
    else:  # this file system always gives out new numbers: the same file with another content is as good
        os.truncate(log, 0)
        write(log, "three", "four", "five")
    assert reader.start().rounds().lines == ["one", "two", "three", "four", "five"]


def test_a_copy_that_somebody_made_is_no_rotated_file(reader: Reader, log: Path) -> None:
    write(log, "one", "two")
    reader.start().rounds()
    shutil.copyfile(log, log.with_name("app.log.bak"))
    rotate(log)
    write(log, "three")
    assert reader.rounds().lines == ["one", "two", "three"]


def test_a_line_without_an_end_is_sent_only_when_its_file_is_gone_for_a_while(reader: Reader, log: Path) -> None:
    log.write_text("one\ntwo")
    reader.start().rounds().later()
    assert reader.lines == ["one"]
    rotate(log)
    write(log, "three")
    reader.rounds()
    assert reader.lines == ["one", "three"]
    reader.later()
    assert reader.lines == ["one", "three", "two"]
    assert reader.unsafe[-1].fields["unfinished"] is True
    reader.store().kill().start().rounds()
    assert reader.lines == ["one", "three", "two"]


def test_a_deleted_file_is_read_to_its_end_and_closed(reader: Reader, log: Path) -> None:
    write(log, "one")
    reader.start().rounds()
    write(log, "two")
    log.unlink()
    assert reader.rounds().store().later().lines == ["one", "two"]
    assert not reader.follower._tails
    write(log, "three")
    assert reader.rounds().lines == ["one", "two", "three"]


def test_a_part_of_the_positions_is_used_again_once_its_file_is_gone(reader: Reader, log: Path) -> None:
    reader.start()
    for number in range(20):
        write(log, f"line {number}")
        reader.rounds()
        log.unlink()
        reader.rounds().store().later()
    assert len(reader.lines) == 20
    assert set(reader.positions) == {"line.0"}


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_what_was_compressed_meanwhile_is_told_and_the_rest_is_read(
    reader: Reader, log: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(log, "one")
    reader.start().rounds().store().kill()
    write(log, "two")
    rotate(log)
    write(log, "three")
    rotate(log)
    packed = log.with_name(f"app.log.2{suffix}")
    packed.write_bytes(b"\x1f\x8b")
    os.utime(packed, (2e9, 2e9))
    log.with_name("app.log.2").unlink()
    write(log, "four")
    assert reader.start().rounds().lines == ["one", "three", "four"]
    told = [record for record in caplog.records if record.message == "rotated file is compressed"]
    assert [record.__dict__["path"] for record in told] == [str(packed)]
