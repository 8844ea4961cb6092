"""The spool: sequence numbers, bounds, and what it says of what it drops."""

import asyncio
from collections.abc import Awaitable, Iterator
from pathlib import Path

import msgspec
import pytest

from emitters.spool import Spool
from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import Publication
from exhaust.errors import BrokerError, StoreError
from exhaust.messages import Batch, Codec
from exhaust.store import Store

A = ("e", "a")
RECORD = msgspec.Raw(b'{"time":1.0}')


class Gate(Embedded):
    """A broker that can be away; what it takes it confirms."""

    def __init__(self) -> None:
        super().__init__()
        self.away = True
        self.batches: list[Batch] = []

    def publish(self, publication: Publication) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.away:
            future.set_exception(BrokerError("away"))
        else:
            message = Codec.decode(publication.body)
            assert isinstance(message, Batch)
            self.batches.append(message)
            future.set_result(None)
        return future


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "spool.db") as opened:
        yield opened


def stored(store: Store) -> list[Batch]:
    found = [Codec.decode(publication.body) for _, publication in store.unsent(0, 1000)]
    return [batch for batch in found if isinstance(batch, Batch)]


async def test_a_batch_is_on_disk_when_put_returns_and_says_its_number_in_the_headers(store: Store) -> None:
    spool = Spool(store, Gate(), "h")
    spool.put([(A, [RECORD]), (("e", "b"), []), (A, [RECORD, RECORD])], 5.0)
    assert [(batch.stream, batch.seq, len(batch.records)) for batch in stored(store)] == [
        ("a", 0, 1), ("b", 0, 0), ("a", 1, 2),
    ]  # fmt: skip
    assert store.unsent(0, 3)[2][1].headers["count"] == 2
    assert store.unsent(0, 3)[2][1].headers["seq"] == 1


async def test_a_commit_that_fails_uses_up_no_number(store: Store, tmp_path: Path) -> None:
    spool = Spool(store, Gate(), "h")
    spool.drop(A, "unusable", 2)
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreError):
        spool.put([(A, [RECORD])], 5.0)
    store._db.execute("PRAGMA query_only = 0")
    spool.put([(A, [RECORD])], 6.0)
    assert [(batch.seq, batch.dropped) for batch in stored(store)] == [(0, {"unusable": 2})]


async def test_a_full_spool_drops_counts_and_says_so_once_there_is_room(store: Store) -> None:
    broker = Gate()
    spool = Spool(store, broker, "h", most=2000)
    sending = asyncio.create_task(spool.run())
    for _ in range(50):
        spool.put([(A, [RECORD] * 3)], 5.0)
    status = spool.status()
    assert 2000 <= status["bytes"] < 2500
    assert status["dropped"]["spool_full"] == (50 - status["unsent"]) * 3
    broker.away = False
    async with asyncio.timeout(5):
        while store.backlog():  # noqa: ASYNC110  the store has no event of its own
            await asyncio.sleep(0.01)
    spool.put([(A, [RECORD])], 6.0)
    await spool.drain(7.0)
    sending.cancel()
    assert [batch.seq for batch in broker.batches] == list(range(len(broker.batches)))
    assert broker.batches[-1].dropped == {"spool_full": status["dropped"]["spool_full"]}
    assert spool.status()["unsent"] == 0


async def test_what_an_earlier_run_left_counts_towards_the_bound(store: Store) -> None:
    Spool(store, Gate(), "h").put([(A, [RECORD] * 200)], 5.0)
    spool = Spool(store, Gate(), "h", most=2000)
    spool.recall()
    spool.put([(A, [RECORD])], 6.0)
    assert spool.status()["dropped"] == {"spool_full": 1}


async def test_a_stop_with_a_full_spool_still_says_what_was_dropped(store: Store) -> None:
    spool = Spool(store, Gate(), "h", most=1)
    sending = asyncio.create_task(spool.run())
    for _ in range(2):
        spool.put([(A, [RECORD])], 5.0)
    async with asyncio.timeout(1):
        await spool.drain(6.0)
    sending.cancel()
    assert [(batch.seq, batch.dropped) for batch in stored(store)] == [(0, {}), (1, {"spool_full": 1})]
