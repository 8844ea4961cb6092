"""The emitter of files as a whole: its settings, encodings, long lines, limits, and what it does without notices."""

import asyncio
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emitters.file import EMITTER, File
from emitters.following.complaints import Complaints, hidden, shown
from emitters.following.inotify import CREATE, OVERFLOW, Inotify, Notice, notices
from emitters.following.places import Slots
from emitters.following.rotation import is_rotated
from emitters.following.tree import Tree
from exhaust.clock import VirtualClock
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.settings import INVALID, Context
from tests.following import put, reading

EXAMPLES = int(os.environ.get("EXHAUST_EXAMPLES", "100"))


def faults_of(text: str) -> list[str]:
    document, faults = compose(text.encode(), "s.yaml")
    assert document is not None
    bound = bind(document, File, "", faults, Context())
    assert (bound is INVALID) == bool(faults)
    return [str(fault) for fault in faults]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def test_settings_are_taken_and_streams_follow_from_them() -> None:
    text = """
paths: [/var/log/*.log, "/srv/**/out"]
changes: [{files: [/etc/nginx, "/etc/*.conf"], labels: {service: nginx}}]
encoding: latin-1
from: begin
every: 1s
most_line_bytes: 64KiB
most_files: 100
inotify: false
"""
    assert faults_of(text) == []
    assert File().streams == ("line", "change") == tuple(EMITTER.streams)
    assert File(paths=("/a",)).streams == ("line",)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("paths: [var/log]", "'var/log' is no absolute path or pattern"),
        ("paths: [/var/../etc/*]", "'/var/../etc/*' is no absolute path or pattern"),
        ("paths: [/var/log**]", "'/var/log**': '**' stands for whole directories, as in /**/, not within 'log**'"),
        ("encoding: utf-9", "no encoding of text is called 'utf-9'"),
        ("encoding: rot13", "no encoding of text is called 'rot13'"),
        ("encoding: punycode", "lines cannot be told apart in encoding 'punycode'"),
        ("from: middle", "expected begin or end, got 'middle'"),
        ("most_line_bytes: 1MiB", "expected at most 196608 bytes"),
        ("changes: [{files: []}]", "expected a length of at least 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(text: str, fault: str) -> None:
    assert fault in faults_of(text)[0]


def test_what_can_be_used_here_is_found_by_trying() -> None:
    assert EMITTER.sources() == {"inotify": "", "polling": ""}


async def test_files_are_followed_from_their_end_if_they_were_there_at_the_first_start(
    log: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"paths": (str(tmp_path / "*.log"),), "from_": "end", "state": str(tmp_path)}
    put(log, "old\nbegun")
    async with reading(**given) as it:
        waiting = asyncio.ensure_future(it.lines(1))
        while not (tmp_path / "followed.json").exists():  # noqa: ASYNC110  a file has no event
            await asyncio.sleep(0.01)
        put(log, " new\n")
        assert await waiting == ["begun new"]
    put(tmp_path / "new.log", "one\n")
    async with reading(**given) as it:
        assert sorted(await it.lines(2)) == ["begun new", "one"]


async def test_a_file_that_appears_is_read_from_its_beginning(log: Path, tmp_path: Path) -> None:
    async with reading(paths=(str(tmp_path / "*/**/*.log"), str(log)), from_="end") as it:
        waiting = asyncio.ensure_future(it.lines(1))
        await asyncio.sleep(0)
        put(log, "one\n")
        assert await waiting == ["one"]
        put(tmp_path / "a" / "b" / "c.log", "two\n")
        assert await it.lines(1) == ["two"]


async def test_without_notices_files_are_looked_at_every_so_often(log: Path) -> None:
    clock = VirtualClock()
    put(log, "one\n")
    async with reading(clock, paths=(str(log),), inotify=False, every=5.0) as it:
        assert await it.lines(1) == ["one"]
        waiting = asyncio.ensure_future(it.lines(1))
        await asyncio.sleep(0.05)
        put(log, "two\n")
        await asyncio.sleep(0.05)
        assert not waiting.done()
        clock.advance(5.0)
        assert await waiting == ["two"]


async def test_lost_notices_make_everything_be_looked_at(tmp_path: Path) -> None:
    logs = [tmp_path / f"{number}.log" for number in range(2)]
    clock = VirtualClock()  # which stands still: nothing is looked at but for notices
    async with reading(clock, paths=(str(tmp_path / "*.log"),)) as it:
        waiting = asyncio.ensure_future(it.lines(3))
        await asyncio.sleep(0.1)
        flood(tmp_path)
        for log in [*logs, tmp_path / "late.log"]:
            put(log, f"{log.name}\n")
        assert sorted(await waiting) == ["0.log", "1.log", "late.log"]


def flood(folder: Path) -> None:
    """Make more notices than the kernel keeps."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    names = [folder / f"flood{number}.log" for number in range(2)]
    for number in range(most // 2 + 10):
        name = names[number % 2]
        os.close(os.open(name, os.O_CREAT))
        name.unlink()


def test_notices_are_taken_apart() -> None:
    data = b"\x01\0\0\0\0\x01\0\0\0\0\0\0\x10\0\0\0a.log\0\0\0\0\0\0\0\0\0\0\0"
    data += b"\xff\xff\xff\xff\0\x40\0\0\0\0\0\0\0\0\0\0"
    assert list(notices(data)) == [Notice(1, CREATE, "a.log"), Notice(-1, OVERFLOW, "")]


async def test_of_very_many_files_those_that_were_written_to_last_are_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(10_000):
        (tmp_path / f"{number}.log").write_text(f"{number}\n")
        os.utime(tmp_path / f"{number}.log", (number, number))
    async with reading(paths=(str(tmp_path / "*.log"),), most_files=100) as it:
        found = await it.lines(100)
        waiting = asyncio.ensure_future(it.lines(1))
        put(tmp_path / "9999.log", "more\n")
        assert await waiting == ["more"]
    assert {int(line) for line in found} == set(range(9900, 10_000))
    assert {record.message for record in caplog.records} == {"more files than can be followed"}


async def test_what_is_no_file_or_cannot_be_read_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipe, log = tmp_path / "pipe", tmp_path / "app.log"
    os.mkfifo(pipe)
    clock = VirtualClock()
    async with reading(clock, paths=(str(pipe), str(log))) as it:
        waiting = asyncio.ensure_future(it.lines(1))
        for _ in range(3):
            await asyncio.sleep(0.05)
            clock.advance(5.0)
        pipe.unlink()
        put(pipe, "one\n")
        assert await waiting == ["one"]
    assert [record.message for record in caplog.records] == ["file cannot be followed"]


async def test_a_symbolic_link_is_followed_and_told(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    link = log.with_name("link")
    link.symlink_to(log)
    put(log, "one\n")
    with caplog.at_level("INFO"):
        async with reading(paths=(str(link),)) as it:
            assert [record.fields["path"] for record in await it.take(1)] == [str(link)]
    (told,) = caplog.records
    assert (told.message, told.__dict__["reason"]) == ("symbolic link is followed", str(log))


@pytest.mark.parametrize(
    ("name", "rotated"),
    [
        ("app.log.1", True),
        ("app.log-20261122", True),
        ("app.log.2026-11-22_10.gz", True),
        ("app.log.old", True),
        ("app.log~", True),
        ("app.log", False),
        ("app.logger", False),
        ("app.log-errors", False),
        ("app.log.swp", False),
        ("other.1", False),
    ],
)
def test_rotation_is_known_by_the_names_that_it_gives(name: str, rotated: bool) -> None:
    assert is_rotated("app.log", name) == rotated


def test_a_tree_finds_what_patterns_match(tmp_path: Path) -> None:
    for name in ("a.log", "b/c.log", "b/d/e.log", ".hidden.log", "b/.h/f.log", "b/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)

    def found(*patterns: str, **how: bool) -> set[str]:
        tree = Tree([f"{tmp_path}/{pattern}" for pattern in patterns], Complaints(), **how)
        paths = tree.find()
        assert all(tree.covers(path) for path in paths)
        assert tree.find() == paths
        return {path.removeprefix(f"{tmp_path}/") for path in paths}

    assert found("*.log") == {"a.log"}
    assert found("**/*.log") == {"a.log", "b/c.log", "b/d/e.log"}
    assert found("b/**") == {"b/c.log", "b/c.txt", "b/d/e.log"}
    assert found("?/c.*") == {"b/c.log", "b/c.txt"}
    assert found("b", beneath=True) == {"b/c.log", "b/c.txt", "b/d/e.log"}
    assert found("missing/a", "none") == {"missing/a", "none"} - {"missing/a"}
    assert found(".h*") == {".hidden.log"}


def test_any_path_is_shown_as_text_and_found_again() -> None:
    for path in ("/a", "/größe", os.fsdecode(b"/\xff\xfe a"), "/\n"):
        assert hidden(shown(path)) == path
        shown(path).encode()


def test_positions_stay_within_what_the_runner_takes() -> None:
    slots = Slots({}, 5000)
    path = "/" + "x" * 200
    taken: list[str] = []
    while slots.room([path]):
        taken.append(slots.take(path))
    place = (path, 2**32, 2**40, 2**44, 2**32 - 1, 2 * 10**12)
    assert len(taken) > 300
    assert len(msgspec.json.encode(dict.fromkeys(taken, place))) < 128 << 10


def test_a_queue_of_notices_can_be_closed_and_its_watches_be_dropped(tmp_path: Path) -> None:
    with closing(Inotify()) as inotify:
        watch = inotify.watch(str(tmp_path), CREATE)
        assert inotify.watch(str(tmp_path), CREATE) == watch
        inotify.unwatch(watch)
        inotify.unwatch(watch)
        with pytest.raises(FileNotFoundError):
            inotify.watch(str(tmp_path / "missing"), CREATE)
