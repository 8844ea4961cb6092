"""The store: all or nothing, on disk when it says so, one holder at a time, and plain words when the disk fails."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exhaust.broker.interface import Publication
from exhaust.errors import LockedError, StoreError
from exhaust.store import Store

FIRST = Publication("exhaust.x", "a.b", "id-1", "fact/1", b"body", 1.5, {"host": "h", "seq": 3}, 2.5)
SECOND = Publication("exhaust.x", "a.c", "id-2", "fact/1", b"", 2.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "component.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


def test_everything_of_a_commit_is_there_after_it(store: Store, path: Path) -> None:
    numbers = store.commit(seen={"m": 1.0}, keep={"k": b"v"}, send=[FIRST, SECOND])
    assert store.seen(["m", "n"]) == {"m"}
    assert store.get("k") == b"v"
    assert store.unsent(0, 10) == list(zip(numbers, [FIRST, SECOND], strict=True))
    assert store.backlog() == 2


@pytest.mark.parametrize(
    "wrong",
    [{"seen": {"m": object()}}, {"keep": {"k": object()}}, {"send": [object()]}, {"sent": ["no", object()]},
     {"keep": {"\ud800": b""}}, {"sent": [2**70]}],
)  # fmt: skip
def test_nothing_of_a_commit_is_there_if_any_of_it_fails(store: Store, wrong: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"seen": {"m": 1.0}, "keep": {"k": b"v"}, "send": [FIRST], "sent": [1]}
    (number,) = store.commit(send=[FIRST])
    with contextlib.suppress(Exception):
        store.commit(**{**whole, **wrong})
        pytest.fail("it went through")
    assert (store.seen(["m"]), store.get("k"), store.unsent(0, 9)) == (set(), None, [(number, FIRST)])
    store.commit(**{**whole, "sent": [number]})  # and the next one is not hindered
    assert store.get("k") == b"v"


def test_what_was_sent_is_gone_and_its_number_is_never_used_again(store: Store) -> None:
    (first,) = store.commit(send=[FIRST])
    store.commit(sent=[first])
    (second,) = store.commit(send=[SECOND])
    assert second > first
    assert store.unsent(first, 10) == [(second, SECOND)]
    assert store.unsent(second, 10) == []


def test_rows_come_in_the_order_of_their_keys(store: Store) -> None:
    store.commit(keep={"b/2": b"2", "b/10": b"10", "a/1": b"1", "b": b"0", "c/1": b"9"})
    assert list(store.rows("b/")) == [("b/10", b"10"), ("b/2", b"2")]
    assert [key for key, _ in store.rows(newest_first=True)] == ["c/1", "b/2", "b/10", "b", "a/1"]
    store.commit(keep={"b/2": None, "never": None})
    assert [key for key, _ in store.rows("b/")] == ["b/10"]


def test_rows_half_read_do_not_hinder_a_commit(store: Store) -> None:
    store.commit(keep={f"k/{n}": b"x" for n in range(100)})
    rows = store.rows("k/")
    next(rows)
    store.commit(keep={"k/0": None})
    del rows
    assert store.get("k/0") is None


def test_marks_are_forgotten_a_day_after_their_receipt(store: Store) -> None:
    store.commit(seen={"old": 1.0, "new": 2.0})
    store.commit(seen={"old": 9.0})  # what was seen first counts
    store.commit(seen={"later": 86_402.0})
    assert store.seen(["old", "new", "later"]) == {"new", "later"}


def test_of_too_many_marks_the_oldest_are_forgotten_also_after_a_restart(path: Path) -> None:
    for life in range(3):
        with Store(path, most_marks=100) as opened:
            for n in range(life * 200, life * 200 + 200, 4):
                opened.commit(seen={f"m{n + i}": float(n + i) for i in range(4)})
                known = opened.seen([f"m{m}" for m in range(n + 4)])
                assert len(known) <= 100
                assert {f"m{m}" for m in range(max(0, n - 80), n + 4)} <= known


def test_many_old_marks_go_little_by_little(store: Store) -> None:
    store.commit(seen={f"m{n}": 1.0 for n in range(1000)})
    for n in range(10):
        store.commit(seen={f"new{n}": 90_000.0 + n})
        assert len(store.seen([f"m{n}" for n in range(1000)])) == 1000 - 2 * (n + 1)


def test_what_is_said_of_a_subject_takes_the_place_of_what_was_to_be_said(store: Store) -> None:
    store.commit(send=[replace(FIRST, subject="s"), SECOND, replace(FIRST, id="other", subject="t")])
    store.commit(send=[replace(FIRST, id="id-3", subject="s")])
    assert [sent.id for _, sent in store.unsent(0, 9)] == ["id-2", "other", "id-3"]


def test_a_store_of_the_first_version_is_taken_on(path: Path) -> None:
    with Store(path) as opened:
        opened.commit(send=[FIRST])
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript("DROP INDEX outbox_subject; ALTER TABLE outbox DROP COLUMN subject; PRAGMA user_version = 1")
    with Store(path) as opened:
        opened.commit(send=[replace(SECOND, subject="s")])
        assert [sent.id for _, sent in opened.unsent(0, 9)] == ["id-1", "id-2"]


def test_a_store_has_one_holder(store: Store, path: Path) -> None:
    with pytest.raises(LockedError, match="in use by another process"), Store(path):
        pass
    assert store.epoch == 1


def test_the_epoch_rises_each_time_it_is_opened(path: Path) -> None:
    epochs = []
    for _ in range(3):
        with Store(path) as opened:
            epochs.append(opened.epoch)
    assert epochs == [1, 2, 3]


def test_a_store_of_another_version_is_refused_and_let_go(path: Path) -> None:
    with Store(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 3")
    for _ in range(2):
        with pytest.raises(StoreError, match="is of version 3, this program knows 2"), Store(path):
            pass
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")
    with Store(path) as opened:
        assert opened.epoch == 2


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_store_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreError, match="cannot be opened"), Store(path):
        pass


def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"), Store(tmp_path / "file" / "x.db"):
        pass


def test_a_store_that_breaks_while_open_says_so(store: Store) -> None:
    store._db.close()
    calls: list[Callable[[], object]] = [
        lambda: store.commit(keep={"k": b""}), lambda: store.get("k"), lambda: list(store.rows()),
             lambda: store.seen(["a"]), lambda: store.unsent(0, 1), store.backlog]  # fmt: skip
    for call in calls:
        with pytest.raises(StoreError, match="cannot be"):
            call()


WRITER = """
import sys
from pathlib import Path
from exhaust.broker.interface import Publication
from exhaust.store import Store

