"""The HTTP API: the read model to those who hold the token."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from collector.access import LARGEST_BODY, Gate, harden, problem
from collector.explain import explain
from collector.feed import Feed
from collector.items import ITEMS
from collector.model import ReadModel
from collector.overview import overview
from collector.pages import page, read_query
from exhaust.clock import Clock
from exhaust.errors import UsageError
from exhaust.store import Store

_BEAT = 15.0


class Api:
    """The routes over one store and model; `status` tells of this component itself, `ready` what is in order."""

    def __init__(
        self,
        model: ReadModel,
        store: Store,
        feed: Feed,
        state: Path,
        clock: Clock,
        *,
        status: Callable[[], Mapping[str, Any]],
        ready: Callable[[], Mapping[str, bool]],
    ) -> None:
        self._model = model
        self._store = store
        self._feed = feed
        self._state = state
        self._clock = clock
        self._status = status
        self._ready = ready

    def app(self, token: str) -> web.Application:
        app = web.Application(middlewares=[Gate(token)], client_max_size=LARGEST_BODY)
        app.on_response_prepare.append(harden)
        add = app.router.add_get
        add("/healthz", self._healthz)
        add("/readyz", self._readyz)
        add("/status", self._overview)
        for kind in ITEMS:
            add(f"/api/v1/{kind}s", self._list_of(kind))
            add(f"/api/v1/{kind}s/{{id}}", self._item_of(kind))
        add("/api/v1/explain/{id}", self._explain)
        add("/api/v1/stream", self._stream, allow_head=False)
        return app

    async def _healthz(self, request: web.Request) -> web.Response:
        return _json({"alive": True})

    async def _readyz(self, request: web.Request) -> web.Response:
        checks = dict(self._ready())
        return _json(checks, status=200 if all(checks.values()) else 503)

    async def _overview(self, request: web.Request) -> web.Response:
        own = ("collector", self._status())
        return _json(await overview(self._model, self._store, self._state, self._clock.now(), own))

    def _list_of(self, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            try:
                query = read_query(kind, request.query.items())
            except UsageError as exc:
                return problem(400, "Bad Request", str(exc))
            found = await page(self._store, self._model.shelves[kind], query)
            return _json({"items": [msgspec.Raw(item) for item in found.items], "next": found.next})

        return answer

    def _item_of(self, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            name = request.match_info["id"]
            subject = self._store.get(f"id/{name}")
            key = msgspec.json.decode(subject, type=str) if subject else ""
            item = self._store.get(key) if key.startswith(f"{kind}/") else None
            return _json(msgspec.Raw(item)) if item is not None else _unknown(name)

        return answer

    async def _explain(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        chain = explain(self._store, name)
        return _json(chain) if chain is not None else _unknown(name)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        kinds = frozenset(request.query.getall("kind", []))
        if not kinds <= ITEMS.keys():
            return problem(400, "Bad Request", f"'kind' is one of {', '.join(ITEMS)}")
        if self._feed.full:
            return problem(503, "Service Unavailable", "too many follow already")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})

        def cut() -> None:
            if request.transport is not None:
                request.transport.abort()

        with self._feed.follow(kinds, cut) as follower, contextlib.suppress(ConnectionError):
            await response.prepare(request)
            # An answer has no headers until something is written: a client must know that it follows from now on.
            event: bytes | None = b": following\n\n"
            while event is not None:
                await response.write(event)
                event = await _next(follower.waiting)
        return response


async def _next(waiting: asyncio.Queue[bytes | None]) -> bytes | None:
    """Return the next event, or a sign of life: only writing tells that a client has gone."""
    try:
        return await asyncio.wait_for(waiting.get(), _BEAT)
    except TimeoutError:
        return b": still here\n\n"


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), content_type="application/json", status=status)


def _unknown(name: str) -> web.Response:
    return problem(404, "Not Found", f"nothing is known of '{name[:100]}'")
