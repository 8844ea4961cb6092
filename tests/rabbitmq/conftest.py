"""The private node that the tests of this folder share, and the brokers that each conformance test runs on."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from benchmarks.node import Node, NodeError
from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import Broker
from exhaust.broker.rabbitmq import RabbitMQ
from tests.rabbitmq.place import WITHIN, Place


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    missing = ""
    try:
        private = Node()
    except NodeError as error:
        missing = str(error)
    if missing:
        pytest.fail(missing, pytrace=False)
    with private:
        yield private


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
