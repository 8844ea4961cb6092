"""What could not be handled is kept, shown, and sent again to the queue that refused it, whatever it is."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.letters import Letters, read_letter
from collector.model import ReadModel
from exhaust.broker.handling import DEAD
from exhaust.broker.interface import ACKNOWLEDGE, Delivery, Disposition, Publication, Queue, Reject
from exhaust.commands.letters import KIND, run_letter, run_resend
from exhaust.commands.reading import run_items
from exhaust.errors import MessageError, UsageError
from exhaust.messages import Batch, Message
from exhaust.resending import RESENT
from exhaust.routing import BACKLOG, QUEUES, TELEMETRY
from exhaust.signing import Verifier
from exhaust.wire import pack, unpack
from exhaust.worker import Keep
from tests.unit.collector_system import CHAIN, System, T

ANALYZERS = QUEUES["analyzers"][0]
LETTERS = "/api/v1/dead-letters"


class Reader:
    """A component that takes what it can read, unless it is told to refuse everything."""

    def __init__(self, system: System) -> None:
        self.refuses = ""
        self.read: list[Message] = []
        self.came: asyncio.Queue[Delivery] = asyncio.Queue()
        self._verifier = Verifier({RESENT: system.collector._station.keys.public("collector")})

    async def __call__(self, deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        return [self._take(delivery) for delivery in deliveries]

    def _take(self, delivery: Delivery) -> Disposition:
        self.came.put_nowait(delivery)
        try:
            message = unpack(delivery, self._verifier)
        except MessageError as exc:
            return Reject(f"unusable: {exc}")
        if self.refuses:
            return Reject(self.refuses)
        self.read.append(message)
        return ACKNOWLEDGE


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with System(tmp_path).running() as running:
        yield running


@pytest.fixture
async def reader(system: System) -> AsyncIterator[Reader]:
    reader = Reader(system)
    async with reading(system, ANALYZERS, reader):
        yield reader


@contextlib.asynccontextmanager
async def reading(system: System, queue: Queue, reader: Reader) -> AsyncIterator[None]:
    await system.broker.declare((), (queue,))
    async with system.broker.consume(queue, reader):
        yield


def batch(seq: int = 0, **more: Any) -> Batch:
    about = {"host": "web.01", "emitter": "service", "stream": "state", "epoch": 5, "records": [{"time": T}], **more}
    return Batch(id=f"b{seq}", time=T, seq=seq, **about)


async def letters(system: System, query: str = "") -> list[Any]:
    found: list[Any] = (await system.get(f"{LETTERS}{query}"))["items"]
    return found


async def ledger(system: System) -> tuple[int, int]:
    (row,) = (await system.get("/status"))["ledger"]
    return row["received"], row["dead"]


async def test_what_was_refused_is_listed_and_shown_whole(system: System, reader: Reader) -> None:
    reader.refuses = "failed: a bug"
    await system.tell(batch())
    (letter,) = await letters(system)
    shown = {name: letter[name] for name in ("message", "type", "host", "stream", "queue", "reason", "attempts")}
    assert shown == {
        "message": "b0", "type": "batch/1", "host": "web.01", "stream": "service.state", "queue": ANALYZERS.name,
        "reason": "failed: a bug", "attempts": 0,
    }  # fmt: skip
    whole = await system.get(f"{LETTERS}/{letter['id']}")
    assert whole["body"]["records"] == [{"time": T}]
    assert (whole["exchange"], whole["key"]) == (TELEMETRY, "web%2E01.service.state")
    assert whole["headers"] == pack(batch()).headers
    assert (await system.get("/status"))["dead_letters"] == 1


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"not JSON", {"text": "not JSON"}), (b"\xff\x00", {"base64": "/wA="}), (b"", {"text": ""}),
        (b"[" * 5000, {"text": "[" * 5000}), (b"[1]", {"body": [1]}),
    ],
)  # fmt: skip
async def test_whatever_the_body_is_it_is_shown(system: System, reader: Reader, body: bytes, shown: Any) -> None:
    await system.broker.publish(Publication(TELEMETRY, "a.b.c", "", "", body, 0.0))
    (letter,) = [one for one in await letters(system) if one["queue"] == ANALYZERS.name]
    whole = await system.get(f"{LETTERS}/{letter['id']}")
    assert {name: whole.get(name) for name in shown} == shown


async def test_sent_again_and_taken_it_leaves_the_list(system: System, reader: Reader) -> None:
    reader.refuses = "failed: a bug"
    await system.tell(batch(), batch(1))
    assert await ledger(system) == (0, 2)
    reader.refuses = ""
    (letter,) = await letters(system, "?message=b1")
    assert await system.post(f"{LETTERS}/{letter['id']}/resend", status=200) == {
        "id": letter["id"], "queue": ANALYZERS.name, "attempts": 1,
    }  # fmt: skip
    assert reader.read == [batch(1)]
    assert [one["message"] for one in await letters(system)] == ["b0"]
    assert await ledger(system) == (1, 1)
    assert (await system.get(f"{LETTERS}/{letter['id']}", 404))["detail"].startswith("no dead letter is called")


async def test_refused_again_it_comes_back_and_its_attempts_are_counted(system: System, reader: Reader) -> None:
    reader.refuses = "failed: a bug"
    await system.tell(batch())
    for attempts in (1, 2, 3):
        (letter,) = await letters(system)
        reader.refuses = f"failed: bug {attempts}"
        await system.post(f"{LETTERS}/{letter['id']}/resend", status=200)
        (again,) = await letters(system)
        assert (again["id"], again["attempts"], again["reason"]) == (letter["id"], attempts, f"failed: bug {attempts}")
        assert {**again, "attempts": 0, "reason": ""} == {**letter, "attempts": 0, "reason": ""}
    assert await ledger(system) == (0, 1)
    reader.refuses = ""
    await system.post(f"{LETTERS}/{letter['id']}/resend", status=200)
    assert reader.read == [batch()]
    assert await letters(system) == []


async def test_what_the_collector_itself_refused_is_counted_once_it_takes_it(system: System) -> None:
    odd = pack(batch())
    await system.broker.publish(Publication(odd.exchange, odd.key, "odd", odd.type, odd.body, odd.time, {}))
    (letter,) = await letters(system)
    assert letter["reason"].startswith("unusable: the headers are not a batch's")
    await system.post(f"{LETTERS}/{letter['id']}/resend", status=200)
    assert [one["attempts"] for one in await letters(system)] == [1]


async def test_two_readers_that_refuse_one_message_leave_two_letters(system: System, reader: Reader) -> None:
    reader.refuses = "failed: a bug"
    async with reading(system, QUEUES["analyzers"][2], reader), reading(system, QUEUES["activator"][0], reader):
        await system.tell(CHAIN[0], batch())
        assert [one["queue"] for one in await letters(system, "?type=fact/1")] == [QUEUES["activator"][0].name]
        assert (await system.get("/api/v1/facts"))["items"], "the collector has taken it itself"


async def test_a_batch_is_dead_until_nobody_has_it_among_the_refused(system: System, reader: Reader) -> None:
    reader.refuses = "failed: a bug"
    async with reading(system, QUEUES["analyzers"][1], reader):
        await system.tell(batch())
        await system.broker.publish(replace(pack(batch()), exchange=BACKLOG))
        reader.refuses = ""
        counted = []
        for letter in await letters(system):
            counted.append(await ledger(system))
            await system.post(f"{LETTERS}/{letter['id']}/resend", status=200)
    assert [*counted, await ledger(system)] == [(0, 1), (0, 1), (1, 0)]


async def test_they_outlive_a_restart(tmp_path: Path) -> None:
    async with System(tmp_path).running() as first:
        reader = Reader(first)
        reader.refuses = "failed: a bug"
        async with reading(first, ANALYZERS, reader):
            await first.tell(batch())
            before = await letters(first)
    async with System(tmp_path).running() as second:
        assert await letters(second) == before
        reader = Reader(second)
        async with reading(second, ANALYZERS, reader):
            await second.post(f"{LETTERS}/{before[0]['id']}/resend", status=200)
        assert reader.read == [batch()]
        assert await ledger(second) == (1, 0)


async def test_a_letter_that_was_bound_elsewhere_is_not_sent_there(system: System) -> None:
    victim = Queue("billing", (), leader=False)
    await system.broker.declare((), (victim,))
    for queue in ("billing", DEAD, ""):
        forged = {"x-queue": queue, "x-exchange": TELEMETRY, "x-key": "a.b.c", "x-reason": "forged"}
        await system.broker.publish(Publication(DEAD, "x", f"to {queue}", "t", b"{}", T, forged))
    for letter in await letters(system):
        answer = await system.post(f"{LETTERS}/{letter['id']}/resend", status=409)
        assert "no queue of ours" in answer["detail"]
    assert len(await letters(system)) == 3


async def test_a_queue_that_is_gone_leaves_it_where_it_is(system: System) -> None:
    forged = {"x-queue": "exhaust.agent.gone", "x-exchange": "exhaust.commands", "x-key": "gone", "x-reason": ""}
    await system.broker.publish(Publication(DEAD, "x", "c1", "command/1", b"{}", T, forged))
    (letter,) = await letters(system)
    assert letter["host"] == "gone"
    answer = await system.post(f"{LETTERS}/{letter['id']}/resend", status=409)
    assert answer["detail"].startswith("it stays here: no queue")
    assert len(await letters(system)) == 1


async def test_the_command_lists_shows_and_sends_all_that_match(system: System, reader: Reader) -> None:
    reader.refuses = "failed: a bug"
    await system.tell(batch(), batch(1, host="web-02"), batch(2, host="web-02"))
    reader.refuses = ""
    out, err = io.StringIO(), io.StringIO()
    async with system.commands() as client:
        assert await run_items(client, KIND, {"host": "web-02"}, as_json=True, out=out) == 0
        names = [json.loads(line)["id"] for line in out.getvalue().splitlines()]
        assert len(names) == 2
        assert await run_letter(client, names[0], out=out) == 0
        assert await run_resend(client, [*names, "nosuch"], out=out, err=err) == 1
        assert await run_letter(client, names[0], out=out, err=err) == 1
    assert len(reader.read) == 2
    assert [one["message"] for one in await letters(system)] == ["b0"]
    assert err.getvalue().count("no dead letter is called") == 2


@pytest.mark.parametrize("query", ["?hots=a", "?limit=0", "?after=x"])
async def test_questions_that_make_no_sense_are_refused(system: System, query: str) -> None:
    assert (await system.get(f"{LETTERS}{query}", 400))["detail"]


async def test_a_filter_that_nobody_knows_is_told(system: System) -> None:
    async with system.commands() as client:
        with pytest.raises(UsageError, match="no dead letter has a field 'hots'"):
            await run_items(client, KIND, {"hots": "a"})


# The store of them


def dead(name: str, body: bytes = b"{}", **headers: Any) -> Delivery:
    told = {"x-reason": "bad", "x-exchange": TELEMETRY, "x-key": "a.b.c", "x-queue": ANALYZERS.name, **headers}
    return Delivery(DEAD, ANALYZERS.name, name, "batch/1", body, 1.0, told, DEAD, 1)


class Shelves:
    """The rows that letters asked to keep."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most = (most, most_bytes)
        self.kept: dict[str, Any] = {}
        self.letters = Letters(*self.most)

    def add(self, *deliveries: Delivery) -> None:
        for number, one in enumerate(deliveries):
            for keep in self.letters.add(read_letter(one, float(number)), one.body):
                self.kept = {key: value for key, value in self.kept.items() if key != keep.key}
                if keep.value is not None:
                    self.kept[keep.key] = keep.value

    def names(self) -> Iterator[str]:
        return (letter.message for key, letter in self.kept.items() if key.startswith("letter/"))


