"""What any Broker must do, shown on both: each test runs on the embedded one and on a real RabbitMQ."""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from exhaust.broker.interface import (
    ACKNOWLEDGE,
    REDELIVER,
    Delivery,
    Disposition,
)
from exhaust.errors import UnroutableError
from tests.rabbitmq.place import WITHIN, Place, Reader


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


async def test_publish_is_confirmed(place: Place) -> None:
    queue = place.queue("#")
    await place.declare(queue)
    async with place.broker.consume(queue, Reader()):
        await asyncio.wait_for(place.broker.publish(place.publication("a")), WITHIN)


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