with Store(Path(sys.argv[1])) as store:
    first = len(list(store.rows("n/")))
    for n in range(first, first + 100_000):
        body = b"x" * (n % 7 * 300)
        store.commit(
            seen={f"m{n}": 1.0}, keep={f"n/{n}": body}, send=[Publication("e", "k", f"p{n}", "t", body, 1.0)]
        )
        print(n, flush=True)
"""


def test_a_kill_amid_commits_loses_nothing_that_was_committed(path: Path) -> None:
    told = -1
    for life in range(1, 6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(20 * life):
            told = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        told = max([told, *map(int, writer.stdout.read().splitlines(keepends=False))])
        writer.stdout.close()
        writer.wait()
        with Store(path) as opened:
            kept = len(list(opened.rows("n/")))
            assert told < kept <= told + 2  # one more may be on disk before it was told
            assert opened.seen([f"m{n}" for n in range(kept + 1)]) == {f"m{n}" for n in range(kept)}
            assert [sent.id for _, sent in opened.unsent(0, 9999)] == [f"p{n}" for n in range(kept)]
            assert opened.epoch == 2 * life


FILLER = """
import resource, signal, sys
from pathlib import Path
from exhaust.errors import StoreError
from exhaust.store import Store

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store(Path(sys.argv[1])) as store:
    store.commit(keep={"before": b"1"})
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    try:
        for n in range(1000):
            store.commit(keep={f"n/{n}": b"x" * 10_000})
    except StoreError as exc:
        assert "cannot be written" in str(exc), exc
    else:
        raise SystemExit("the disk was never full")
    kept = len(list(store.rows("n/")))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.commit(keep={"after": b"1"})
    print(kept)
"""


def test_a_full_disk_is_told_and_what_was_committed_stays(path: Path) -> None:
    said = subprocess.run([sys.executable, "-c", FILLER, str(path)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    with Store(path) as opened:
        assert len(list(opened.rows("n/"))) == int(said.stdout) > 0
        assert (opened.get("before"), opened.get("after")) == (b"1", b"1")