def test_the_newest_are_kept_by_number_and_by_bytes() -> None:
    by_number = Shelves(3, 1 << 20)
    by_number.add(*(dead(str(n)) for n in range(10)))
    assert list(by_number.names()) == ["7", "8", "9"]
    by_bytes = Shelves(100, 350)
    by_bytes.add(*(dead(str(n), b"x" * 100) for n in range(10)))
    assert list(by_bytes.names()) == ["7", "8", "9"]
    by_bytes.add(dead("too much", b"x" * 400))
    assert list(by_bytes.names()) == ["7", "8", "9"]
    assert by_bytes.letters.forgotten == 8
    assert len(by_bytes.kept) == 6, "each with its body"


def test_headers_count_as_bytes() -> None:
    shelves = Shelves(100, 1000)
    shelves.add(*(dead(str(n), b"", more="x" * 400) for n in range(4)))
    assert list(shelves.names()) == ["2", "3"]


VALUES = st.one_of(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.booleans())
NAMES = st.sampled_from(
    ("x-reason", "x-exchange", "x-key", "x-queue", "x-resent-exchange", "x-resent-key", "x-resent-count", "host", "seq")
)


@settings(deadline=None)
@given(
    st.dictionaries(NAMES | st.text(max_size=3), VALUES),
    st.binary(max_size=9),
    st.text(max_size=4),
    st.sampled_from((TELEMETRY, "exhaust.knowledge", "exhaust.results", "", "x")),
)
def test_whatever_a_dead_letter_says_it_is_taken(
    headers: dict[str, Any], body: bytes, text: str, exchange: str
) -> None:
    model = ReadModel()
    told = {**headers, **({"x-exchange": exchange} if "x-exchange" not in headers else {})}
    effects = list(model.handle(Delivery(DEAD, text, text, text, body, 1.0, told, DEAD, 1), 2.0))
    for effect in effects:
        assert isinstance(effect, Keep)
        msgspec.json.encode(effect.value)
    assert len(model.letters) == 1
