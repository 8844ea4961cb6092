"""What the conformance tests stand on: a broker with names of their own in it, and a handler that keeps all it gets."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from exhaust.broker.interface import (
    ACKNOWLEDGE,
    Binding,
    Broker,
    Delivery,
    Disposition,
    Publication,
    Queue,
)

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
