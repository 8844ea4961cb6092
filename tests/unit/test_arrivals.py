"""Which batches have come: each has its effect once, however often and in whatever order they come."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from analyzers.arrivals import AWAITED, MOST_EPOCHS, MOST_STREAMS, Arrivals
from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import Delivery
from exhaust.clock import VirtualClock
from exhaust.configuration import load
from exhaust.main import CATALOGUE, deciders
from exhaust.messages import Batch, Fact
from exhaust.routing import QUEUES
from exhaust.store import Store
from exhaust.wire import pack
from exhaust.worker import Keep, Worker
from tests.harness import HOST, NOW, Harness

YAML = f"""
hosts: [{{name: {HOST}}}]
analyzers:
  - {{use: condition, fact: service.down, on: service.state, when: record.state != "running", by: [service]}}
"""


class Log:
    """Arrivals, and the rows that they ask to keep."""

    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        self.kept = {} if kept is None else kept
        self.arrivals = Arrivals()
        self.arrivals.recall(self._rows)

    def _rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter(sorted((key, body) for key, body in self.kept.items() if key.startswith(prefix)))

    def take(self, seq: int, *, host: str = HOST, epoch: int = 1, now: float = NOW) -> bool:
        batch = Batch(id="b", time=now, host=host, emitter="service", stream="state", epoch=epoch, seq=seq)
        return self._noted(self.arrivals.take(batch, now))

    def _noted(self, effects: Generator[Keep, None, bool]) -> bool:
        while True:
            try:
                row = next(effects)
            except StopIteration as end:
                return bool(end.value)
            assert row.wait
            if row.value is None:
                self.kept.pop(row.key, None)
            else:
                self.kept[row.key] = msgspec.json.encode(row.value)


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_batch_is_new_once_and_a_lower_number_that_never_came_is_new_too(log: Log) -> None:
    assert [log.take(seq) for seq in (0, 3, 3, 1, 1, 0)] == [True, True, False, True, False, False]


def test_numbers_are_apart_by_host_and_epoch(log: Log) -> None:
    assert all(log.take(0, host=host, epoch=epoch) for host in ("a", "b") for epoch in (1, 2))


def test_what_is_kept_tells_the_same_after_a_restart(log: Log) -> None:
    for seq in (0, 1, 4):
        log.take(seq, host="a/b%2F")
    again = Log(log.kept)
    assert [again.take(seq, host="a/b%2F") for seq in (0, 4, 2, 3, 3)] == [False, False, True, True, False]


def test_the_epoch_that_was_heard_of_longest_ago_is_forgotten_and_counts_as_new_once_more(log: Log) -> None:
    for epoch in range(10, 10 + MOST_EPOCHS):
        log.take(0, epoch=epoch, now=NOW + epoch)
    assert not log.take(0, epoch=10, now=NOW + 100)
    again = Log(log.kept)
    again.take(1, epoch=10, now=NOW + 101)
    again.take(0, epoch=99, now=NOW + 102)
    assert [again.take(0, epoch=10), again.take(0, epoch=11), again.take(0, epoch=11)] == [False, True, False]
    assert len(again.kept) == MOST_EPOCHS


def test_epochs_of_the_future_do_not_make_those_of_the_present_forgotten(log: Log) -> None:
    for number in range(MOST_EPOCHS + 1):
        log.take(0, epoch=2**53 - number)
    for epoch in (1, 2):
        assert [log.take(seq, epoch=epoch) for seq in (0, 0, 1, 1)] == [True, False, True, False]
    again = Log(log.kept)
    assert [again.take(seq, epoch=epoch) for epoch in (1, 2) for seq in (0, 1)] == [False] * 4


def test_of_too_many_streams_those_go_that_were_heard_of_longest_ago(log: Log) -> None:
    for number in range(MOST_STREAMS):
        log.take(0, host=f"web-{number}", now=NOW + number)
    log.take(1, host="web-0", now=NOW + MOST_STREAMS)
    again = Log(log.kept)
    again.take(0, host="one-more")
    assert (len(again.arrivals), len(again.kept)) == (MOST_STREAMS, MOST_STREAMS)
    assert not again.take(0, host="web-0")
    assert again.take(0, host="web-1")


@pytest.mark.parametrize("after", [AWAITED - 1, 1 - AWAITED])
def test_what_is_missing_is_awaited_for_ten_minutes_whatever_the_clock_does(log: Log, after: float) -> None:
    for seq in (0, 2):
        log.take(seq)
    assert log.arrivals.missing(HOST, "service.state", NOW + after)
    assert not log.arrivals.missing(HOST, "service.state", NOW + 2 * after)
    assert not log.arrivals.missing("web-2", "service.state", NOW)
    log.take(1)
    assert not log.arrivals.missing(HOST, "service.state", NOW)


def batch(seq: int, state: str, identity: str = "") -> Batch:
    own = identity or f"batch-{seq}"
    about: dict[str, Any] = {"emitter": "service", "stream": "state", "epoch": 1}
    return Batch(id=own, time=NOW, host=HOST, seq=seq, records=[{"service": "shop", "state": state}], **about)


def test_a_batch_that_came_before_has_no_effect_under_any_id_and_is_counted(tmp_path: Path) -> None:
    harness = Harness(tmp_path, YAML)
    harness.send(batch(0, "exited"), batch(1, "running"), batch(0, "exited", "again"))
    assert [fact.state for fact in harness.of(Fact)] == ["open", "closed"]
    counts = harness.desks["analyzers"].decider.counts  # type: ignore[attr-defined]
    assert (counts["duplicate"], counts["records"]) == (1, 2)


def test_a_batch_with_a_lower_number_that_comes_late_has_its_effect(tmp_path: Path) -> None:
    harness = Harness(tmp_path, YAML)
    harness.send(batch(1, "exited"), batch(0, "running"))
    assert [fact.state for fact in harness.of(Fact)] == ["open", "closed"]


def test_after_a_restart_what_came_before_is_known(tmp_path: Path) -> None:
    harness = Harness(tmp_path, YAML)
    harness.send(batch(0, "exited"))
    harness.restart("analyzers")
    harness.send(batch(0, "running", "again"))
    assert [fact.state for fact in harness.of(Fact)] == ["open"]


def live(harness: Harness, seq: int, seconds: float) -> None:
    """Let time pass with signs of life, of which the first has this number."""
    for number in range(seq, seq + int(seconds / 10)):
        harness.send(msgspec.structs.replace(batch(number, ""), records=[]))
        harness.advance(10)


def test_silence_says_nothing_while_a_batch_is_missing_that_may_end_it(tmp_path: Path) -> None:
    yaml = "analyzers: [{use: absence, fact: service.lost, on: service.state, for: 60s, by: [service], refresh: 1h}]"
    harness = Harness(tmp_path, f"hosts: [{{name: {HOST}}}]\n{yaml}")
    harness.send(batch(0, "running"))
    live(harness, 2, AWAITED - 10)
    assert harness.of(Fact) == []
    live(harness, 100, AWAITED)
    assert harness.of(Fact) == []
    harness.send(*(msgspec.structs.replace(batch(seq, ""), records=[]) for seq in range(61, 100)))
    live(harness, 160, 30)
    assert [fact.since for fact in harness.of(Fact)] == [NOW + 60]


def delivery(message: Batch) -> Delivery:
    sent = pack(message)
    return Delivery(sent.exchange, sent.key, sent.id, sent.type, sent.body, sent.time, sent.headers, "q", 1)


@pytest.mark.parametrize(("state", "marked"), [("exited", 1), ("running", 0)])
async def test_the_mark_is_in_the_transaction_of_what_follows_and_waits_where_nothing_does(
    tmp_path: Path, state: str, marked: int
) -> None:
    (tmp_path / "exhaust.yaml").write_text(YAML)
    decider = deciders(load(tmp_path / "exhaust.yaml", CATALOGUE))["analyzers"]()
    async with Embedded() as broker:
        with Store(tmp_path / "a.db") as store:
            worker = Worker("analyzers", decider, store, broker, VirtualClock(NOW), QUEUES["analyzers"])
            await worker.handle([delivery(batch(0, state))])
            assert [len(list(store.rows(prefix))) for prefix in ("arrived/", "series/")] == [marked, marked]
