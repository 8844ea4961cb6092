"""The collector at work: its decider on its queues, and its answers over HTTP."""

import asyncio
import ipaddress
from collections.abc import Mapping
from typing import Any

from aiohttp import web, web_response

from collector.access import make_token
from collector.api import Api
from collector.feed import Feed
from collector.ledger import Arrival, read_arrival
from collector.model import ReadModel
from exhaust.broker.interface import Delivery
from exhaust.errors import ConfigurationError
from exhaust.leading import leading
from exhaust.messages import AnyMessage
from exhaust.routing import BACKLOG, QUEUES, TELEMETRY
from exhaust.service import Station
from exhaust.store import Store
from exhaust.wire import unpack
from exhaust.worker import Worker


class Collector:
    """A service. It leads while it holds the store's lock, and answers only then; a standby waits."""

    name = "collector"

    def __init__(self, station: Station, listen: str = "127.0.0.1:8640") -> None:
        self._station = station
        self._address = loopback(listen)
        self._model = ReadModel()
        self._feed = Feed()
        self._worker: Worker | None = None
        self.port = self._address[1]
        self.app: web.Application | None = None
        self.answering = asyncio.Event()

    def ready(self) -> Mapping[str, bool]:
        """Tell what must be in order before work can flow."""
        return {"broker": self._station.broker.connected, "store": self._worker is not None}

    def status(self) -> dict[str, Any]:
        if self._worker is None:
            return {"state": "standby"}
        return {"state": "leading", **self._worker.status(), "lag": round(self._model.ledger.lag, 3)}

    async def run(self, until: asyncio.Event) -> None:
        station = self._station
        token = make_token(station.state / "token")
        async with leading(station.state / "collector.db", until) as store:
            if store is None:
                return
            self._worker = Worker(
                self.name, self._model, store, station.broker, station.clock, QUEUES[self.name], unpack=self._unpack
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._worker.run(until), name="worker")
                    # The worker recalls in its first step: nobody may be answered before that.
                    await asyncio.sleep(0)
                    await self._answer(store, token, until)
            finally:
                self._worker = None

    def _unpack(self, delivery: Delivery) -> Arrival | AnyMessage:
        if delivery.exchange in (TELEMETRY, BACKLOG):
            return read_arrival(delivery)
        message = unpack(delivery)
        self._feed.publish(message)
        return message

    async def _answer(self, store: Store, token: str, until: asyncio.Event) -> None:
        station = self._station
        api = Api(self._model, store, self._feed, station.state, station.clock, status=self.status, ready=self.ready)
        # Requests that are no HTTP are answered below all handlers, with the library's version unless told otherwise.
        vars(web_response)["SERVER_SOFTWARE"] = "exhaust"
        self.app = api.app(token)
        runner = web.AppRunner(
            self.app, access_log=None, shutdown_timeout=1.0, keepalive_timeout=15.0, auto_decompress=False
        )
        await runner.setup()
        try:
            await self._listen(runner)
            self.answering.set()
            await until.wait()
        finally:
            self._feed.close()
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> None:
        host, port = self._address
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as exc:
            raise ConfigurationError([f"http.listen: {host}:{port}: {exc.strerror or exc}"]) from exc
        self.port = runner.addresses[0][1]


def loopback(listen: str) -> tuple[str, int]:
    """Return host and port of a `http.listen`. Raise ConfigurationError for any but an address of this host's own."""
    host, _, port = listen.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        address = ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        raise ConfigurationError([f"http.listen: expected an address such as 127.0.0.1:8640, got '{listen}'"]) from None
    if not address.is_loopback:
        raise ConfigurationError([f"http.listen: '{listen}' can be reached from elsewhere: use 127.0.0.1 or [::1]"])
    if not 0 <= number < 65536:
        raise ConfigurationError([f"http.listen: there is no port {number}"])
    return host, number
