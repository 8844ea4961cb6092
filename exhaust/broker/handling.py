"""What both brokers do alike: end what a publisher awaits, call a handler, slow down when it fails, bury the dead."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from exhaust.broker.interface import REDELIVER, Binding, Delivery, Disposition, Handler, Publication, Queue
from exhaust.errors import BrokerError

DEAD = "exhaust.dead"
# Dead letters wait for the collector: the oldest go first when it does not come.
MOST_DEAD = 100_000
MOST_DEAD_BYTES = 256 << 20
# Classic, since a quorum queue counts every look at a dead letter as a failed delivery and drops it in the end.
DEAD_QUEUE = Queue(DEAD, (Binding(DEAD, "#"),), leader=False, most=MOST_DEAD)
_LONGEST_REASON = 2_000
_LONGEST_NAME = 255
_MOST_HEADERS = 32 * 1024
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0

log = logging.getLogger(__name__)


def fail(future: asyncio.Future[None], error: BrokerError) -> None:
    """End a future with an error that nobody has to look at."""
    if not future.done():
        future.set_exception(error)
        future.exception()


def failed(error: BrokerError) -> asyncio.Future[None]:
    """Return what ends with this error when awaited."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    fail(future, error)
    return future


async def handle(handler: Handler, deliveries: Sequence[Delivery]) -> Sequence[Disposition] | None:
    """Return what the handler wants done with each delivery; None if it failed."""
    try:
        dispositions = await handler(deliveries)
        if len(dispositions) != len(deliveries):
            raise ValueError(f"{len(dispositions)} dispositions for {len(deliveries)} deliveries")
    except Exception:
        log.exception("handler failed", extra={"queue": deliveries[0].queue, "messages": len(deliveries)})
        return None
    return dispositions


def redeliver_all(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
    return [REDELIVER] * len(deliveries)


def pause_after(failures: int) -> float:
    """Return how long to hold messages back after so many failures in a row, so that a bad one does not spin."""
    return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures - 1, 10))) if failures else 0.0


def dead_letter(delivery: Delivery, reason: str) -> Publication:
    """Return the publication that keeps a message with why it is dead and where it was bound for."""
    return Publication(
        DEAD,
        delivery.queue,
        delivery.id,
        delivery.type,
        delivery.body,
        delivery.time,
        {
            **_fitting(delivery.headers),
            "x-reason": reason[:_LONGEST_REASON],
            "x-exchange": delivery.exchange,
            "x-key": delivery.key,
            "x-queue": delivery.queue,
        },
    )


def _fitting(headers: Mapping[str, str | int]) -> dict[str, str | int]:
    """Return the headers that can be written for sure: a message that cannot be buried would come again for ever."""
    kept: dict[str, str | int] = {}
    left = _MOST_HEADERS
    for name, value in headers.items():
        size = len(name.encode()) + (len(value.encode()) if isinstance(value, str) else 0) + 16
        fits = len(name.encode()) <= _LONGEST_NAME and size <= left
        if fits and (isinstance(value, str) or -(1 << 63) <= value < 1 << 63):
            kept[name] = value
            left -= size
    return kept
