"""The ledger accounts for every sequence number."""

import random
from typing import Any

import msgspec
import pytest

from collector.ledger import Arrival, Ledger, read_arrival
from exhaust.broker.interface import Delivery
from exhaust.errors import MessageError
from exhaust.messages import Batch
from exhaust.wire import pack


def arrival(seq: int, epoch: int = 1, emitter: str = "service", **more: Any) -> Arrival:
    given = {"host": "web-01", "stream": "state", "count": 10, "dropped": 0, "time": 100.0 + seq, **more}
    return Arrival(emitter=emitter, epoch=epoch, seq=seq, **given)


def counts(ledger: Ledger) -> dict[str, Any]:
    (row,) = ledger.table()
    return {key: row[key] for key in ("received", "missing", "duplicates", "records", "dropped")}


def told(*arrivals: Arrival) -> Ledger:
    ledger = Ledger()
    for one in arrivals:
        list(ledger.add(one, one.time + 0.25))
    return ledger


def test_what_comes_in_order_is_complete() -> None:
    ledger = told(*(arrival(seq) for seq in range(5)))
    assert counts(ledger) == {"received": 5, "missing": 0, "duplicates": 0, "records": 50, "dropped": 0}
    assert ledger.table()[0]["last"] == 104.0
    assert ledger.lag == 0.25


def test_a_gap_is_missing_until_it_is_filled() -> None:
    ledger = told(arrival(0), arrival(4))
    assert counts(ledger)["missing"] == 3
    list(ledger.add(arrival(2), 200.0))
    assert counts(ledger) == {"received": 3, "missing": 2, "duplicates": 0, "records": 30, "dropped": 0}


def test_the_first_of_an_epoch_is_number_0() -> None:
    assert counts(told(arrival(3)))["missing"] == 3


def test_what_comes_twice_is_counted_but_not_its_records() -> None:
    assert counts(told(arrival(0), arrival(0))) == {
        "received": 1, "missing": 0, "duplicates": 1, "records": 10, "dropped": 0,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
def test_every_number_is_received_missing_or_a_duplicate_in_any_order(seed: int) -> None:
    chance = random.Random(seed)
    came = [chance.randrange(60) for _ in range(80)]
    found = counts(told(*(arrival(seq) for seq in came)))
    assert found["received"] == len(set(came))
    assert found["duplicates"] == len(came) - len(set(came))
    assert found["missing"] == max(came) + 1 - len(set(came))


def test_old_epochs_are_summed_up_and_nothing_is_lost() -> None:
    ledger = told(*(arrival(seq, epoch) for epoch in range(1, 11) for seq in (0, 2)))
    assert counts(ledger) == {"received": 20, "missing": 10, "duplicates": 0, "records": 200, "dropped": 0}
    assert [epoch.epoch for epoch in ledger.streams()[0].epochs] == [7, 8, 9, 10]


def test_more_gaps_than_are_kept_stay_counted() -> None:
    ledger = told(*(arrival(seq) for seq in range(0, 6000, 2)))
    assert counts(ledger)["missing"] == 2999
    assert len(ledger.streams()[0].epochs[0].gaps) == 1000


def test_a_ledger_recalls_what_it_asked_to_keep() -> None:
    ledger, kept = Ledger(), {}
    for seq in (0, 1, 5, 3):
        for keep in ledger.add(arrival(seq, dropped=2), 200.0):
            kept[keep.key] = msgspec.json.encode(keep.value)
    again = Ledger()
    again.recall(lambda prefix: iter(kept.items()))
    assert again.table() == ledger.table()
    list(again.add(arrival(2), 201.0))
    assert counts(again) == {"received": 5, "missing": 1, "duplicates": 0, "records": 50, "dropped": 8}


def test_the_stream_silent_longest_goes_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.ledger.MOST_STREAMS", 2)
    ledger = told(arrival(0, emitter="a"), arrival(0, emitter="b"), arrival(1, emitter="a"), arrival(0, emitter="c"))
    assert [row["emitter"] for row in ledger.table()] == ["a", "c"]


def _delivery(**headers: Any) -> Delivery:
    batch = Batch(
        id="b1", time=5.0, host="web.01", emitter="custom", stream="traffic", epoch=1, seq=4,
        dropped={"full": 3}, records=[{"time": 5.0, "x": 1}],
    )  # fmt: skip
    out = pack(batch)
    return Delivery(
        out.exchange, out.key, out.id, out.type, b"not looked at", out.time, {**out.headers, **headers}, "q", 1
    )


def test_a_batch_is_counted_by_its_headers_alone() -> None:
    assert read_arrival(_delivery()) == Arrival("web.01", "custom", "traffic", 1, 4, 1, 3, 5.0)


@pytest.mark.parametrize(
    "headers", [{"host": "other"}, {"seq": -1}, {"seq": "4"}, {"epoch": None}, {"count": 1.5}, {"emitter": ""}]
)
def test_headers_that_are_not_the_batchs_are_refused(headers: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        read_arrival(_delivery(**headers))
