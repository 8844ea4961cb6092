"""The helper's journal: keys are forgotten when they are old, or too many, and never all at once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from agents.journal import AT_ONCE, KEEP_AT_LEAST, KEEP_FOR, MOST_KEYS, Answer, Journal, Started, age
from exhaust.errors import StoreError
from exhaust.store import Store

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "helper.db") as opened:
        yield opened


async def done(journal: Journal, key: str, time: float) -> None:
    await journal.start(Started(key, "service.restart", {}, time))
    await journal.finish(Answer(key, "succeeded"))


async def test_keys_are_forgotten_after_a_week(store: Store) -> None:
    journal = Journal(store)
    await done(journal, "old", NOW)
    await done(journal, "new", NOW + 1)
    assert not journal.prune(NOW + KEEP_FOR)
    assert journal.answer("old") is None
    assert journal.answer("new") == Answer("new", "succeeded")
    assert [row for row, _ in store.rows("age/")] == [age(NOW + 1, "new")]


async def test_what_is_under_way_is_never_forgotten(store: Store) -> None:
    journal = Journal(store)
    await journal.start(Started("key", "service.restart", {}, NOW))
    journal.prune(NOW + 2 * KEEP_FOR)
    assert [entry.key for entry in journal.open()] == ["key"]


async def test_what_begins_at_the_same_moment_is_on_disk_by_one_commit(store: Store) -> None:
    class Counting:
        commits = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def commit(self, **what: Any) -> None:
            self.commits += 1
            store.commit(**what)

    counting = Counting()
    journal = Journal(cast("Store", counting))
    async with asyncio.TaskGroup() as tasks:
        for number in range(100):
            tasks.create_task(journal.start(Started(f"k{number}", "service.restart", {}, NOW)))
    assert (len(list(store.rows("open/"))), counting.commits) == (100, 1)


async def test_a_limit_counts_what_is_begun_and_not_yet_on_disk(store: Store) -> None:
    journal = Journal(store)
    starting = asyncio.create_task(journal.start(Started("key", "service.restart", {}, NOW)))
    await asyncio.sleep(0)
    assert (starting.done(), journal.starts("service.restart", NOW - 1)) == (False, 1)
    await starting


class Full:
    """A store whose disk takes nothing."""

    def __init__(self, store: Store, fault: Exception) -> None:
        self._store = store
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, **_: Any) -> None:
        raise self._fault


@pytest.mark.parametrize("fault", [StoreError("no space left on device"), OSError("no space left on device")])
async def test_nobody_goes_on_whose_commit_failed(store: Store, fault: Exception) -> None:
    journal = Journal(cast("Store", Full(store, fault)))
    async with asyncio.timeout(10):
        found = await asyncio.gather(
            *(journal.start(Started(key, "service.restart", {}, NOW)) for key in "ab"), return_exceptions=True
        )
    assert [str(each) for each in found] == ["no space left on device"] * 2
    with pytest.raises(type(fault)):
        journal.finish_now(Answer("c", "succeeded"))


async def test_who_has_a_group_written_for_others_hears_that_it_failed(store: Store) -> None:
    journal = Journal(cast("Store", Full(store, StoreError("no space left on device"))))
    starting = asyncio.create_task(journal.start(Started("key", "service.restart", {}, NOW)))
    await asyncio.sleep(0)
    with pytest.raises(StoreError):
        journal.starts("service.restart", NOW - 1)
    with pytest.raises(StoreError):
        await starting


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
