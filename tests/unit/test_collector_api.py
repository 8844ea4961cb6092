"""What the collector answers over HTTP."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import Handler, Queue
from exhaust.messages import Batch, Codec, Message
from exhaust.routing import EXCHANGES, QUEUES
from exhaust.wire import pack
from tests.unit.collector_system import BATCH, CHAIN, System, T


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with System(tmp_path).running() as running:
        yield running


def items(answer: Any) -> list[str]:
    return [item["id"] for item in answer["items"]]


async def test_lists_hold_one_item_each_and_any_id_finds_it(system: System) -> None:
    await system.tell(*CHAIN)
    for kind, first, other in (("facts", "e1", "c1"), ("decisions", "d1", "d1"), ("executions", "x1", "v3")):
        listed = await system.get(f"/api/v1/{kind}")
        assert (items(listed), listed["next"]) == ([first], None)
        assert await system.get(f"/api/v1/{kind}/{other}") == listed["items"][0]
    await system.get("/api/v1/facts/x1", 404)


@pytest.mark.parametrize("name", ["e1", "c1", "d1", "x1", "v0", "v5", f"{BATCH}%230", f"{BATCH}%231", BATCH])
async def test_any_id_of_a_chain_explains_all_of_it(system: System, name: str) -> None:
    await system.tell(*CHAIN)
    chain = await system.get(f"/api/v1/explain/{name}")
    assert [record["id"] for record in chain["records"]] == [f"{BATCH}#0", f"{BATCH}#1"]
    assert [fact["id"] for fact in chain["facts"]] == ["e1"]
    assert [decision["id"] for decision in chain["decisions"]] == ["d1"]
    assert [(run["id"], run["verdict"], len(run["events"])) for run in chain["executions"]] == [("x1", "recovered", 6)]
    kinds = [step["kind"] for step in chain["steps"]]
    assert kinds == [
        "record", "record", "fact", "decision", "execution", "execution", "task", "task", "fact",
        "execution", "verdict",
    ]  # fmt: skip
    assert [chain["steps"][n]["ms"] for n in (0, 2, 3, -1)] == [0.0, 4.0, 6.0, 13.0]


LONG = "0190163d-0000-739b-aea5-966c26f8ad91"


@pytest.mark.parametrize("prefix", [LONG[:8], LONG[:20], LONG])
async def test_the_beginning_of_an_id_does_where_it_begins_no_other(system: System, prefix: str) -> None:
    episode = msgspec.structs.replace(CHAIN[0], id=LONG, episode=LONG, causes=(), evidence=[])
    again = msgspec.structs.replace(episode, id=f"{LONG[:-1]}2", time=T + 5)
    await system.tell(episode, again)
    assert [fact["id"] for fact in (await system.get(f"/api/v1/explain/{prefix}"))["facts"]] == [LONG]


async def test_the_beginning_of_a_batch_s_id_leads_to_all_that_rests_on_it(system: System) -> None:
    await system.tell(*CHAIN)
    chain = await system.get(f"/api/v1/explain/{BATCH[:13]}")
    assert [record["id"] for record in chain["records"]] == [f"{BATCH}#0", f"{BATCH}#1"]


async def test_the_beginning_of_several_ids_is_told_to_be_that(system: System) -> None:
    other = msgspec.structs.replace(CHAIN[0], id=LONG, episode=LONG, causes=(), evidence=[])
    await system.tell(*CHAIN, other)
    answer = await system.get("/api/v1/explain/0190163d", 409)
    assert answer["detail"] == f"'0190163d' begins more than one id, such as {LONG}, {BATCH}: give more of it"
    await system.get("/api/v1/explain/0190163", 404)


async def test_an_unknown_id_is_not_found(system: System) -> None:
    assert (await system.get("/api/v1/explain/nobody%2Fknows", 404))["title"] == "Not Found"


async def test_after_a_restart_the_answers_are_the_same(tmp_path: Path) -> None:
    paths = ["/api/v1/facts", "/api/v1/decisions", "/api/v1/executions", "/api/v1/explain/e1"]
    async with System(tmp_path).running() as first:
        await first.tell(*CHAIN)
        before = [await first.get(path) for path in paths]
    async with System(tmp_path).running() as second:
        assert [await second.get(path) for path in paths] == before


async def test_pages_lead_from_the_newest_to_the_oldest(system: System) -> None:
    await system.tell(*_facts(25))
    path, seen = "/api/v1/facts?limit=10", []
    while True:
        answer = await system.get(path)
        seen.append(items(answer))
        if answer["next"] is None:
            break
        path = f"/api/v1/facts?limit=10&after={answer['next']}"
    assert [len(page) for page in seen] == [10, 10, 5]
    assert list(itertools.chain(*seen)) == [f"e{n:02}" for n in reversed(range(25))]


def _facts(count: int) -> list[Message]:
    return [
        msgspec.structs.replace(
            CHAIN[0], id=f"e{n:02}", episode=f"e{n:02}", time=T + n, host="web-02" if n % 2 else None
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("host=web-02", 3), ("host=-", 4), ("state=closed", 0), ("state=open&host=web-02", 3),
        ("labels.service=shop", 7), ("labels.service=x", 0), ("host=web-02&limit=2", 2),
    ],
)  # fmt: skip
async def test_filters_go_by_any_field(system: System, query: str, count: int) -> None:
    await system.tell(*_facts(7))
    assert len(items(await system.get(f"/api/v1/facts?{query}"))) == count


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "hots=a", "after=x", "limit=²"])
async def test_questions_that_make_no_sense_are_refused(system: System, query: str) -> None:
    answer = await system.get(f"/api/v1/facts?{query}", 400)
    assert answer["detail"]


async def test_status_shows_the_whole_at_a_glance(system: System) -> None:
    batch = Batch(
        id=BATCH, time=T, host="web-01", emitter="service", stream="state", epoch=round(T * 1000) + 2000, seq=1,
        records=[{}], dropped={"too_big": 2, "spool_full": 1},
    )  # fmt: skip
    await system.tell(batch, batch, CHAIN[0], CHAIN[2])
    (system.state / "HALT").touch()
    status = await system.get("/status")
    assert status["halt"] is True
    assert status["open_facts"] == 1
    assert [run["id"] for run in status["running_executions"]] == ["x1"]
    assert status["ledger"] == [
        {"host": "web-01", "emitter": "service", "received": 1, "duplicates": 1, "dead": 0, "given_up": 0,
         "in_flight": 1, "missing": 0, "records": 1, "dropped": 3, "reasons": {"spool_full": 1, "too_big": 2},
         "last": T, "last_heard": T + 1, "open": []},
    ]  # fmt: skip
    assert status["dead_letters"] == 0
    collector = status["components"]["collector"]
    assert collector["ledger"] == {"delivered": 1, "duplicate": 1}
    assert collector["counts"]["handled"] >= 4
    assert collector["lag"] == 0.0


async def test_followers_get_each_message_as_it_arrives(system: System) -> None:
    async with system.http.get("/api/v1/stream?kind=decision&kind=execution") as answer:
        assert await answer.content.readline() == b": following\n"
        await system.tell(*CHAIN[:3])
        lines = [line async for line in _until(answer.content, 2)]
    assert [msgspec.json.decode(line[6:])["id"] for line in lines] == ["d1", "v0"]


async def _until(content: aiohttp.StreamReader, count: int) -> AsyncIterator[bytes]:
    while count:
        line = await asyncio.wait_for(content.readline(), 5)
        if line.startswith(b"data: "):
            count -= 1
            yield line


def batch(host: str, emitter: str, stream: str, *records: dict[str, Any], seq: int = 0) -> Batch:
    return Batch(
        id=f"{host}-{emitter}-{stream}-{seq}", time=T, host=host, emitter=emitter, stream=stream, epoch=1, seq=seq,
        records=list(records),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["a-load-system-0#0", "a-load-system-0#1", "b-load-system-0#0", "a-custom-x-0#0"]),
        ("&stream=load.system", ["a-load-system-0#0", "a-load-system-0#1", "b-load-system-0#0"]),
        ("&stream=load.system&host=b", ["b-load-system-0#0"]),
        ("&stream=custom.*", ["a-custom-x-0#0"]),
    ],
)
async def test_records_are_followed_by_stream_and_host(system: System, query: str, ids: list[str]) -> None:
    async with system.http.get(f"/api/v1/stream?kind=record{query}") as answer:
        await answer.content.readline()
        await system.tell(
            batch("a", "load", "system", {"time": T, "load1": 1}, {"time": T, "load1": 2}),
            batch("a", "load", "system", seq=1),
            batch("b", "load", "system", {"time": T, "load1": 3}),
            batch("a", "custom", "x", {"time": T, "host": "c", "stream": "d"}),
            CHAIN[0],
        )
        records = [msgspec.json.decode(line[6:]) async for line in _until(answer.content, len(ids))]
    assert [record["id"] for record in records] == ids
    if ids[-1].startswith("a-custom"):
        assert records[-1] == {
            "id": "a-custom-x-0#0", "host": "a", "stream": "custom.x", "time": T, "record.host": "c",
            "record.stream": "d",
        }  # fmt: skip


async def test_a_batch_whose_body_is_another_s_is_counted_and_shown_to_nobody(system: System) -> None:
    async with system.http.get("/api/v1/stream?kind=record&kind=fact") as answer:
        await answer.content.readline()
        forged = pack(batch("a", "load", "system", {"time": T}))
        body = Codec.encode(batch("b", "load", "system", {"time": T}))
        await system.broker.publish(replace(forged, body=body))
        await system.tell(CHAIN[0])
        lines = [line async for line in _until(answer.content, 1)]
    assert msgspec.json.decode(lines[0][6:])["id"] == "e1"
    assert (await system.get("/status"))["ledger"][0]["records"] == 1


@pytest.mark.parametrize("query", ["kind=nothing", "kind=fact&stream=x", "stream=load.system", "kind=record&hots=a"])
async def test_what_cannot_be_followed_is_refused(system: System, query: str) -> None:
    await system.get(f"/api/v1/stream?{query}", 400)


async def test_a_follower_that_does_not_read_is_cut_off_and_holds_up_nobody(system: System) -> None:
    async with system.http.get("/api/v1/stream") as answer:
        await answer.content.readline()
        large = msgspec.structs.replace(CHAIN[2], output="x" * 60_000)
        for n in range(500):
            await system.tell(msgspec.structs.replace(large, id=f"e{n}", execution=f"x{n}"))
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(answer.read(), 10)
    assert len(items(await system.get("/api/v1/executions?limit=5"))) == 5


async def test_the_service_ends_at_once_though_somebody_follows(system: System) -> None:
    async with system.http.get("/api/v1/stream") as answer:
        await answer.content.readline()
        system.until.set()
        await asyncio.wait_for(answer.read(), 2)


async def test_readiness_is_the_brokers_and_the_stores(system: System) -> None:
    assert await system.get("/readyz") == {"broker": True, "store": True, "http": True}
    await system.broker.__aexit__(None, None, None)
    assert await system.get("/readyz", 503) == {"broker": False, "store": True, "http": True}
    assert (await system.get("/status"))["open_facts"] == 0


class Away(Embedded):
    """A broker that has not answered yet."""

    @property
    def connected(self) -> bool:
        return False

    @contextlib.asynccontextmanager
    async def consume(self, queue: Queue, handler: Handler, *, prefetch: int = 256) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield


async def test_with_the_broker_away_from_the_start_it_answers_what_it_knows(tmp_path: Path) -> None:
    async with System(tmp_path).running() as first:
        await first.tell(*CHAIN)
    second = System(tmp_path, Away())
    task = asyncio.create_task(second.collector.run(second.until))
    async with second.asked():
        assert items(await second.get("/api/v1/facts")) == ["e1"]
        assert await second.get("/readyz", 503) == {"broker": False, "store": True, "http": True}
    task.cancel()
    await asyncio.wait((task,))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a store that is locked leaves its file
async def test_a_standby_waits_for_the_lock_and_then_answers(system: System) -> None:
    standby = System(system.state)
    async with standby.broker, asyncio.TaskGroup() as tasks:
        await standby.broker.declare(EXCHANGES, QUEUES["collector"])
        tasks.create_task(standby.collector.run(standby.until))
        await asyncio.sleep(0.05)
        assert standby.collector.status() == {"state": "standby"}
        assert not standby.collector.answering.is_set()
        system.until.set()
        await asyncio.wait_for(standby.collector.answering.wait(), 5)
        standby.until.set()
