"""Symbolic links that a log's writer could make lead nowhere; those of root, and to one's own, are followed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from emitters.following.links import opened
from emitters.following.version import Names, observe
from tests.following import Reader, write

THEIRS = Path("/etc/passwd")  # root's


def given_away(link: Path) -> Path:
    """Let a link belong to somebody who is not root."""
    if os.geteuid() == 0:
        os.lchown(link, 65534, 65534)
    return link


def read(path: Path) -> bytes:
    fd = opened(str(path))
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def direct(folder: Path) -> Path:
    (folder / "b.log").symlink_to(THEIRS)
    given_away(folder / "b.log")
    return folder / "b.log"


def by_a_directory(folder: Path) -> Path:
    (folder / "logs").symlink_to(THEIRS.parent)
    given_away(folder / "logs")
    return folder / "logs" / THEIRS.name


def by_another_link(folder: Path) -> Path:
    (folder / "b.log").symlink_to(direct(folder).rename(folder / "first"))
    return folder / "b.log"


def upwards(folder: Path) -> Path:
    (folder / "b.log").symlink_to("../" * 20 + str(THEIRS)[1:])
    given_away(folder / "b.log")
    return folder / "b.log"


@pytest.mark.parametrize("way", [direct, by_a_directory, by_another_link, upwards])
def test_a_link_of_somebody_else_does_not_lead_to_what_is_not_theirs(
    tmp_path: Path, way: Callable[[Path], Path]
) -> None:
    path = way(tmp_path)
    assert path.read_bytes()
    with pytest.raises(PermissionError, match="a link of uid"):
        read(path)
    with pytest.raises(PermissionError, match="a link of uid"):
        observe(str(path), 1.0, Names())


def test_links_to_ones_own_are_followed_also_relative_ones_and_of_directories(tmp_path: Path) -> None:
    (tmp_path / "releases" / "1").mkdir(parents=True)
    (tmp_path / "releases" / "1" / "a.log").write_text("one")
    (tmp_path / "current").symlink_to("./releases/../releases/1")
    (tmp_path / "link").symlink_to(tmp_path / "current" / "a.log")
    assert read(tmp_path / "link") == b"one"


def test_links_of_root_are_followed() -> None:
    path = Path("/proc/mounts")  # a link to self/mounts, and self is one, too
    assert path.is_symlink()
    assert read(path)


def test_links_that_lead_in_a_circle_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        read(tmp_path / "a")


def test_nothing_stays_open_behind_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none" / "a.log")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_log_that_is_a_link_of_its_writer_is_told_once_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.log", "one")
    direct(tmp_path)
    reader = Reader((f"{tmp_path}/*.log",)).start()
    reader.rounds().later()
    assert reader.lines == ["one"]
    (told,) = caplog.records
    assert (told.message, told.__dict__["path"]) == ("file cannot be followed", str(tmp_path / "b.log"))
    reader.kill()


def test_a_link_that_is_called_as_a_rotated_copy_is_not_read(tmp_path: Path) -> None:
    log, other = tmp_path / "a.log", tmp_path / "other"
    write(log, "one")
    reader = Reader((str(log),)).start().rounds().store()
    write(other, "of others")
    (tmp_path / "a.log.1").symlink_to(other)
    log.unlink()
    write(log, "two")
    assert reader.rounds().later().lines == ["one", "two"]
    reader.kill()
