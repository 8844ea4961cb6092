"""By what a component knows a message again that it has handled."""

from exhaust.broker.handling import DEAD
from exhaust.broker.interface import Delivery
from exhaust.resending import first_exchange
from exhaust.routing import BACKLOG, TELEMETRY

# Batches are told apart by their numbers, and a dead letter has the id of what it was: who reads these, looks.
_NOT_BY_ID = frozenset((TELEMETRY, BACKLOG, DEAD))


def mark_of(delivery: Delivery) -> str | None:
    """Return what a message is known by once it was handled; None where its reader tells it from others by itself.

    Not the id alone: who may write into one exchange must not have what comes by another taken for a duplicate. What
    was re-sent is the message that it was at first; before it is marked, `unpack` has seen that it says so rightly.
    """
    # Earlier versions marked by the id alone. What they have handled and not acknowledged is handled once more after an
    # upgrade, but nothing is done twice: the deciders know their executions, effect keys, episodes and newest orders.
    exchange = first_exchange(delivery)
    return None if exchange in _NOT_BY_ID else f"{exchange}/{delivery.id}"
