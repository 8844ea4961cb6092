"""Files that are held open from look to look: as many as one can afford, and none for longer than it is read."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.measures.census import Census, parse
from emitters.measures.descriptors import Descriptors, affordable

EXAMPLES = int(os.environ.get("EXHAUST_EXAMPLES", "300"))


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def held(folder: Path) -> list[str]:
    """Return the files of a folder that this process has open."""
    targets = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    return sorted(target.name for target in targets if target.parent == folder)


def test_no_more_are_held_than_are_allowed_and_all_are_read(opened: ExitStack, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    files = Descriptors(str(tmp_path), opened, most=2)
    for _ in range(2):
        assert [files.read(name) for name in "abcd"] == [b"a", b"b", b"c", b""]
    assert held(tmp_path) == ["a", "b"]


def test_those_that_are_no_longer_read_are_closed(opened: ExitStack, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    files = Descriptors(str(tmp_path), opened, most=9)
    files.read("a")
    files.read("b")
    files.sweep()
    files.read("b")
    files.sweep()
    assert held(tmp_path) == ["b"]
    opened.close()
    assert held(tmp_path) == []


def test_a_process_that_has_ended_says_nothing_though_its_file_is_open(opened: ExitStack) -> None:
    files = Descriptors("/proc", opened, most=affordable())
    child = subprocess.Popen(["/usr/bin/sleep", "1000"])
    try:
        assert files.read(f"{child.pid}/stat").startswith(b"%d (" % child.pid)
    finally:
        child.kill()
        child.wait()
    assert files.read(f"{child.pid}/stat") == b""


async def test_every_process_is_read_also_where_few_files_may_be_open(opened: ExitStack) -> None:
    many, few = Census(opened), Census(opened, open_files=3)
    await many.take(1.0)
    await few.take(1.0)
    both = many.readings.keys() & few.readings.keys()
    assert os.getpid() in both
    assert all(many.readings[pid].stat.started == few.readings[pid].stat.started for pid in both)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=64).filter(lambda name: b"\n" not in name), st.integers(0, 2**31))
def test_a_process_may_be_called_anything(name: bytes, ticks: int) -> None:
    rest = f"S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 -5 3 0 77 0 12 0 0\n".encode()
    stat = parse(b"4711 (" + name + b") " + rest)
    assert (stat.name, stat.state, stat.parent, stat.ticks) == (name, b"S", 1, ticks)
    assert (stat.nice, stat.threads, stat.started, stat.pages) == (-5, 3, 77, 12)
