"""The helper's journal: keys are forgotten when they are old, or too many, and never all at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.journal import AT_ONCE, KEEP_AT_LEAST, KEEP_FOR, MOST_KEYS, Answer, Journal, Started, age
from exhaust.store import Store

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "helper.db") as opened:
        yield opened


def done(journal: Journal, key: str, time: float) -> None:
    journal.start(Started(key, "service.restart", {}, time))
    journal.finish(Answer(key, "succeeded"))


def test_keys_are_forgotten_after_a_week(store: Store) -> None:
    journal = Journal(store)
    done(journal, "old", NOW)
    done(journal, "new", NOW + 1)
    assert not journal.prune(NOW + KEEP_FOR)
    assert journal.answer("old") is None
    assert journal.answer("new") == Answer("new", "succeeded")
    assert [row for row, _ in store.rows("age/")] == [age(NOW + 1, "new")]


def test_what_is_under_way_is_never_forgotten(store: Store) -> None:
    journal = Journal(store)
    journal.start(Started("key", "service.restart", {}, NOW))
    journal.prune(NOW + 2 * KEEP_FOR)
    assert [entry.key for entry in journal.open()] == ["key"]


def test_of_too_many_keys_only_those_of_the_last_day_are_known_a_thousand_at_a_time(store: Store) -> None:
    many = MOST_KEYS + 2 * AT_ONCE + 1
    store.commit(keep={age(NOW + n / 1000, f"k{n}"): b"x" for n in range(many)})
    store.commit(keep={f"done/k{n}": b"x" for n in range(many)})
    journal = Journal(store)
    assert not journal.prune(NOW + KEEP_AT_LEAST - 1)
    later, left = NOW + 2 * KEEP_AT_LEAST, []
    while journal.prune(later):
        left.append(sum(1 for _ in store.rows("done/")))
    assert left == [many - AT_ONCE, many - 2 * AT_ONCE, many - 3 * AT_ONCE]
