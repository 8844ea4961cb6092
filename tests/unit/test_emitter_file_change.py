"""Files whose content matters: each change is told once, with what was in force before, also what nobody saw happen."""

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest

from emitters.file import CHANGE, Changes, File, emit
from emitters.following.changes import Change, moved, since
from emitters.following.complaints import Complaints
from emitters.following.version import Names, Version
from emitters.following.versions import Versions
from exhaust.clock import SystemClock
from exhaust.plugins import Record

Next = Callable[[], Any]


def sum_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def kept(told: dict[str, Any]) -> tuple[str, int]:
    """Return the copy that a record tells of: its content and mode."""
    copy = Path(told["copy"])
    return copy.read_text(), stat.S_IMODE(copy.stat().st_mode)


def replace(folder: Path) -> None:
    """Put another directory in the place of one, with another file in it."""
    new = folder.with_name("new")
    shutil.copytree(folder, new)
    (new / "a.conf").write_text("two")
    folder.rename(folder.with_name("old"))
    new.rename(folder)


class Observed:
    """What an observer of one folder tells; `positions` are what is safe."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.state = folder.parent / "state"
        entry = Changes(files=(str(folder),), labels={"service": "shop"})
        self.settings = File(changes=(entry,), state=str(self.state), every=0.1, **settings)
        self.positions: dict[str, Any] = {}

    @asynccontextmanager
    async def observing(self) -> AsyncIterator["Observed"]:
        """Observe from when all is known that is there."""
        records = emit(self.settings, SystemClock(), self.positions)
        async with aclosing(cast("AsyncGenerator[Record]", records)) as self.records:
            self.waiting = asyncio.ensure_future(anext(self.records))
            while not (self.state / "catalogue" / "patterns.json").exists():  # noqa: ASYNC110  a file has no event
                await asyncio.sleep(0.01)
            yield self
            self.waiting.cancel()
            await asyncio.wait([self.waiting])

    async def next(self, *, safe: bool = True) -> dict[str, Any]:
        async with asyncio.timeout(20):
            record = await self.waiting
        self.waiting = asyncio.ensure_future(anext(self.records))
        assert record.position is not None
        assert set(record.fields) <= set(CHANGE)
        if safe:
            self.positions[record.position[0]] = record.position[1]
        return record.fields


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "etc"
    path.mkdir()
    (path / "a.conf").write_text("one")
    (path / "a.conf").chmod(0o644)
    return path


@pytest.fixture(params=[True, False], ids=["notified", "polled"])
def observed(request: pytest.FixtureRequest, folder: Path) -> Observed:
    return Observed(folder, inotify=request.param)


async def test_a_changed_file_is_told_with_what_was_in_force_before(observed: Observed, folder: Path) -> None:
    async with observed.observing():
        (folder / "a.conf").write_text("other")
        told = await observed.next()
    assert (told["path"], told["kind"]) == (str(folder / "a.conf"), "modified")
    assert (told["sha256"], told["previous_sha256"]) == (sum_of("other"), sum_of("one"))
    assert (told["size_bytes"], told["previous_size_bytes"], told["mode"]) == (5, 3, "0644")
    assert told["labels"] == {"service": "shop"}
    assert kept(told) == ("one", 0o600)


async def test_editors_that_put_a_new_file_in_place_change_the_old_one(observed: Observed, folder: Path) -> None:
    async with observed.observing():
        (folder / ".a.conf.swp").write_text("two")
        (folder / ".a.conf.swp").replace(folder / "a.conf")
        told = await observed.next()
    assert (told["kind"], told["sha256"], told["previous_sha256"]) == ("modified", sum_of("two"), sum_of("one"))


async def test_a_writer_in_the_middle_makes_one_record(folder: Path) -> None:
    observed = Observed(folder)
    async with observed.observing():
        with (folder / "a.conf").open("w") as file:
            for piece in ("o", "t", "h", "er"):
                file.write(piece)
                file.flush()
                await asyncio.sleep(0.01)
        assert (await observed.next())["sha256"] == sum_of("other")
        (folder / "b.conf").touch()
        assert (await observed.next())["kind"] == "created"


async def test_a_new_file_one_that_moves_and_one_that_goes_are_told(observed: Observed, folder: Path) -> None:
    async with observed.observing():
        (folder / "below").mkdir()
        (folder / "below" / "b.conf").write_text("two")
        told = await observed.next()
        assert (told["kind"], told["sha256"], told["previous_sha256"]) == ("created", sum_of("two"), "")
        (folder / "below" / "b.conf").rename(folder / "c.conf")
        told = await observed.next()
        assert (told["kind"], told["path"]) == ("moved", str(folder / "c.conf"))
        assert told["previous_path"] == str(folder / "below" / "b.conf")
        assert told["sha256"] == told["previous_sha256"] == sum_of("two")
        (folder / "c.conf").unlink()
        told = await observed.next()
        assert (told["kind"], told["path"]) == ("deleted", str(folder / "c.conf"))
        assert (told["sha256"], told["previous_sha256"], told["previous_size_bytes"]) == ("", sum_of("two"), 3)
        assert kept(told) == ("two", 0o600)


async def test_another_mode_is_told_without_another_content(observed: Observed, folder: Path) -> None:
    async with observed.observing():
        (folder / "a.conf").chmod(0o600)
        told = await observed.next()
    assert (told["kind"], told["mode"], told["previous_mode"]) == ("attributes", "0600", "0644")
    assert told["sha256"] == told["previous_sha256"]


async def test_what_changed_while_nobody_looked_is_told_at_the_start(observed: Observed, folder: Path) -> None:
    async with observed.observing():
        pass
    (folder / "a.conf").write_text("two")
    (folder / "b.conf").write_text("new")
    async with observed.observing():
        found = {told["path"]: told for told in [await observed.next(), await observed.next()]}
    assert found[str(folder / "a.conf")]["previous_sha256"] == sum_of("one")
    assert found[str(folder / "b.conf")]["kind"] == "created"


async def test_a_change_of_which_no_record_was_safe_is_told_again_and_one_that_was_is_not(
    observed: Observed, folder: Path
) -> None:
    async with observed.observing():
        (folder / "a.conf").write_text("two")
        await observed.next()
        (folder / "a.conf").write_text("three")
        unsafe = await observed.next(safe=False)
    async with observed.observing():
        again = await observed.next()
        assert (again["sha256"], again["previous_sha256"]) == (unsafe["sha256"], sum_of("two"))
        (folder / "a.conf").write_text("four")
        assert (await observed.next())["previous_sha256"] == sum_of("three")


async def test_only_the_last_versions_are_kept(folder: Path) -> None:
    observed = Observed(folder)
    async with observed.observing():
        for text in ("two", "three", "four", "five"):
            (folder / "a.conf").write_text(text)
            await observed.next()
    copies = {path.read_text() for path in (observed.state / "catalogue" / "copies").iterdir()}
    assert copies == {"three", "four", "five"}


async def test_a_long_file_is_told_by_its_ends_and_not_kept(folder: Path) -> None:
    observed = Observed(folder)
    long = folder / "long"
    long.touch()
    os.truncate(long, 17 << 20)
    async with observed.observing():
        with long.open("r+b") as file:
            file.write(b"x")
        told = await observed.next()
    assert (told["partial"], told["size_bytes"]) == (True, 17 << 20)
    assert "copy" not in told


async def test_a_symbolic_link_is_told_with_what_it_leads_to(folder: Path) -> None:
    observed = Observed(folder)
    (folder / "link.conf").symlink_to("a.conf")
    async with observed.observing():
        (folder / "new").write_text("two")
        (folder / "other").symlink_to("new")
        (folder / "other").replace(folder / "link.conf")
        found = [await observed.next(), await observed.next()]
    (told,) = [one for one in found if one["path"] == str(folder / "link.conf")]
    assert (told["kind"], told["target"], told["sha256"]) == ("modified", str(folder / "new"), sum_of("two"))


async def test_pipes_are_not_opened_and_strange_names_are_shown(folder: Path) -> None:
    observed = Observed(folder)
    os.mkfifo(folder / "pipe")
    async with observed.observing():
        (folder / os.fsdecode(b"\xff.conf")).write_text("x")
        assert (await observed.next())["path"] == str(folder) + "/\\xff.conf"


async def test_a_directory_that_is_replaced_is_seen_as_its_files(folder: Path) -> None:
    observed = Observed(folder)
    async with observed.observing():
        replace(folder)
        assert (await observed.next())["kind"] in ("modified", "deleted")
        (folder / "a.conf").write_text("three")
        told = await observed.next()
        while told["sha256"] != sum_of("three"):
            told = await observed.next()


def test_copies_that_would_take_too_much_room_go_oldest_first_and_those_in_force_stay(tmp_path: Path) -> None:
    versions = Versions(tmp_path, Complaints(), most=250)
    for number in range(4):
        both = [Version(since=float(one), sha256=f"{one}{number}") for one in range(2)]
        for count in (1, 2):
            versions.store(f"/file{number}", both[count - 1], b"x" * 50)
            versions.keep(f"/file{number}", both[:count])
            versions.settle()
    copies = {path.name for path in (tmp_path / "copies").iterdir()}
    assert {"10", "11", "12", "13"} < copies
    assert len(copies) == 5


def test_uses_that_share_a_directory_count_and_spare_each_others_copies(tmp_path: Path) -> None:
    one, other = (Versions(tmp_path, Complaints(), most=250) for _ in range(2))
    for number in range(2):
        one.store(f"/one{number}", Version(since=1.0, sha256=f"one{number}"), b"x" * 100)
        one.keep(f"/one{number}", [Version(since=1.0, sha256=f"one{number}")])
    other.store("/other", Version(since=1.0, sha256="other"), b"x" * 100)  # there is no room any more
    one.forget("/one0")
    one.settle()
    one.tidy()
    other.settle()
    other.store("/other", Version(since=1.0, sha256="other"), b"x" * 100)
    one.tidy()  # while the other has not yet written down of what that is a version
    assert {path.name for path in (tmp_path / "copies").iterdir()} == {"one1", "other"}


def test_owners_are_called_as_the_files_of_this_host_have_it(tmp_path: Path) -> None:
    users, groups, file = tmp_path / "passwd", tmp_path / "group", tmp_path / "file"
    file.touch()
    users.write_text(f"shop:x:{os.getuid()}:1::/:/bin/sh\n")
    groups.write_text("")
    names = Names(users, groups)
    names.refresh()
    assert names.of(file.stat()) == ("shop", str(file.stat().st_gid))


def test_what_ends_here_and_begins_there_has_moved_only_if_it_is_the_same_file() -> None:
    old = Version(since=1.0, sha256="a", stamp=(1, 2, 3, 4, 5))
    gone = Version(since=2.0)
    ended, other = Change("/a", "deleted", old, gone), Version(since=2.0, sha256="a", stamp=(1, 3, 3, 4, 5))
    assert [one.kind for one in moved([ended, Change("/b", "created", gone, other)])] == ["deleted", "created"]
    same, path = moved([ended, Change("/b", "created", gone, old)])
    assert (same.kind, same.path, same.source) == ("moved", "/b", "/a")
    assert (path.kind, path.path) == ("", "/a")


@pytest.mark.parametrize(("written", "expected"), [(150, 150.0), (50, 200.0), (250, 200.0)])
def test_a_version_is_in_force_since_it_was_written_unless_that_cannot_be(written: int, expected: float) -> None:
    after = Version(since=200.0, sha256="b", stamp=(1, 1, 1, written * 10**9, 0))
    assert since(Change("/a", "modified", Version(since=100.0, sha256="a"), after), 200.0) == expected
