"""Logs with holes as large as a disk are read at once, and what is behind the hole comes as it is written."""

import os
from pathlib import Path

from tests.following import Reader, write

HOLE = 1 << 40


def hole(path: Path, size: int = HOLE) -> int:
    """Let a file grow by a hole; return its length."""
    os.truncate(path, size)
    return size


def test_a_hole_is_part_of_its_line_and_what_is_behind_it_comes_once(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    write(log, "one")
    reader = Reader((str(log),)).start().rounds().store()
    hole(log)
    assert reader.rounds(100).lines == ["one"]
    write(log, "two", "three")
    two, three = reader.rounds(100).unsafe
    assert (two.fields["offset"], two.fields["bytes"], set(two.fields["line"])) == (4, HOLE - 1, {"\0"})
    assert (three.fields["offset"], three.fields["line"]) == (HOLE + 4, "three")
    reader.store().kill()
    write(log, "four")
    again = Reader((str(log),), positions=reader.positions).start().rounds(100)
    assert again.lines == ["four"]
    again.kill()


def test_what_was_overwritten_before_a_hole_is_noticed(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    write(log, "x" * 4095)
    reader = Reader((str(log),)).start().rounds()
    log.write_text("y" * 4096)
    hole(log)
    write(log, "", "two")
    assert [line[:1] for line in reader.rounds(100).lines] == ["x", "y", "t"]
    reader.kill()


def test_a_file_that_begins_with_a_hole_is_read_from_behind_it(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.touch()
    hole(log)
    write(log, "one")
    reader = Reader((str(log),)).start().rounds(100)
    assert reader.lines == ["one"]
    reader.kill()
