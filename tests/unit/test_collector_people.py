"""Whose token opens what: files that only their owner can read, and no other."""

import os
from pathlib import Path

import pytest

from collector.people import Caller, People, make_token
from exhaust.errors import ConfigurationError
from exhaust.people import Person
from tests.unit.collector_system import person


@pytest.fixture
def local(tmp_path: Path) -> Path:
    make_token(tmp_path / "token")
    return tmp_path / "token"


def header(path: Path | str) -> str:
    return f"Bearer {Path(path).read_text()}"


def test_local_may_do_everything_and_others_what_they_are_given_and_read(local: Path) -> None:
    ann, bob = person(local.parent, "ann", "trigger", "halt"), person(local.parent, "bob")
    people = People(local, (ann, bob))
    assert people.who(header(local)) == Caller("local", frozenset(("read", "trigger", "halt", "approve", "emit")))
    assert people.who(header(ann.token_file)) == Caller("ann", frozenset(("read", "trigger", "halt")))
    assert people.who(header(bob.token_file)) == Caller("bob", frozenset(("read",)))
    assert people.faults() == {}


@pytest.mark.parametrize(
    "told", ["", "Bearer", "Bearer ", "Bearer x", "Basic {token}", "Bearer {token}x", "Bearer \udce9"]
)
def test_anything_but_a_whole_token_is_nobody(local: Path, told: str) -> None:
    people = People(local, (Person(name="cy", token_file=str(local.parent / "none")),))
    assert people.who(told.format(token=local.read_text().strip())) is None


def test_a_token_counts_from_when_its_file_is_there_until_it_is_another(local: Path) -> None:
    path = local.parent / "ann.token"
    people = People(local, (Person(name="ann", token_file=str(path)),))
    assert "cannot be read: No such file" in people.faults()["ann"]
    ann = person(local.parent, "ann")
    old = header(path)
    assert people.who(old) is not None
    path.write_text("another-" + os.urandom(16).hex())
    assert people.who(old) is None
    assert people.who(header(ann.token_file)) is not None
    path.unlink()
    assert people.who(old) is None


@pytest.mark.parametrize(
    ("content", "mode", "fault"),
    [
        ("x" * 32, 0o640, "others may read this token: chmod 600 it"),
        ("x" * 31, 0o600, "at least 32 characters"),
        ("", 0o600, "holds no token"),
        ("x" * 5000, 0o600, "at most 4096 characters"),
        ("x" * 32 + " y", 0o600, "one word"),
        ("é" * 32, 0o600, "one word"),
    ],
)
def test_a_file_that_is_no_token_grants_nothing_and_says_why(local: Path, content: str, mode: int, fault: str) -> None:
    path = local.parent / "ann"
    path.write_text(content)
    path.chmod(mode)
    people = People(local, (Person(name="ann", token_file=str(path)),))
    assert people.who("Bearer " + content.strip()) is None
    assert fault in people.faults()["ann"]
    assert str(path) in people.faults()["ann"]


def test_what_is_no_file_holds_nobody_up(local: Path) -> None:
    os.mkfifo(local.parent / "pipe", 0o600)
    (local.parent / "folder").mkdir(mode=0o700)
    entries = [Person(name=name, token_file=str(local.parent / name)) for name in ("pipe", "folder")]
    faults = People(local, entries).faults()
    assert all("is no file" in faults[name] for name in ("pipe", "folder"))


def test_nobody_speaks_for_another_by_having_the_same_token(local: Path) -> None:
    ann, bob, cy = (person(local.parent, name, "halt") for name in ("ann", "bob", "cy"))
    Path(bob.token_file).write_text(Path(ann.token_file).read_text())
    Path(cy.token_file).write_text(local.read_text())
    people = People(local, (ann, bob, cy))
    assert people.who(header(ann.token_file)) is None
    assert set(people.faults()) == {"ann", "bob", "cy"}
    caller = people.who(header(local))
    assert caller is not None
    assert caller.name == "local"


def test_a_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    token = make_token(tmp_path / "token")
    assert len(token) == 43
    assert make_token(tmp_path / "token") == token
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_a_token_that_others_can_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    make_token(tmp_path / "token")
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        make_token(tmp_path / "token")
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ConfigurationError, match="holds no token"):
        make_token(tmp_path / "token")
