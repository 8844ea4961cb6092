"""What people want done: trigger, halt and resume, as signed orders that are on disk before they are answered."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from collector.access import CALLER, Need
from collector.answers import accepted
from collector.body import read_json
from collector.definitions import Definitions, check_inputs
from collector.feed import Feed
from collector.items import OrderItem, order_item
from collector.model import ReadModel
from collector.refusal import Refusal, bad
from exhaust.clock import Clock
from exhaust.ids import derived_id, execution_of, new_id
from exhaust.messages import Order
from exhaust.store import Store
from exhaust.worker import Effect

TRIGGER = Need("trigger")
HALT = Need("halt")
_MOST_REASON = 300
# An order travels sealed, a third longer, in at most 64 KiB.
_MOST_INPUTS = 32 * 1024
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


class _Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{"host"?, "reason"?}`, of a halt or a resume; without a host it is of everything."""

    host: str | None = None
    reason: str | None = None


class _Run(_Wish, frozen=True, forbid_unknown_fields=True):
    """`{"inputs"?, "host"?, "reason"?}`, of a trigger."""

    inputs: dict[str, Any] | None = None


class Orders:
    """Takes them from people; `put` makes effects durable and sends what is to be sent."""

    def __init__(
        self,
        model: ReadModel,
        store: Store,
        feed: Feed,
        definitions: Definitions,
        clock: Clock,
        put: Callable[[Iterable[Effect]], None],
    ) -> None:
        self._model = model
        self._store = store
        self._feed = feed
        self._definitions = definitions
        self._clock = clock
        self._put = put

    async def trigger(self, request: web.Request) -> web.Response:
        """Answer 202 with the id of the run: the activator decides, by its guards, whether it comes to one."""
        name = request.match_info["id"]
        source = self._definitions.workflow(name)
        wish = await read_json(request, _Run)
        inputs = wish.inputs or {}
        check_inputs(source, inputs)
        if len(msgspec.json.encode(inputs)) > _MOST_INPUTS:
            raise Refusal(413, "Content Too Large", f"inputs of at most {_MOST_INPUTS} bytes")
        host = self._definitions.target(source, wish.host)
        order = self._send(request, "trigger", name, wish, inputs=inputs, host=host)
        return accepted({"execution": execution_of(order.id), "order": order.id})

    async def halt(self, request: web.Request) -> web.Response:
        return await self._hold(request, "halt")

    async def resume(self, request: web.Request) -> web.Response:
        return await self._hold(request, "resume")

    async def _hold(self, request: web.Request, what: str) -> web.Response:
        wish = await read_json(request, _Wish)
        self._definitions.check_host(wish.host)
        return accepted({"order": self._send(request, what, wish.host, wish).id})

    def _send(self, request: web.Request, what: Any, target: str | None, wish: _Wish, **more: Any) -> Order:
        """Store an order and send it, unless it was sent before under the same key. Raises Refusal."""
        now = self._clock.now()
        by, reason = request[CALLER].name, wish.reason or ""
        if len(reason) > _MOST_REASON:
            raise bad(f"'reason' is of {len(reason)} characters, at most {_MOST_REASON} are kept")
        order = Order(
            id=_identity(request, by, now),
            time=now if what == "trigger" else self._model.overruling(now),
            order=what,
            target=target,
            by=by,
            reason=reason,
            **more,
        )
        known = self._store.get(f"order/{order.id}")
        if known is not None:
            _compare(msgspec.json.decode(known, type=OrderItem), order)
            return order
        self._put((order, *self._model.take_order(order)))
        self._feed.publish(order)
        return order


def _identity(request: web.Request, by: str, now: float) -> str:
    """Return an order's id; the same for the same person's same `Idempotency-Key`."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return new_id(now)
    if not _KEY.fullmatch(key):
        raise bad("'Idempotency-Key' is 1 to 200 visible characters")
    return derived_id("order/1", (by, key), "collector")


def _compare(known: OrderItem, order: Order) -> None:
    """Raise Refusal where a key was used before for something else."""
    same = ("order", "target", "inputs", "host")
    before, now = _parts(known, same), _parts(order_item(order), same)
    if before != now:
        other = ", ".join(field for field in same if before[field] != now[field])
        raise Refusal(409, "Conflict", f"this 'Idempotency-Key' was used for an order with another {other}")


def _parts(item: OrderItem, fields: Iterable[str]) -> Mapping[str, Any]:
    return {field: getattr(item, field) for field in fields}
