"""Whatever a stranger writes into a message's headers costs at most that message."""

import asyncio
import secrets
import struct
from collections.abc import Mapping
from typing import Any

import aio_pika
import pytest

from benchmarks.node import Node
from exhaust.broker import frames
from exhaust.broker.handling import dead_letter
from exhaust.broker.interface import Binding, Delivery, Publication, Queue, Reject
from exhaust.broker.rabbitmq import RabbitMQ
from tests.rabbitmq.place import WITHIN, Reader

_DEPTH = 400


def _nested(depth: int) -> Mapping[str, Any]:
    found: dict[str, Any] = {"end": "here"}
    for _ in range(depth):
        found = {"a": found}
    return found


def _content(table: bytes) -> frames.Content:
    return frames.Content(struct.pack(">HHQHI", 60, 0, 0, 0x2000, len(table)) + table, 0)


@pytest.mark.parametrize(
    "table",
    [
        b"\x01aT" + struct.pack(">Q", (1 << 63) - 1),
        b"\x02\xff\xfet\x01",
        b"\x01aU\xff\xff",
        b"\x01aS" + struct.pack(">I", 1 << 31),
        b"\x06x-timel" + struct.pack(">q", (1 << 63) - 1),
        b"\x06x-timel" + struct.pack(">q", -1),
    ],
)
def test_a_table_that_is_none_can_be_read_and_buried(table: bytes) -> None:
    delivery = frames.delivery(_content(table), b"", "q", "x", "k", redelivered=False)
    assert delivery.time == 0.0
    assert frames.publish(64, dead_letter(delivery, "unusable"), 131_072)


def test_headers_that_cannot_be_written_again_are_left_out_of_the_dead_letter() -> None:
    headers: dict[str, str | int] = {"n" * 300: "x", "large": "x" * 200_000, "far": 1 << 70, "host": "web-1"}
    delivery = Delivery("x", "k", "id", "t/1", b"", 1.0, headers, "q", 1)
    assert dead_letter(delivery, "no").headers["host"] == "web-1"
    assert frames.publish(64, dead_letter(delivery, "no"), 131_072)


async def test_what_came_beside_a_message_with_a_bottomless_table_is_handled_and_that_one_is_buried(node: Node) -> None:
    exchange = f"hostile.{secrets.token_hex(4)}"
    queue = Queue(f"{exchange}.q", (Binding(exchange, "#"),))
    reader = Reader(lambda delivery: Reject("no"))
    async with RabbitMQ(node.url, name="ours", exchanges=[exchange], queues=[queue]) as ours:
        await ours.wait_connected(WITHIN)
        async with await aio_pika.connect(node.url) as stranger:
            channel = await stranger.channel()
            found = await channel.get_exchange(exchange)
            await found.publish(aio_pika.Message(b"{}", message_id="poison", headers=dict(_nested(_DEPTH))), "key")
        await ours.publish(Publication(exchange, "key", "genuine", "t/1", b"", 1.0))
        async with ours.consume(queue, reader):
            async with asyncio.timeout(WITHIN):
                while len(reader.ids) < 2:
                    reader.news.clear()
                    await reader.news.wait()
        assert ours.connected
    assert reader.ids == ["poison", "genuine"]
