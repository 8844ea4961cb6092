"""What is halted: everything, or single hosts, by the newest order for each; remembered across restarts."""

from collections.abc import Iterator

import msgspec

from exhaust.messages import Order
from exhaust.worker import Keep, Rows

_PREFIX = "halt/"


class Halts:
    """Of the orders that concern a host the newest counts, so that an old one sent again changes nothing."""

    def __init__(self) -> None:
        self._newest: dict[str | None, Order] = {}

    def recall(self, rows: Rows) -> None:
        orders = [msgspec.json.decode(body, type=Order) for _, body in rows(_PREFIX)]
        self._newest = {order.target: order for order in orders}

    def take(self, order: Order) -> Iterator[Keep]:
        """Take a `halt` or a `resume`; yields nothing where it is older than what stands, or another kind of order."""
        if order.order not in ("halt", "resume"):
            return
        known = self._newest.get(order.target)
        if known is None or (order.time, order.id) > (known.time, known.id):
            self._newest[order.target] = order
            yield Keep(f"{_PREFIX}{order.target or ''}", order)

    def over(self, host: str | None) -> Order | None:
        """Return the order that keeps a host from being acted upon; None where it may be."""
        if not self._newest:
            return None
        standing = [order for target in {None, host} if (order := self._newest.get(target)) is not None]
        newest = max(standing, key=lambda order: (order.time, order.id), default=None)
        return newest if newest is not None and newest.order == "halt" else None

    def standing(self) -> list[Order]:
        """Return the halts in force, of everything first."""
        targets = sorted(self._newest, key=lambda target: target or "")
        halts = (order for target in targets if (order := self.over(target)) is not None)
        return list({order.id: order for order in halts}.values())
