"""A collector at work on the embedded broker, somebody who asks it, and a story to tell it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from collector.service import Collector
from exhaust.broker.embedded import Embedded
from exhaust.clock import VirtualClock
from exhaust.messages import Decision, ExecutionEvent, ExecutionState, Fact, Message, Reason
from exhaust.routing import EXCHANGES, QUEUES
from exhaust.service import Station
from exhaust.signing import Keys
from exhaust.wire import pack

BATCH = "0190163d-8694-739b-aea5-966c26f8ad91"  # of 1718360049.3
T = 1718360049.3


def _event(n: int, state: ExecutionState, **more: Any) -> ExecutionEvent:
    return ExecutionEvent(
        id=f"v{n}", time=T + 0.008 + n / 1000, execution="x1", workflow="restart-service", definition="abc",
        state=state, **more,
    )  # fmt: skip


CHAIN: list[Message] = [
    Fact(
        id="e1", time=T + 0.004, causes=(f"{BATCH}#0",), name="service.down", host="web-01", labels={"service": "shop"},
        episode="e1", state="open", reason="asserted", severity="critical", since=T, valid_until=T + 90,
        summary="shop is dead", evidence=[{"time": T, "service": "shop", "state": "dead"}],
    ),
    Decision(
        id="d1", time=T + 0.006, causes=("e1",), rule="restart", rung=0, cause="e1", outcome="fired", host="web-01",
        execution="x1", reasons=[Reason("mode", "auto", "auto")],
    ),
    _event(0, "pending", host="web-01", rule="restart", rung=0, mode="auto", cause="e1"),
    _event(1, "running", started=T + 0.009),
    _event(2, "running", task="restart"),
    _event(3, "succeeded", task="restart", output={"pid": 7}),
    _event(4, "succeeded"),
    _event(5, "succeeded", verdict="recovered"),
    Fact(
        id="c1", time=T + 0.0115, causes=(f"{BATCH}#1",), name="service.down", host="web-01",
        labels={"service": "shop"}, episode="e1", state="closed", reason="cleared", severity="critical", since=T,
        valid_until=T + 90,
    ),
]  # fmt: skip


class System:
    """A running collector and a client that knows its token."""

    def __init__(self, state: Path, broker: Embedded | None = None) -> None:
        self.broker = broker or Embedded()
        self.state = state
        station = Station("here", state, VirtualClock(T + 1), self.broker, Keys(state / "keys"))
        self.collector = Collector(station, "127.0.0.1:0")
        self.until = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["System"]:
        async with self.broker:
            await self.broker.declare(EXCHANGES, QUEUES["collector"])
            task = asyncio.create_task(self.collector.run(self.until))
            async with self.asked():
                yield self
            self.until.set()
            await asyncio.wait_for(task, 5)

    @contextlib.asynccontextmanager
    async def asked(self) -> AsyncIterator[None]:
        await asyncio.wait_for(self.collector.answering.wait(), 5)
        token = (self.state / "token").read_text().strip()
        base = f"http://127.0.0.1:{self.collector.port}"
        async with aiohttp.ClientSession(base, headers={"Authorization": f"Bearer {token}"}) as self.http:
            yield

    async def tell(self, *messages: Message) -> None:
        for message in messages:
            await asyncio.wait_for(self.broker.publish(pack(message)), 5)

    async def get(self, path: str, status: int = 200, **headers: str) -> Any:
        async with self.http.get(path, headers=headers) as answer:
            assert answer.status == status, await answer.text()
            return msgspec.json.decode(await answer.read())
