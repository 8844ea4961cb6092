"""What a bare client moves: batches published with confirms to a quorum queue, consumed and decoded by another process.

No spool, no store, no conditions: the same bytes again and again. It is what everything above it is measured against.
"""

import asyncio
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from benchmarks.flood import Source
from benchmarks.hops import CONSUMERS, EXCHANGE, PUBLISHERS, Child, queue_of
from benchmarks.node import Node
from exhaust.broker.rabbitmq import RabbitMQ

BATCH: Final = 500
_IN_FLIGHT: Final = 64
_END: Final = b"{}"


class Metric(msgspec.Struct, frozen=True):
    """The record that everybody moves, as a reader who knows it decodes it."""

    time: float
    metric: str
    unit: str
    device: str
    busy: float
    user: float
    system: float
    waiting: float
    stolen: float
    sample: int
    source: str
    interval: float
    kernel: str


class Batch(msgspec.Struct, frozen=True):
    """What a message holds."""

    records: list[Metric] = []


class Moved(NamedTuple):
    """Records a second, and the processor seconds of a million of them."""

    rate: float
    publishing: float
    broker: float
    consuming: float


def body() -> bytes:
    """Return a batch as JSON."""
    now = time.time()
    records = [{**Source.metric(number), "time": now} for number in range(1, BATCH + 1)]
    return msgspec.json.encode({"records": records})


async def _publish(pipe: Connection, client: str, url: str, queue: str, seconds: float) -> None:
    """Publish for so long, then the end; answer when it began, how many batches there were, and what it took."""
    text, slots = body(), asyncio.Semaphore(_IN_FLIGHT)
    async with PUBLISHERS[client](url, queue) as publish:

        async def one(number: int, message: bytes) -> None:
            try:
                await publish(str(number), message)
            finally:
                slots.release()

        began, used, count = time.monotonic(), time.process_time(), 0
        async with asyncio.TaskGroup() as tasks:
            while time.monotonic() < began + seconds:
                await slots.acquire()
                tasks.create_task(one(count, text))
                count += 1
        await publish("end", _END)
        pipe.send((began, count, time.process_time() - used))


async def _consume(pipe: Connection, client: str, url: str, queue: str) -> None:
    """Decode until the end; answer when that was, how many records there were, and what it took."""
    decode = msgspec.json.Decoder(Batch).decode
    done, count = asyncio.Event(), 0

    def got(message: bytes) -> None:
        nonlocal count
        records = decode(message).records
        count += len(records)
        if not records:
            done.set()

    async with CONSUMERS[client](url, queue, got):
        used = time.process_time()
        pipe.send("ready")
        await done.wait()
        pipe.send((time.monotonic(), count, time.process_time() - used))


async def moved(node: Node, client: str, seconds: float, used: Any) -> Moved:
    """Move batches for so long with `stock` or `lean`; `used()` is what the broker has used so far."""
    queue = f"bare.{client}.{os.urandom(4).hex()}"
    async with RabbitMQ(node.url, name="bare") as broker:
        await broker.declare([EXCHANGE], [queue_of(queue)])
    children = [Child(_consume, client, node.url, queue)]
    try:
        await asyncio.to_thread(children[0].answer)
        before = used()
        children.append(Child(_publish, client, node.url, queue, seconds))
        began, batches, publishing = await asyncio.to_thread(children[1].answer)
        ended, records, consuming = await asyncio.to_thread(children[0].answer)
        broker_used = used() - before
    except BaseException:
        for child in children:
            child.kill()
        raise
    for child in children:
        child.join()
    if records != batches * BATCH:
        raise AssertionError(f"{batches * BATCH} records were published, {records} arrived")
    millions = records / 1e6
    return Moved(records / (ended - began), publishing / millions, broker_used / millions, consuming / millions)


def disk(folder: Path, seconds: float) -> float:
    """Return how many records a second a file takes, a batch appended and synced at a time."""
    text, count = body(), 0
    with (folder / "disk").open("wb", buffering=0) as file:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            file.write(text)
            os.fdatasync(file.fileno())
            count += BATCH
    (folder / "disk").unlink()
    return count / passed
