"""The collector over HTTP, as a service on the embedded broker: what it answers, and to whom."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from collector.access import make_token
from collector.service import Collector, loopback
from exhaust.broker.embedded import Embedded
from exhaust.clock import VirtualClock
from exhaust.errors import ConfigurationError
from exhaust.messages import Batch, Decision, ExecutionEvent, ExecutionState, Fact, Message, Reason
from exhaust.routing import EXCHANGES, QUEUES
from exhaust.service import Station
from exhaust.signing import Keys
from exhaust.wire import pack

BATCH = "0190163d-8694-739b-aea5-966c26f8ad91"  # of 1718360049.3
T = 1718360049.3


def _event(n: int, state: ExecutionState, **more: Any) -> ExecutionEvent:
    return ExecutionEvent(
        id=f"v{n}", time=T + 0.008 + n / 1000, execution="x1", workflow="restart-service", definition="abc",
        state=state, **more,
    )  # fmt: skip


CHAIN: list[Message] = [
    Fact(
        id="e1", time=T + 0.004, causes=(f"{BATCH}#0",), name="service.down", host="web-01", labels={"service": "shop"},
        episode="e1", state="open", reason="asserted", severity="critical", since=T, valid_until=T + 90,
        summary="shop is dead", evidence=[{"time": T, "service": "shop", "state": "dead"}],
    ),
    Decision(
        id="d1", time=T + 0.006, causes=("e1",), rule="restart", rung=0, cause="e1", outcome="fired", host="web-01",
        execution="x1", reasons=[Reason("mode", "auto", "auto")],
    ),
    _event(0, "pending", host="web-01", rule="restart", rung=0, mode="auto", cause="e1"),
    _event(1, "running", started=T + 0.009),
    _event(2, "running", task="restart"),
    _event(3, "succeeded", task="restart", output={"pid": 7}),
    _event(4, "succeeded"),
    _event(5, "succeeded", verdict="recovered"),
    Fact(
        id="c1", time=T + 0.0115, causes=(f"{BATCH}#1",), name="service.down", host="web-01",
        labels={"service": "shop"}, episode="e1", state="closed", reason="cleared", severity="critical", since=T, valid_until=T + 90,
    ),
]  # fmt: skip


class System:
    """A running collector and a client that knows its token."""

    def __init__(self, state: Path) -> None:
        self.broker = Embedded()
        self.state = state
        station = Station("here", state, VirtualClock(T + 1), self.broker, Keys(state / "keys"))
        self.collector = Collector(station, "127.0.0.1:0")
        self.until = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["System"]:
        async with self.broker, asyncio.TaskGroup() as tasks:
            await self.broker.declare(EXCHANGES, QUEUES["collector"])
            tasks.create_task(self.collector.run(self.until))
            await asyncio.wait_for(self.collector.answering.wait(), 5)
            token = (self.state / "token").read_text().strip()
            base = f"http://127.0.0.1:{self.collector.port}"
            async with aiohttp.ClientSession(base, headers={"Authorization": f"Bearer {token}"}) as self.http:
                yield self
            self.until.set()

    async def tell(self, *messages: Message) -> None:
        for message in messages:
            await asyncio.wait_for(self.broker.publish(pack(message)), 5)

    async def get(self, path: str, status: int = 200, **headers: str) -> Any:
        async with self.http.get(path, headers=headers) as answer:
            assert answer.status == status, await answer.text()
            return msgspec.json.decode(await answer.read())


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
    batch = Batch(id=BATCH, time=T, host="web-01", emitter="service", stream="state", epoch=1, seq=1, records=[{}])
    await system.tell(batch, CHAIN[0], CHAIN[2])
    (system.state / "HALT").touch()
    status = await system.get("/status")
    assert status["halt"] is True
    assert status["open_facts"] == 1
    assert [run["id"] for run in status["running_executions"]] == ["x1"]
    assert status["ledger"] == [
        {"host": "web-01", "emitter": "service", "received": 1, "duplicates": 0, "missing": 1, "records": 1,
         "dropped": 0, "last": T},
    ]  # fmt: skip
    assert status["components"]["collector"]["counts"]["handled"] == 3
    assert status["components"]["collector"]["lag"] == 1.0


async def test_every_route_but_two_refuses_who_has_no_token(system: System) -> None:
    app = system.collector.app
    assert app is not None
    paths = {route.resource.canonical for route in app.router.routes() if route.resource}
    assert len(paths) >= 11
    async with aiohttp.ClientSession(f"http://127.0.0.1:{system.collector.port}") as nobody:
        for path in {path.replace("{id}", "e1") for path in paths} | {"/", "/nothing", "/api/v1/../status"}:
            for method in ("GET", "POST", "DELETE"):
                async with nobody.request(method, path) as answer:
                    free = 200 if method == "GET" else 405
                    expected = free if path in ("/healthz", "/readyz") else 401
                    assert answer.status == expected, f"{method} {path}"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x", "Basic {token}", "{token}", "Bearer {token}x", "Bearer é"]
)
async def test_only_the_whole_token_opens(system: System, header: str) -> None:
    token = (system.state / "token").read_text().strip()
    answer = await system.get("/status", 401, Authorization=header.format(token=token))
    assert answer["title"] == "Unauthorized"


@pytest.mark.parametrize("host", ["evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}", "[::1]"])
async def test_the_name_of_another_host_is_refused(system: System, host: str) -> None:
    name = host.format(port=system.collector.port)
    await system.get("/status", 421, Host=name)
    await system.get("/healthz", 421, Host=name)


async def test_its_own_names_are_taken(system: System) -> None:
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        await system.get("/status", Host=f"{name}:{system.collector.port}")


async def test_other_origins_are_refused_and_no_header_lets_them_in(system: System) -> None:
    for origin in ("http://evil.example", "null", ""):
        await system.get("/status", 403, Origin=origin)
    async with system.http.get("/status", headers={"Origin": f"http://localhost:{system.collector.port}"}) as answer:
        assert answer.status == 200
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_every_answer_carries_the_guarding_headers(system: System) -> None:
    for path, given in (("/status", {}), ("/healthz", {}), ("/nothing", {}), ("/status", {"Host": "evil"})):
        async with system.http.get(path, headers=given) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Content-Security-Policy"] == "default-src 'none'"
            assert answer.headers["Server"] == "exhaust"
            if answer.status != 200:
                assert answer.content_type == "application/problem+json"


async def _raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(reader.read(65536), 5)
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_what_is_no_http_is_told_no_version(system: System) -> None:
    answer = await _raw(system.collector.port, b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
    assert answer.startswith(b"HTTP/1.")
    assert b" 400 " in answer.splitlines()[0]
    assert b"iohttp" not in answer
    assert b"Python" not in answer


async def test_bodies_that_are_too_large_or_packed_are_refused(system: System) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b"x" * 1024

    for data, extra, status in (
        (b"x" * 65537, {}, 413),
        (chunks(), {}, 413),
        (b"x", {"Content-Encoding": "gzip"}, 415),
    ):
        async with system.http.post("/api/v1/facts", data=data, headers=extra) as answer:
            assert answer.status == status


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


async def test_a_follower_that_does_not_read_is_cut_off_and_holds_up_nobody(system: System) -> None:
    async with system.http.get("/api/v1/stream") as answer:
        await answer.content.readline()
        large = msgspec.structs.replace(CHAIN[0], evidence=[{"text": "x" * 60_000}])
        for n in range(1200):
            await system.tell(msgspec.structs.replace(large, id=f"e{n}", episode=f"e{n}"))
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(answer.read(), 10)
    assert len(items(await system.get("/api/v1/facts?limit=5"))) == 5


async def test_the_service_ends_at_once_though_somebody_follows(system: System) -> None:
    async with system.http.get("/api/v1/stream") as answer:
        await answer.content.readline()
        system.until.set()
        await asyncio.wait_for(answer.read(), 2)


async def test_readiness_is_the_brokers_and_the_stores(system: System) -> None:
    assert await system.get("/readyz") == {"broker": True, "store": True}
    await system.broker.__aexit__(None, None, None)
    assert await system.get("/readyz", 503) == {"broker": False, "store": True}
    assert (await system.get("/status"))["open_facts"] == 0


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


def test_a_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    token = make_token(tmp_path / "token")
    assert len(token) == 43
    assert make_token(tmp_path / "token") == token
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_a_token_that_others_can_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    make_token(tmp_path / "token")
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        make_token(tmp_path / "token")
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ConfigurationError, match="holds no token"):
        make_token(tmp_path / "token")


@pytest.mark.parametrize("listen", ["0.0.0.0:8640", "10.0.0.1:80", "8640", "web:80", "127.0.0.1:x", "127.0.0.1:70000"])
def test_it_listens_on_this_hosts_own_addresses_only(listen: str) -> None:
    with pytest.raises(ConfigurationError, match=r"http\.listen"):
        loopback(listen)


def test_addresses_of_this_host() -> None:
    assert [loopback(text) for text in ("127.0.0.1:8640", "localhost:1", "[::1]:0")] == [
        ("127.0.0.1", 8640), ("127.0.0.1", 1), ("::1", 0),
    ]  # fmt: skip
