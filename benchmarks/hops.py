"""One broker hop between two processes: ours against stock aio-pika, side by side on a private node.

    python -m benchmarks.hops [--rounds 3] [--seconds 3] [--erl-args "+sbwt short"]

Latency counts from the moment a message was meant to be sent. CPU is the client process's own, per message.
Absolute figures move with the machine; the ratios of one run are what to compare.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.command import end_with_parent
from benchmarks.machine import save, table, typed
from benchmarks.node import Node
from exhaust.broker.interface import ACKNOWLEDGE, Binding, Delivery, Disposition, Publication, Queue
from exhaust.broker.rabbitmq import RabbitMQ

BODY = 200
FLOOD = 5_000
TITLE = "Hops: one message through RabbitMQ, our client and stock aio-pika"
IN_FLIGHT = 100
EXCHANGE = "hops"

Publish = Callable[[str, bytes], Awaitable[Any]]
Got = Callable[[bytes], None]


def queue_of(name: str) -> Queue:
    return Queue(name, (Binding(EXCHANGE, name),))


@contextlib.asynccontextmanager
async def _lean_publisher(url: str, queue: str) -> AsyncIterator[Publish]:
    async with RabbitMQ(url, name="hops") as broker:
        await broker.declare([EXCHANGE], [queue_of(queue)])
        yield lambda identity, body: broker.publish(
            Publication(EXCHANGE, queue, identity, "hop/1", body, time.time(), {"host": "h", "seq": 1})
        )


@contextlib.asynccontextmanager
async def _lean_consumer(url: str, queue: str, got: Got) -> AsyncIterator[None]:
    async def handler(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        for delivery in deliveries:
            got(delivery.body)
        return [ACKNOWLEDGE] * len(deliveries)

    async with RabbitMQ(url, name="hops") as broker:
        await broker.declare([EXCHANGE], [queue_of(queue)])
        async with broker.consume(queue_of(queue), handler):
            yield


@contextlib.asynccontextmanager
async def _stock_publisher(url: str, queue: str) -> AsyncIterator[Publish]:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await channel.get_exchange(EXCHANGE)
        persistent = aio_pika.DeliveryMode.PERSISTENT

        def publish(identity: str, body: bytes) -> Awaitable[Any]:
            headers: dict[str, Any] = {"host": "h", "seq": 1}
            message = aio_pika.Message(
                body, headers=headers, content_type="application/json", delivery_mode=persistent,
                message_id=identity, timestamp=int(time.time()), type="hop/1",
            )  # fmt: skip
            return exchange.publish(message, queue, timeout=5)

        yield publish


@contextlib.asynccontextmanager
async def _stock_consumer(url: str, queue: str, got: Got) -> AsyncIterator[None]:
    async def callback(message: AbstractIncomingMessage) -> None:
        got(message.body)
        await message.ack()

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=256)
        found = await channel.get_queue(queue)
        await found.consume(callback)
        yield


PUBLISHERS = {"stock": _stock_publisher, "lean": _lean_publisher}
CONSUMERS = {"stock": _stock_consumer, "lean": _lean_consumer}


async def _publish(pipe: Connection, client: str, url: str, queue: str, count: int, rate: float) -> None:
    async with PUBLISHERS[client](url, queue) as publish:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def one(number: int, stamp: int) -> None:
            try:
                await publish(str(number), stamp.to_bytes(8) + os.urandom(BODY - 8))
            finally:
                slots.release()

        began, start = time.process_time(), time.monotonic_ns()
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                due = start + int(number / rate * 1e9) if rate else time.monotonic_ns()
                if (wait := (due - time.monotonic_ns()) / 1e9) > 0:
                    await asyncio.sleep(wait)
                await slots.acquire()
                tasks.create_task(one(number, due))
        pipe.send((time.process_time() - began) / count)


async def _consume(pipe: Connection, client: str, url: str, queue: str, count: int) -> None:
    delays: list[float] = []
    done = asyncio.Event()

    def got(body: bytes) -> None:
        delays.append((time.monotonic_ns() - int.from_bytes(body[:8])) / 1e6)
        if len(delays) == count:
            done.set()

    async with CONSUMERS[client](url, queue, got):
        began = time.process_time()
        pipe.send("ready")
        await done.wait()
        pipe.send(((time.process_time() - began) / count, delays))


def _worker(role: Callable[..., Coroutine[Any, Any, None]], pipe: Connection, *args: object) -> None:
    end_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and parent.is_alive():  # else it went before it could be noticed
        asyncio.run(role(pipe, *args))


class Child:
    """One process with its own interpreter, and the pipe on which it answers."""

    def __init__(self, role: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_worker, args=(role, theirs, *args), daemon=True)
        self._process.start()
        theirs.close()

    def answer(self) -> Any:
        return self.pipe.recv()

    def join(self) -> None:
        self._process.join()
        self.pipe.close()

    def kill(self) -> None:
        """End it whatever it does: who waits for its answer gets EOFError."""
        self._process.kill()


async def _declare(url: str, queue: str) -> None:
    async with RabbitMQ(url, name="hops") as broker:
        await broker.declare([EXCHANGE], [queue_of(queue)])


def _paced(client: str, url: str, queue: str, rate: float, seconds: float) -> tuple[float, float]:
    """Return p50 and p99 of the latency in ms."""
    count = int(rate * seconds)
    asyncio.run(_declare(url, queue))
    reader = Child(_consume, client, url, queue, count)
    reader.answer()
    writer = Child(_publish, client, url, queue, count, rate)
    writer.answer()
    _, delays = reader.answer()
    for child in (reader, writer):
        child.join()
    ordered = sorted(delays)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


def _flooded(client: str, url: str, queue: str) -> tuple[float, float]:
    """Return the CPU of one publication and of one delivery, in µs, IN_FLIGHT at a time."""
    asyncio.run(_declare(url, queue))
    writer = Child(_publish, client, url, queue, FLOOD, 0)
    publishing = writer.answer()
    writer.join()
    reader = Child(_consume, client, url, queue, FLOOD)
    reader.answer()
    consuming, _ = reader.answer()
    reader.join()
    return publishing * 1e6, consuming * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hops", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 1000.0])
    parser.add_argument("--clients", nargs="+", default=["stock", "lean"], choices=["stock", "lean"])
    parser.add_argument("--erl-args", default="", help="further options of the node's Erlang machine")
    parser.add_argument("--quick", action="store_true", help="a smoke run of a second each")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    results: dict[str, dict[str, list[float]]] = {}
    with Node(erl_args=options.erl_args) as node:
        for turn in range(options.rounds):
            for client in options.clients:
                mine = results.setdefault(client, {})
                for rate in options.rates:
                    name = f"hops.{client}.{rate:.0f}.{turn}"
                    p50, p99 = _paced(client, node.url, name, rate, options.seconds)
                    mine.setdefault(f"p50 ms at {rate:.0f}/s", []).append(p50)
                    mine.setdefault(f"p99 ms at {rate:.0f}/s", []).append(p99)
                publishing, consuming = _flooded(client, node.url, f"hops.{client}.flood.{turn}")
                mine.setdefault("publish CPU µs", []).append(publishing)
                mine.setdefault("delivery CPU µs", []).append(consuming)
    rows = list(_rows(results))
    text = table(("median of the rounds", *options.clients, "ratio"), [list(row.values()) for row in rows])
    print(text)
    save("hops", title=TITLE, command=typed("hops"), text=text, rows=rows, quick=options.quick)


def _rows(results: dict[str, dict[str, list[float]]]) -> Iterator[dict[str, Any]]:
    """Yield the medians of every client, and how many times the last one's goes into the first one's."""
    first, *_, last = (*results, *results)
    for what in results[first]:
        medians = {client: round(statistics.median(found[what]), 2) for client, found in results.items()}
        yield {"what": what, **medians, "ratio": round(medians[first] / medians[last], 1)}


if __name__ == "__main__":
    main()
