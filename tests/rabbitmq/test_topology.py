"""What a publisher is given to declare exists before anything of it is published."""

import asyncio
import secrets

import pytest

from benchmarks.node import Node
from exhaust.broker.interface import Binding, Publication, Queue
from exhaust.broker.rabbitmq import RabbitMQ
from exhaust.errors import UnreachableError, UnroutableError
from tests.rabbitmq.place import WITHIN, Reader


def _queue(name: str, exchange: str) -> Queue:
    return Queue(f"{exchange}.{name}", (Binding(exchange, "#"),))


async def test_the_first_that_is_confirmed_is_in_every_queue_though_another_had_bound_one_before(node: Node) -> None:
    exchange = f"first.{secrets.token_hex(4)}"
    stranger, ours = _queue("stranger", exchange), [_queue(f"ours-{n}", exchange) for n in range(8)]
    publication = Publication(exchange, "key", "first", "t/1", b"", 1.0)
    reader = Reader()
    async with RabbitMQ(node.url, name="other") as other:
        await other.declare([exchange], [stranger])
        async with RabbitMQ(node.url, name="ours", exchanges=[exchange], queues=ours) as broker:
            while not broker.connected:  # noqa: ASYNC110  the first moment at which it can be published
                await asyncio.sleep(0)
            await broker.publish(publication)
            async with other.consume(ours[-1], reader):
                await asyncio.wait_for(reader.news.wait(), WITHIN)
    assert reader.ids == ["first"]


async def test_nothing_is_declared_where_others_do_it(node: Node) -> None:
    exchange = f"existing.{secrets.token_hex(4)}"
    async with RabbitMQ(
        node.url, name="ours", exchanges=[exchange], queues=[_queue("q", exchange)], existing=True
    ) as ours:
        await ours.wait_connected(WITHIN)
        with pytest.raises(UnroutableError):
            await ours.publish(Publication(exchange, "key", "first", "t/1", b"", 1.0))


async def test_a_queue_that_exists_otherwise_is_told_and_nothing_is_published_past_it(node: Node) -> None:
    exchange = f"otherwise.{secrets.token_hex(4)}"
    queue = _queue("q", exchange)
    async with RabbitMQ(node.url, name="other") as other:
        await other.declare([exchange], [Queue(queue.name, queue.bindings, leader=False)])
        async with RabbitMQ(node.url, name="ours", exchanges=[exchange], queues=[queue]) as ours:
            with pytest.raises(UnreachableError, match=r"cannot declare: .*inequivalent arg"):
                await ours.wait_connected(2.0)
