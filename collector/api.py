"""The HTTP API: the read model to those who hold a token, and their orders and records to the loop."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from collector import dead_letters, emission, orders
from collector.access import Gate, Need, harden
from collector.answers import answer
from collector.dead_letters import DeadLetters
from collector.definitions import DEFINED, Definitions
from collector.emission import Emission
from collector.explain import explain
from collector.feed import RECORD, Feed, Wish
from collector.items import ITEMS
from collector.model import ReadModel
from collector.orders import Orders
from collector.overview import overview
from collector.pages import Page, named_page, page, read_query
from collector.people import People
from collector.refusal import Refusal, bad, unknown
from exhaust.clock import Clock
from exhaust.store import Store

_BEAT = 15.0
_STREAM = "/api/v1/stream"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """One thing that can be asked for."""

    method: str
    path: str
    handler: Handler
    need: Need = Need()


@dataclass(frozen=True)
class Api:
    """The routes; `status` tells of this component itself, `ready` what is in order."""

    model: ReadModel
    store: Store
    feed: Feed
    definitions: Definitions
    orders: Orders
    emission: Emission
    dead_letters: DeadLetters
    state: Path
    clock: Clock
    status: Callable[[], Mapping[str, Any]]
    ready: Callable[[], Mapping[str, bool]]

    def app(self, people: People) -> web.Application:
        routes = list(self._routes())
        gate = Gate(people, {(route.method, route.path): route.need for route in routes})
        largest = max(route.need.largest for route in routes)
        app = web.Application(middlewares=[gate], client_max_size=largest)
        app.on_response_prepare.append(harden)
        for route in routes:
            if route.method == "GET":
                app.router.add_get(route.path, route.handler, allow_head=route.path != _STREAM)
            else:
                app.router.add_post(route.path, route.handler)
        return app

    def _routes(self) -> Iterator[Route]:
        yield Route("GET", "/healthz", self._healthz)
        yield Route("GET", "/readyz", self._readyz)
        yield Route("GET", "/status", self._overview)
        for kind in ITEMS:
            yield Route("GET", f"/api/v1/{kind}s", self._list_of(kind))
            yield Route("GET", f"/api/v1/{kind}s/{{id}}", self._item_of(kind))
        for kind in DEFINED:
            yield Route("GET", f"/api/v1/{kind}s", self._list_of_defined(kind))
            yield Route("GET", f"/api/v1/{kind}s/{{id}}", self._defined_of(kind))
        yield Route("GET", "/api/v1/dead-letters", self._dead_letters)
        yield Route("GET", "/api/v1/dead-letters/{id}", self.dead_letters.find)
        yield Route("GET", "/api/v1/explain/{id}", self._explain)
        yield Route("GET", _STREAM, self._stream)
        yield Route("POST", "/api/v1/workflows/{id}/trigger", self.orders.trigger, orders.TRIGGER)
        yield Route("POST", "/api/v1/halt", self.orders.halt, orders.HALT)
        yield Route("POST", "/api/v1/resume", self.orders.resume, orders.HALT)
        yield Route("POST", "/api/v1/dead-letters/{id}/resend", self.dead_letters.resend, dead_letters.RESEND)
        yield Route("POST", "/api/v1/emit/{stream}", self.emission.emit, emission.NEED)

    async def _healthz(self, request: web.Request) -> web.Response:
        return answer({"alive": True})

    async def _readyz(self, request: web.Request) -> web.Response:
        checks = dict(self.ready())
        return answer(checks, status=200 if all(checks.values()) else 503)

    async def _overview(self, request: web.Request) -> web.Response:
        own = ("collector", self.status())
        return answer(await overview(self.model, self.store, self.state, self.clock.now(), own))

    def _list_of(self, kind: str) -> Handler:
        fields = [field.name for field in msgspec.structs.fields(ITEMS[kind])]

        async def listed(request: web.Request) -> web.Response:
            query = read_query(kind, fields, request.query.items())
            return _listed(await page(self.store, kind, self.model.shelves[kind], query))

        return listed

    def _item_of(self, kind: str) -> Handler:
        async def found(request: web.Request) -> web.Response:
            name = request.match_info["id"]
            subject = self.store.get(f"id/{name}")
            key = msgspec.json.decode(subject, type=str) if subject else ""
            item = self.store.get(key) if key.startswith(f"{kind}/") else None
            if item is None:
                raise _unknown(name)
            return answer(msgspec.Raw(item))

        return found

    def _list_of_defined(self, kind: str) -> Handler:
        fields = [field.name for field in msgspec.structs.fields(DEFINED[kind])]

        async def listed(request: web.Request) -> web.Response:
            query = read_query(kind, fields, request.query.items())
            return _listed(named_page(self.definitions.items(kind, self.model, self.clock.now()), query))

        return listed

    def _defined_of(self, kind: str) -> Handler:
        async def found(request: web.Request) -> web.Response:
            name = request.match_info["id"]
            for item in self.definitions.items(kind, self.model, self.clock.now()):
                if item["id"] == name:
                    return answer(item)
            raise _unknown(name)

        return found

    async def _dead_letters(self, request: web.Request) -> web.Response:
        return _listed(await self.dead_letters.page(request))

    async def _explain(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        chain = explain(self.store, name)
        if chain is None:
            raise _unknown(name)
        return answer(chain)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        wish = _wish(request)
        if self.feed.full:
            raise Refusal(503, "Service Unavailable", "too many follow already")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})

        def cut() -> None:
            if request.transport is not None:
                request.transport.abort()

        with self.feed.follow(wish, cut) as follower, contextlib.suppress(ConnectionError):
            await response.prepare(request)
            # An answer has no headers until something is written: a client must know that it follows from now on.
            event: bytes | None = b": following\n\n"
            while event is not None:
                await response.write(event)
                try:
                    event = await follower.next(_BEAT)
                except TimeoutError:
                    event = b": still here\n\n"  # only writing tells that a client has gone
        return response


def _wish(request: web.Request) -> Wish:
    """Return what a request wants to follow. Raises Refusal."""
    kinds = frozenset(request.query.getall("kind", []))
    if not kinds <= {*ITEMS, RECORD}:
        raise bad(f"'kind' is one of {', '.join(ITEMS)}, {RECORD}")
    for name in request.query:
        if name != "kind" and (name not in ("stream", "host") or RECORD not in kinds):
            raise bad(f"'{name[:80]}' says nothing here: 'kind', and of records 'stream' and 'host', may be given")
    return Wish(kinds, request.query.get("stream", "*"), request.query.get("host"))


def _listed(found: Page) -> web.Response:
    return answer({"items": [msgspec.Raw(item) for item in found.items], "next": found.next})


def _unknown(name: str) -> Refusal:
    return unknown(f"nothing is known of '{name[:100]}'")
