"""The collector at work: its decider on its queues, and its answers over HTTP."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web, web_response

from collector.api import Api
from collector.arrival import Arrival, read_arrival
from collector.dead_letters import DeadLetters
from collector.definitions import Definitions
from collector.door import Door
from collector.emission import Emission
from collector.feed import Feed
from collector.model import ReadModel
from collector.orders import Orders
from collector.people import People, make_token
from exhaust.broker.handling import DEAD
from exhaust.broker.interface import Delivery
from exhaust.lifecycle.leading import leading
from exhaust.lifecycle.service import Station
from exhaust.messages import AnyMessage
from exhaust.people import Person
from exhaust.resending import RESENT, original
from exhaust.routing import BACKLOG, QUEUES, TELEMETRY
from exhaust.signing import Verifier
from exhaust.store import Store
from exhaust.wire import unpack
from exhaust.worker import Worker

log = logging.getLogger(__name__)

_NOTHING = Definitions()
_LISTEN_AGAIN = 1.0


class Collector:
    """A service. It leads while it holds the store's lock, and answers only then; a standby waits."""

    name = "collector"

    def __init__(
        self,
        station: Station,
        address: tuple[str, int],
        *,
        people: Sequence[Person] = (),
        definitions: Definitions = _NOTHING,
    ) -> None:
        self._station = station
        self._address = address
        self._people = People(station.state / "token", people)
        self._definitions = definitions
        self._model = ReadModel(host=station.host, inventory=definitions.hosts)
        self._verifier: Verifier | None = None
        self._feed = Feed()
        self._door = Door()
        self._worker: Worker | None = None
        self._deaf = ""
        self.port = self._address[1]
        self.app: web.Application | None = None
        self.answering = asyncio.Event()

    def ready(self) -> Mapping[str, bool]:
        """Tell what must be in order before work can flow."""
        return {"broker": self._station.broker.connected, "store": self._worker is not None, "http": not self._deaf}

    def status(self) -> dict[str, Any]:
        if self._worker is None:
            return {"state": "standby"}
        broker = self._station.broker
        return {
            "state": "leading",
            **self._worker.status(),
            **({"state": "not_ready", "last_error": self._deaf} if self._deaf else {}),
            "broker": {"connected": broker.connected, "last_error": getattr(broker, "last_error", None)},
            "people": self._people.faults(),
            "refused_connections": self._door.refused,
        }

    def stuck(self) -> str:
        return "" if self._worker is None else self._worker.stuck()

    async def run(self, until: asyncio.Event) -> None:
        station = self._station
        make_token(station.state / "token")
        self._verifier = Verifier({RESENT: station.keys.public(self.name)})
        async with leading(station.state / "collector.db", until) as store:
            if store is None:
                return
            self._worker = worker = Worker(
                self.name,
                self._model,
                store,
                station.broker,
                station.clock,
                QUEUES[self.name],
                signer=station.keys.signer(self.name),
                unpack=self._unpack,
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(worker.run(until), name="worker")
                    # The worker recalls in its first step: nobody may be answered before that.
                    await asyncio.sleep(0)
                    await self._answer(self._api(store, worker), until)
            finally:
                self._worker = None

    def _unpack(self, delivery: Delivery) -> Arrival | Delivery | AnyMessage:
        if delivery.queue == DEAD:
            return delivery
        first = original(delivery, self._verifier)
        if first.exchange in (TELEMETRY, BACKLOG):
            arrival = read_arrival(first, resent=not delivery.exchange)
            self._feed.show(first, arrival.host, f"{arrival.emitter}.{arrival.stream}")
            return arrival
        message = unpack(first)
        self._feed.publish(message)
        return message

    def _api(self, store: Store, worker: Worker) -> Api:
        station, model, feed, definitions = self._station, self._model, self._feed, self._definitions
        return Api(
            model=model,
            store=store,
            feed=feed,
            definitions=definitions,
            orders=Orders(model, store, feed, definitions, station.clock, worker.put),
            emission=Emission(store, worker.put, station.host, station.clock),
            dead_letters=DeadLetters(model, store, station.broker, station.keys.signer(self.name), worker.put),
            state=station.state,
            clock=station.clock,
            status=self.status,
            ready=self.ready,
        )

    async def _answer(self, api: Api, until: asyncio.Event) -> None:
        # Requests that are no HTTP are answered below all handlers, with the library's version unless told otherwise.
        vars(web_response)["SERVER_SOFTWARE"] = "exhaust"
        self.app = api.app(self._people)
        async with self._door.open_to(self.app):
            try:
                await self._listen(until)
                await until.wait()
            finally:
                self._feed.close()

    async def _listen(self, until: asyncio.Event) -> None:
        """Listen as soon as the address is ours to take: the loop goes on meanwhile, and heals."""
        host, port = self._address
        while not until.is_set():
            try:
                self.port = await self._door.listen(host, port)
            except OSError as exc:
                deaf = f"http.listen: {host}:{port}: {exc.strerror or exc}: end who has it, or choose another"
                if deaf != self._deaf:
                    log.error("nobody can ask", extra={"error": deaf})
                self._deaf = deaf
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(until.wait(), _LISTEN_AGAIN)
            else:
                self._deaf = ""
                self.answering.set()
                return
