"""A collector at work on the embedded broker, somebody who asks it, and a story to tell it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from collector.definitions import Definitions
from collector.service import Collector
from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import ACKNOWLEDGE, Delivery, Disposition
from exhaust.clock import VirtualClock
from exhaust.commands.client import Client
from exhaust.language import define
from exhaust.lifecycle.service import Station
from exhaust.messages import Decision, ExecutionEvent, ExecutionState, Fact, Message, Order, Reason
from exhaust.people import Person
from exhaust.routing import EXCHANGES, QUEUES
from exhaust.signing import Keys, Verifier
from exhaust.wire import pack, unpack
from orchestrator.workflows import Workflow

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


RESTART = define(
    Workflow,
    {
        "name": "restart-service",
        "inputs": {"service": "string", "grace": {"type": "duration", "default": "1s"}},
        "tasks": [{"name": "restart", "use": "agent", "do": "service.restart"}],
    },
)
TELL = define(Workflow, {"name": "tell", "tasks": [{"name": "tell", "use": "ops", "do": "notify"}]})
DEFINITIONS = Definitions({"web-01": {"role": "web"}, "db-1": {}}, (), (RESTART, TELL))
_ORDERS = QUEUES["activator"][-1]


def person(folder: Path, name: str, *may: Any) -> Person:
    """Somebody with a token of their own in this folder."""
    path = folder / f"{name}.token"
    if not path.exists():
        path.write_text(f"{name}-" + os.urandom(16).hex())
        path.chmod(0o600)
    return Person(name=name, token_file=str(path), may=list(may))


def bearer(one: Person) -> str:
    """What somebody's requests say of them."""
    return f"Bearer {Path(one.token_file).read_text().strip()}"


class System:
    """A running collector, a client that knows its token, and whoever hears its `orders`."""

    def __init__(
        self,
        state: Path,
        broker: Embedded | None = None,
        *,
        people: Sequence[Person] = (),
        definitions: Definitions = DEFINITIONS,
    ) -> None:
        self.broker = broker or Embedded()
        self.state = state
        self.clock = VirtualClock(T + 1)
        keys = Keys(state / "keys")
        station = Station("here", state, self.clock, self.broker, keys)
        self.collector = Collector(station, ("127.0.0.1", 0), people=people, definitions=definitions)
        self.until = asyncio.Event()
        self.orders: asyncio.Queue[Order] = asyncio.Queue()
        self._verifier = Verifier({"order/1": keys.public("collector")})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["System"]:
        async with self.broker:
            await self.broker.declare(EXCHANGES, (*QUEUES["collector"], _ORDERS))
            task = asyncio.create_task(self.collector.run(self.until))
            async with self.broker.consume(_ORDERS, self._hear), self.asked():
                yield self
            self.until.set()
            await asyncio.wait_for(task, 5)

    async def _hear(self, deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        for delivery in deliveries:
            message = unpack(delivery, self._verifier)
            assert isinstance(message, Order)
            self.orders.put_nowait(message)
        return [ACKNOWLEDGE] * len(deliveries)

    async def order(self) -> Order:
        """Return the next order that came out."""
        return await asyncio.wait_for(self.orders.get(), 5)

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

    def commands(self, token_file: Path | None = None) -> Client:
        """A client as the command line has it."""
        return Client(f"127.0.0.1:{self.collector.port}", token_file or self.state / "token")

    async def post(
        self, path: str, content: Any = None, status: int = 202, key: str | None = None, **headers: str
    ) -> Any:
        """Send bytes as they are, other things as JSON; `key` is the Idempotency-Key."""
        body = content if isinstance(content, bytes) else msgspec.json.encode({} if content is None else content)
        given = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {}), **headers}
        async with self.http.post(path, data=body, headers=given) as answer:
            assert answer.status == status, await answer.text()
            assert (answer.content_type == "application/problem+json") == (status >= 400)
            return msgspec.json.decode(await answer.read())

    async def get(self, path: str, status: int = 200, **headers: str) -> Any:
        async with self.http.get(path, headers=headers) as answer:
            assert answer.status == status, await answer.text()
            return msgspec.json.decode(await answer.read())
