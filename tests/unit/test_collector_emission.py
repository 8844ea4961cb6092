"""What people and programs emit: all of a request or nothing, on disk before it is answered, and accounted for."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector import emission
from exhaust.broker.interface import ACKNOWLEDGE, Binding, Delivery, Disposition, Queue
from exhaust.messages import Batch
from exhaust.routing import TELEMETRY
from exhaust.wire import unpack
from tests.unit.collector_system import System, T

EMIT = "/api/v1/emit/traffic"
HEARING = Queue("exhaust.analyzers.telemetry", (Binding(TELEMETRY, "*.custom.*"),))


class Listener:
    """Whoever reads what is emitted."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[Batch] = asyncio.Queue()

    async def hear(self, deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        for delivery in deliveries:
            batch = unpack(delivery)
            assert isinstance(batch, Batch)
            self.batches.put_nowait(batch)
        return [ACKNOWLEDGE] * len(deliveries)

    async def next(self) -> Batch:
        return await asyncio.wait_for(self.batches.get(), 5)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with System(tmp_path).running() as running:
        yield running


@pytest.fixture
async def listener(system: System) -> AsyncIterator[Listener]:
    listener = Listener()
    await system.broker.declare((), (HEARING,))
    async with system.broker.consume(HEARING, listener.hear):
        yield listener


def lines(*records: Any) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


async def ledger(system: System) -> list[Any]:
    rows: list[Any] = (await system.get("/status"))["ledger"]
    return [(row["emitter"], row["received"], row["records"], row["missing"], row["duplicates"]) for row in rows]


async def test_lines_become_records_of_this_host_with_their_own_time_or_now(system: System, listener: Listener) -> None:
    body = b'{"rps": 1}\n\r\n{"rps": 2, "time": 5}\r\n  \n{"rps": "\xc3\xa9", "time": null}'
    assert await system.post(EMIT, body) == {"records": 3}
    batch = await listener.next()
    assert (batch.host, batch.emitter, batch.stream, batch.seq) == ("here", "custom", "traffic", 0)
    assert batch.records == [{"rps": 1, "time": T + 1}, {"rps": 2, "time": 5}, {"rps": "é", "time": T + 1}]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"{", "is no JSON"),
        (b"[1]", "is no JSON object"),
        (b"1", "is no JSON object"),
        (b'{"time": "now"}', "'time' is seconds since the epoch, as a number"),
        (b'{"time": true}', "as a number"),
        (b'{"time": 1795332421780}', "not 1795332421780"),
        (b'{"time": -1}', "not -1"),
        (b'{"a": ' + b"[" * 21 + b"]" * 21 + b"}", "deeper than 20 levels"),
        (b'{"a": "' + b"x" * 65_536 + b'"}', "at most 65536 are taken"),
    ],
)
async def test_one_bad_line_and_nothing_is_taken(system: System, line: bytes, what: str) -> None:
    answer = await system.post(EMIT, lines({"rps": 1}, {"rps": 2}) + line + b"\n" + lines({"rps": 3}), 400)
    assert answer["line"] == 3
    assert answer["detail"].startswith("line 3: ")
    assert what in answer["detail"]
    assert await ledger(system) == []


@pytest.mark.parametrize("stream", ["Traffic", "a.b", "x" * 65, "a%20b", "%C3%A9", "a%2Fb"])
async def test_a_stream_is_one_plain_word(system: System, stream: str) -> None:
    answer = await system.post(f"/api/v1/emit/{stream}", lines({"a": 1}), 400)
    assert "is no stream" in answer["detail"]


async def test_many_records_are_several_batches_without_a_gap(system: System, listener: Listener) -> None:
    assert await system.post(EMIT, lines(*({"n": n} for n in range(1201)))) == {"records": 1201}
    batches = [await listener.next() for _ in range(3)]
    assert [(batch.seq, len(batch.records)) for batch in batches] == [(0, 500), (1, 500), (2, 201)]
    assert [record["n"] for batch in batches for record in batch.records] == list(range(1201))


async def test_large_records_are_batches_that_are_not_too_large(system: System, listener: Listener) -> None:
    await system.post(EMIT, lines(*({"x": "y" * 60_000} for _ in range(10))))
    assert [len((await listener.next()).records) for _ in range(3)] == [4, 4, 2]


async def test_numbers_go_on_within_an_epoch_begin_anew_in_the_next_and_all_is_accounted_for(tmp_path: Path) -> None:
    async with System(tmp_path).running() as first:
        for stream in ("traffic", "traffic", "orders"):
            await first.post(f"/api/v1/emit/{stream}", lines({"n": 1}, {"n": 2}))
    async with System(tmp_path).running() as second:
        await second.post(EMIT, lines({"n": 3}))
        assert {(one.stream, one.total().received, len(one.epochs)) for one in _streams(second)} == {
            ("traffic", 3, 2), ("orders", 1, 1),
        }  # fmt: skip
        assert await ledger(second) == [("custom", 4, 7, 0, 0)]


async def test_an_epoch_is_the_time_of_a_start_and_never_comes_again(tmp_path: Path) -> None:
    epochs: list[int] = []
    for state in ("lost", "lost", "made anew"):
        system = System(tmp_path / state)
        system.clock.advance(len(epochs) // 2)
        async with system.running():
            listener = Listener()
            await system.broker.declare((), (HEARING,))
            async with system.broker.consume(HEARING, listener.hear):
                await system.post(EMIT, lines({"n": 1}))
                epochs.append((await listener.next()).epoch)
    start = int((T + 1) * 1000)
    assert epochs == [start, start + 1, start + 1000]


def _streams(system: System) -> Any:
    return system.collector._model.telemetry.ledger.streams()


async def sent(system: System) -> None:
    """Wait until nothing waits for its confirm."""
    async with asyncio.timeout(5):
        while (await system.get("/status"))["components"]["collector"]["outbox"]:  # noqa: ASYNC110  it tells nobody
            await asyncio.sleep(0.01)


async def test_nothing_is_nothing(system: System) -> None:
    assert await system.post(EMIT, b"\n\n") == {"records": 0}
    assert await ledger(system) == []


async def test_streams_are_bounded(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emission, "MOST_STREAMS", 1)
    await system.post(EMIT, lines({"n": 1}))
    await system.post(EMIT, lines({"n": 1}))
    answer = await system.post("/api/v1/emit/another", lines({"n": 1}), 400)
    assert "there are 1 streams already" in answer["detail"]


async def test_while_the_broker_takes_nothing_for_long_it_pushes_back(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emission, "MOST_WAITING", 2)
    await sent(system)
    await system.broker.declare((), (HEARING,))  # nobody reads it, so that nothing is confirmed
    await system.post(EMIT, lines({"n": 1}))
    await system.post(EMIT, lines({"n": 2}))
    answer = await system.post(EMIT, lines({"n": 3}), 503)
    assert "try again" in answer["detail"]
    listener = Listener()
    async with system.broker.consume(HEARING, listener.hear):
        assert [(await listener.next()).seq for _ in range(2)] == [0, 1]
