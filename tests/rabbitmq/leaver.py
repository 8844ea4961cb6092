"""A process that consumes until its standard input ends, and then leaves: run by a test that times it."""

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from exhaust.broker.interface import ACKNOWLEDGE, Binding, Delivery, Disposition, Publication, Queue
from exhaust.broker.rabbitmq import RabbitMQ


async def main(url: str, name: str) -> None:
    got = asyncio.Event()

    async def handler(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        got.set()
        return [ACKNOWLEDGE] * len(deliveries)

    async with RabbitMQ(url, name="leaver") as broker:
        queue = Queue(name, (Binding(name, "#"),))
        await broker.declare([name], [queue])
        async with broker.consume(queue, handler):
            await broker.publish(Publication(name, "a", "1", "t/1", b"", 0.0))
            await got.wait()
            print("consuming", flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
            broker.publish(Publication(name, "a", "2", "t/1", b"", 0.0))


# What is left on standard error are complaints of asyncio about things left open.
logging.getLogger("exhaust").setLevel(logging.CRITICAL)
asyncio.run(main(sys.argv[1], sys.argv[2]))
