"""A first configuration: sound as it is written, and safe: it acts on nothing until somebody says so."""

import os
from pathlib import Path

import pytest

from exhaust.commands.beginning import running, values, write
from exhaust.configuration import load
from exhaust.errors import UsageError
from exhaust.main import CATALOGUE


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a /run with the pidfile of this very process, of one that is gone, and of names that need care."""
    folder = tmp_path / "run"
    (folder / "deep").mkdir(parents=True)
    for name, pid in {"tests": os.getpid(), "gone": 2**22, "a b": os.getpid(), "text": "none"}.items():
        (folder / f"{name}.pid").write_text(f"{pid}\n")
    (folder / "deep" / "below.pid").write_text(str(os.getpid()))
    return folder


@pytest.mark.parametrize("host", ["web-01", "1234", "on"])
def test_it_is_sound_and_acts_on_nothing(tmp_path: Path, run: Path, host: str) -> None:
    folder = tmp_path / "etc"
    write(folder, values(folder, host, run, uid=1000))
    made = load(folder, CATALOGUE)
    assert (made.host, made.state, made.embedded) == (host, folder / "state", True)
    assert {rule.value.mode for rule in made.rules} == {"observe"}
    assert made.host_policy is not None
    assert CATALOGUE.policy(made.host_policy) == []


def test_it_observes_what_runs_here_by_its_pidfile(run: Path) -> None:
    assert list(running(run)) == [("below", run / "deep" / "below.pid"), ("tests", run / "tests.pid")]


def test_without_any_service_it_is_sound_too(tmp_path: Path) -> None:
    write(tmp_path / "etc", values(tmp_path / "etc", "web-01", tmp_path / "nothing", uid=1000))
    load(tmp_path / "etc", CATALOGUE)


def test_the_system_wide_one_keeps_its_state_where_systems_do(tmp_path: Path) -> None:
    assert values(Path("/etc/exhaust"), "web-01", tmp_path, uid=0)["STATE"] == "/var/lib/exhaust"


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("host: mine\n")
    with pytest.raises(UsageError, match=r"holds 'mine.yaml' already"):
        write(tmp_path, {})
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        write(tmp_path / "file" / "etc", {})
