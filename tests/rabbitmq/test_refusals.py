"""What becomes, on either broker, of messages rejected, expired or with nowhere to go, and of a closed broker."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.node import Node
from collector.letters import read_letter
from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import (
    ACKNOWLEDGE,
    REDELIVER,
    Binding,
    Delivery,
    Disposition,
    Publication,
    Queue,
    Reject,
)
from exhaust.broker.rabbitmq import RabbitMQ
from exhaust.errors import BrokerError, UncertainError, UnroutableError
from exhaust.resending import RESENT, original, resent
from exhaust.signing import Keys, Verifier
from tests.rabbitmq.place import WITHIN, Place, Reader


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


async def test_the_exchange_without_a_name_writes_into_the_queue_that_the_key_names(place: Place) -> None:
    queue, other = place.queue("#"), place.queue("#", name="other")
    await place.declare(queue, other)
    reader, bystander = Reader(), Reader()
    async with place.broker.consume(queue, reader), place.broker.consume(other, bystander):
        out = place.publication(queue.name, "straight", exchange="", headers={"host": "h"})
        await asyncio.wait_for(place.broker.publish(out), WITHIN)
        await reader.until(1)
        with pytest.raises(UnroutableError):
            await asyncio.wait_for(place.broker.publish(place.publication("nobody's", exchange="")), WITHIN)
    (delivery,) = reader.deliveries
    assert (delivery.exchange, delivery.key, delivery.id) == ("", queue.name, "straight")
    assert delivery.headers == {"host": "h"}
    assert bystander.ids == []


async def test_a_dead_letter_that_is_sent_again_is_what_it_was_and_comes_back_if_it_is_refused(
    place: Place, tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    verifier = Verifier({RESENT: keys.public("collector")})
    queue = place.queue("#")
    await place.declare(queue)
    reader = Reader(lambda _: Reject("not yet"))
    async with place.broker.consume(queue, reader):
        place.broker.publish(place.publication("a.b", place.prefix, time=1.000001, headers={"host": "h", "seq": 3}))
        for attempts in range(3):
            dead = await _dead_letter(place, place.prefix)
            letter = read_letter(dead, 0.0)
            assert (letter.attempts, letter.reason) == (attempts, "not yet")
            assert (letter.exchange, letter.key, letter.queue) == (place.exchange, "a.b", queue.name)
            out = resent(letter.delivery(dead.body), attempts + 1, keys.signer("collector"))
            place.broker.publish(out)
        await reader.until(4)
    first, *others = reader.deliveries
    assert [replace(original(other, verifier), attempt=1) for other in others] == [first] * 3


async def test_what_dies_by_redelivery_after_it_was_sent_again_is_known_as_what_it_was(
    place: Place, tmp_path: Path
) -> None:
    queue = place.queue("#", delivery_limit=2)
    await place.declare(queue)
    reader = Reader(lambda _: REDELIVER)
    sent = Delivery(place.exchange, "a.b", place.prefix, "t/1", b"body", 1.5, {"host": "h"}, queue.name, 1)
    async with place.broker.consume(queue, reader):
        place.broker.publish(resent(sent, 1, Keys(tmp_path).signer("collector")))
        letter = read_letter(await _dead_letter(place, place.prefix), 0.0)
    assert letter.delivery(b"body") == sent
    assert (letter.attempts, letter.reason) == (1, "delivery_limit")


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
