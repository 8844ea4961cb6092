"""What any Broker must do, shown on both: each test runs on the embedded one and on a real RabbitMQ."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import pytest

from benchmarks.node import Node
from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import (
    ACKNOWLEDGE,
    REDELIVER,
    Binding,
    Broker,
    Delivery,
    Disposition,
    Publication,
    Queue,
    Reject,
)
from exhaust.broker.rabbitmq import RabbitMQ
from exhaust.errors import BrokerError, UncertainError, UnroutableError

WITHIN = 10.0


@dataclass
class Place:
    """A broker, and names that no other test uses."""

    broker: Broker
    exchange: str
    prefix: str

    def queue(self, *patterns: str, name: str = "q", leader: bool = True, **options: object) -> Queue:
        bindings = tuple(Binding(self.exchange, pattern) for pattern in patterns)
        return replace(Queue(f"{self.prefix}.{name}", bindings, leader=leader), **options)  # type: ignore[arg-type]

    async def declare(self, *queues: Queue) -> None:
        await self.broker.declare([self.exchange], queues)

    def publication(self, key: str, identity: str = "", **options: object) -> Publication:
        made = Publication(self.exchange, key, identity or f"{key}-{secrets.token_hex(3)}", "t/1", b"body", 1.5)
        return replace(made, **options)  # type: ignore[arg-type]


@dataclass
class Reader:
    """A handler that keeps what it got, and answers by a rule."""

    rule: Callable[[Delivery], Disposition] = lambda _: ACKNOWLEDGE
    calls: list[list[Delivery]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        self.calls.append(list(deliveries))
        self.news.set()
        return [self.rule(delivery) for delivery in deliveries]

    @property
    def ids(self) -> list[str]:
        return [delivery.id for call in self.calls for delivery in call]

    @property
    def deliveries(self) -> list[Delivery]:
        return [delivery for call in self.calls for delivery in call]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(WITHIN):
            while len(self.ids) < count:
                self.news.clear()
                await self.news.wait()


@pytest.fixture(params=["embedded", "rabbitmq"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        prefix = secrets.token_hex(4)
        broker: Broker
        if request.param == "embedded":
            broker = await stack.enter_async_context(Embedded())
        else:
            node: Node = request.getfixturevalue("node")
            rabbitmq = await stack.enter_async_context(RabbitMQ(node.url, name=f"test-{prefix}"))
            await rabbitmq.wait_connected(WITHIN)
            broker = rabbitmq
        yield Place(broker, f"{prefix}.exchange", prefix)


@pytest.mark.parametrize(
    ("pattern", "key", "wanted"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("a.#", "b.a", False),
        ("#.c", "c", True),
        ("#.c", "a.b.c", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#.c", "a.b", False),
        ("*.#", "a", True),
        ("fact.%2E.#", "fact.%2E.disk.full", True),
    ],
)
async def test_pattern_covers_key(place: Place, pattern: str, key: str, *, wanted: bool) -> None:
    queue = place.queue(pattern, leader=False)
    await place.declare(queue)
    reader = Reader()
    async with place.broker.consume(queue, reader):
        if wanted:
            await asyncio.wait_for(place.broker.publish(place.publication(key, "x")), WITHIN)
            await reader.until(1)
        else:
            with pytest.raises(UnroutableError):
                await asyncio.wait_for(place.broker.publish(place.publication(key)), WITHIN)


async def test_message_arrives_as_it_was_sent(place: Place) -> None:
    queue = place.queue("a.b")
    await place.declare(queue)
    reader = Reader()
    sent = place.publication("a.b", "id-1", headers={"host": "web-1", "seq": 7, "ü": "ß"}, time=1234567890.123456)
    async with place.broker.consume(queue, reader):
        await asyncio.wait_for(place.broker.publish(sent), WITHIN)
        await reader.until(1)
    assert reader.deliveries == [
        Delivery(place.exchange, "a.b", "id-1", "t/1", b"body", 1234567890.123456, sent.headers, queue.name, 1)
    ]


@pytest.mark.parametrize("size", [0, 1, 131_063, 131_064, 131_065, 262_144, 1_000_000])
async def test_body_of_any_size_arrives_whole(place: Place, size: int) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    reader = Reader()
    body = secrets.token_bytes(size)
    async with place.broker.consume(queue, reader):
        await asyncio.wait_for(place.broker.publish(place.publication("a", body=body)), WITHIN)
        await reader.until(1)
    assert reader.deliveries[0].body == body


async def test_each_bound_queue_gets_its_copy(place: Place) -> None:
    queues = [place.queue("a.*", name="one"), place.queue("#", name="two")]
    await place.declare(*queues)
    readers = [Reader(), Reader()]
    async with AsyncExitStack() as stack:
        for queue, reader in zip(queues, readers, strict=True):
            await stack.enter_async_context(place.broker.consume(queue, reader))
        await asyncio.wait_for(place.broker.publish(place.publication("a.b", "x")), WITHIN)
        for reader in readers:
            await reader.until(1)
    assert [reader.ids for reader in readers] == [["x"], ["x"]]


async def test_order_of_publication_is_kept(place: Place) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    reader = Reader()
    ids = [f"m{n}" for n in range(500)]
    async with place.broker.consume(queue, reader, prefetch=64):
        await asyncio.wait_for(asyncio.gather(*(place.broker.publish(place.publication("a", i)) for i in ids)), WITHIN)
        await reader.until(len(ids))
    assert reader.ids == ids


async def test_all_that_has_arrived_is_handed_over_at_once(place: Place) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    sent = [place.broker.publish(place.publication("a", f"m{n}")) for n in range(20)]
    reader = Reader()
    async with place.broker.consume(queue, reader):
        await asyncio.wait_for(asyncio.gather(*sent), WITHIN)
        await reader.until(20)
    assert len(reader.calls) < 20
    assert reader.ids == [f"m{n}" for n in range(20)]


async def test_prefetch_bounds_what_a_handler_is_given(place: Place) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    for n in range(10):
        place.broker.publish(place.publication("a", f"m{n}"))
    reader = Reader()
    async with place.broker.consume(queue, reader, prefetch=3):
        await reader.until(10)
    assert max(len(call) for call in reader.calls) <= 3


async def test_handler_is_never_called_twice_at_once(place: Place) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    running, most, seen = 0, 0, 0
    done = asyncio.Event()

    async def handler(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        nonlocal running, most, seen
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        seen += len(deliveries)
        if seen == 30:
            done.set()
        return [ACKNOWLEDGE] * len(deliveries)

    async with place.broker.consume(queue, handler, prefetch=2):
        for n in range(30):
            place.broker.publish(place.publication("a", f"m{n}"))
        await asyncio.wait_for(done.wait(), WITHIN)
    assert most == 1


async def test_acknowledged_message_does_not_come_back(place: Place) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    first, second = Reader(), Reader()
    async with place.broker.consume(queue, first):
        place.broker.publish(place.publication("a", "x"))
        await first.until(1)
    async with place.broker.consume(queue, second):
        place.broker.publish(place.publication("a", "y"))
        await second.until(1)
    assert second.ids == ["y"]


async def test_redelivered_message_counts_its_attempts(place: Place) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    reader = Reader(lambda delivery: ACKNOWLEDGE if delivery.attempt == 3 else REDELIVER)
    async with place.broker.consume(queue, reader):
        place.broker.publish(place.publication("a", "x"))
        await reader.until(3)
    assert [delivery.attempt for delivery in reader.deliveries] == [1, 2, 3]


async def test_only_the_one_to_redeliver_comes_back(place: Place) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    reader = Reader(lambda that: REDELIVER if that.id == "m2" and that.attempt == 1 else ACKNOWLEDGE)
    async with place.broker.consume(queue, reader):
        for n in range(5):
            place.broker.publish(place.publication("a", f"m{n}"))
        await reader.until(6)
    assert sorted(reader.ids) == ["m0", "m1", "m2", "m2", "m3", "m4"]


async def _dead_letter(place: Place, identity: str) -> Delivery:
    found: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()

    async def handler(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        for delivery in deliveries:
            if delivery.id == identity and not found.done():
                found.set_result(delivery)
        return [ACKNOWLEDGE] * len(deliveries)

    dead = Queue("exhaust.dead", (), leader=False)
    async with place.broker.consume(dead, handler):
        return await asyncio.wait_for(found, WITHIN)


async def test_rejected_message_is_dead_with_its_reason_and_origin(place: Place) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    async with place.broker.consume(queue, Reader(lambda _: Reject("not JSON"))):
        place.broker.publish(place.publication("a.b", place.prefix, headers={"host": "h"}))
        dead = await _dead_letter(place, place.prefix)
    assert (dead.key, dead.body, dead.type, dead.time) == (queue.name, b"body", "t/1", 1.5)
    assert dead.headers == {
        "host": "h",
        "x-reason": "not JSON",
        "x-exchange": place.exchange,
        "x-key": "a.b",
        "x-queue": queue.name,
    }


async def test_message_past_its_delivery_limit_is_dead(place: Place) -> None:
    queue = place.queue("#", delivery_limit=3)
    await place.declare(queue)
    reader = Reader(lambda _: REDELIVER)
    async with place.broker.consume(queue, reader):
        place.broker.publish(place.publication("a.b", place.prefix))
        dead = await _dead_letter(place, place.prefix)
    assert [delivery.attempt for delivery in reader.deliveries] == [1, 2, 3, 4]
    assert dead.headers == {
        "x-reason": "delivery_limit",
        "x-exchange": place.exchange,
        "x-key": "a.b",
        "x-queue": queue.name,
    }


async def test_what_expires_unread_is_sent_where_the_queue_says(place: Place) -> None:
    commands = place.queue("host-1", name="agent", leader=False, most=10, expires_to=(place.exchange, "result.host-1"))
    results = place.queue("result.#", name="results")
    await place.declare(commands, results)
    reader = Reader()
    async with place.broker.consume(results, reader):
        place.broker.publish(place.publication("host-1", "x", expires=0.05, headers={"seq": 3}))
        await reader.until(1)
    assert (reader.deliveries[0].id, reader.deliveries[0].key) == ("x", "result.host-1")
    assert reader.deliveries[0].headers == {
        "seq": 3,
        "x-reason": "expired",
        "x-exchange": place.exchange,
        "x-key": "host-1",
        "x-queue": commands.name,
    }


async def test_full_queue_refuses(place: Place) -> None:
    queue = place.queue("#", leader=False, most=2)
    await place.declare(queue)
    sent = [asyncio.ensure_future(place.broker.publish(place.publication("a"))) for _ in range(6)]
    async with asyncio.timeout(WITHIN):
        with pytest.raises(BrokerError, match="refused"):
            await sent[-1]
    reader = Reader()
    async with place.broker.consume(queue, reader):
        await reader.until(2)


async def test_publish_is_confirmed(place: Place) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    async with place.broker.consume(queue, Reader()):
        await asyncio.wait_for(place.broker.publish(place.publication("a")), WITHIN)


async def test_unroutable_publication_is_told_apart_among_others(place: Place) -> None:
    queue = place.queue("good.#")
    await place.declare(queue)
    async with place.broker.consume(queue, Reader()):
        keys = ["good.1", "bad.1", "good.2", "bad.2", "good.3"]
        sent = [place.broker.publish(place.publication(key, "same id")) for key in keys]
        outcomes = await asyncio.wait_for(asyncio.gather(*sent, return_exceptions=True), WITHIN)
    assert [type(outcome) for outcome in outcomes] == [
        type(None),
        UnroutableError,
        type(None),
        UnroutableError,
        type(None),
    ]


async def test_publishing_to_an_unknown_exchange_is_unroutable(place: Place) -> None:
    await place.declare()
    with pytest.raises(UnroutableError):
        await asyncio.wait_for(place.broker.publish(place.publication("a", exchange="nowhere")), WITHIN)


async def test_queue_with_other_properties_is_refused(place: Place) -> None:
    await place.declare(place.queue("#"))
    with pytest.raises(BrokerError, match="cannot declare"):
        await place.declare(place.queue("#", delivery_limit=7))


async def test_declaring_twice_adds_bindings(place: Place) -> None:
    await place.declare(place.queue("a"))
    await place.declare(place.queue("a", "b"))
    queue, reader = place.queue("a", "b"), Reader()
    async with place.broker.consume(queue, reader):
        place.broker.publish(place.publication("a", "1"))
        place.broker.publish(place.publication("b", "2"))
        await reader.until(2)
    assert reader.ids == ["1", "2"]


async def test_failing_handler_gets_its_messages_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    queue = place.queue("#")
    await place.declare(queue)

    def rule(delivery: Delivery) -> Disposition:
        if delivery.attempt == 1:
            raise ValueError("first time")
        return ACKNOWLEDGE

    reader = Reader(rule)
    async with place.broker.consume(queue, reader):
        place.broker.publish(place.publication("a", "x"))
        await reader.until(2)
    assert [delivery.attempt for delivery in reader.deliveries] == [1, 2]
    assert "handler failed" in caplog.text


@pytest.mark.parametrize("leader", [True, False])
async def test_second_consumer_waits_and_takes_over(place: Place, *, leader: bool) -> None:
    queue = place.queue("#", leader=leader)
    await place.declare(queue)
    first, second = Reader(), Reader()
    async with AsyncExitStack() as waiting:
        async with place.broker.consume(queue, first):
            standby = asyncio.ensure_future(waiting.enter_async_context(place.broker.consume(queue, second)))
            for n in range(3):
                place.broker.publish(place.publication("a", f"m{n}"))
            await first.until(3)
        await asyncio.wait_for(standby, WITHIN)
        place.broker.publish(place.publication("a", "later"))
        await second.until(1)
    assert (first.ids, second.ids) == (["m0", "m1", "m2"], ["later"])


async def test_leaving_waits_for_the_handler_and_keeps_the_rest(place: Place) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    begun, go_on = asyncio.Event(), asyncio.Event()
    handled: list[str] = []

    async def slow(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        begun.set()
        await go_on.wait()
        handled.extend(delivery.id for delivery in deliveries)
        return [ACKNOWLEDGE] * len(deliveries)

    async with place.broker.consume(queue, slow, prefetch=1):
        for n in range(3):
            place.broker.publish(place.publication("a", f"m{n}"))
        await asyncio.wait_for(begun.wait(), WITHIN)
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert handled == ["m0"]
    reader = Reader()
    async with place.broker.consume(queue, reader):
        await reader.until(2)
    assert reader.ids == ["m1", "m2"]


async def _closed(broker: RabbitMQ | Embedded, queue: Queue, exchange: str) -> float:
    hung = asyncio.Event()

    async def hang(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        hung.set()
        await asyncio.Event().wait()
        return []

    loop = asyncio.get_running_loop()
    async with broker:
        await broker.declare([exchange], [queue])
        context = broker.consume(queue, hang)
        await context.__aenter__()
        sent = asyncio.ensure_future(broker.publish(Publication(exchange, "a", "x", "t/1", b"", 0.0)))
        await asyncio.wait_for(hung.wait(), WITHIN)
        began = loop.time()
    took = loop.time() - began
    await asyncio.wait((sent,), timeout=0)
    await context.__aexit__(None, None, None)
    assert sent.done()
    return took


async def test_closing_ends_in_time_with_a_hanging_handler(request: pytest.FixtureRequest) -> None:
    before = asyncio.all_tasks()
    name = secrets.token_hex(4)
    queue = Queue(name, (Binding(f"{name}.x", "#"),))
    assert await _closed(Embedded(), queue, f"{name}.x") < 5
    node: Node = request.getfixturevalue("node")
    assert await _closed(RabbitMQ(node.url, name="closing"), queue, f"{name}.x") < 5
    assert asyncio.all_tasks() == before


async def test_publication_outstanding_at_the_end_is_uncertain() -> None:
    async with Embedded() as broker:
        await broker.declare(["x"], [Queue("q", (Binding("x", "#"),))])
        sent = broker.publish(Publication("x", "a", "1", "t/1", b"", 0.0))
    with pytest.raises(UncertainError):
        await sent
    with pytest.raises(BrokerError):
        await broker.publish(Publication("x", "a", "1", "t/1", b"", 0.0))
