"""What the rest of the project knows of a broker: publications, deliveries, and what becomes of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Publication:
    """One message on its way out. `expires` is seconds that it may wait in a queue before it is dead-lettered.

    Of those about one `subject` that are yet to be sent only the newest matters.
    """

    exchange: str
    key: str
    id: str
    type: str
    body: bytes
    time: float
    headers: Mapping[str, str | int] = field(default_factory=dict)
    expires: float | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message that arrived. `attempt` counts deliveries from 1; `queue` is the one that it came through."""

    exchange: str
    key: str
    id: str
    type: str
    body: bytes
    time: float
    headers: Mapping[str, str | int]
    queue: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Done with it: it is safe elsewhere."""


@dataclass(frozen=True, slots=True)
class Redeliver:
    """Give it again, to whoever consumes then; past the queue's limit it is dead-lettered."""


@dataclass(frozen=True, slots=True)
class Reject:
    """No retry can mend it: dead-letter it with the reason."""

    reason: str


Disposition = Acknowledge | Redeliver | Reject
ACKNOWLEDGE = Acknowledge()
REDELIVER = Redeliver()

# Gets what has arrived, oldest first, at most `prefetch` of them and never two calls of one consumer at once;
# returns a disposition for each. An exception counts as Redeliver for all of them, and is logged.
Handler = Callable[[Sequence[Delivery]], Awaitable[Sequence[Disposition]]]


@dataclass(frozen=True, slots=True)
class Binding:
    """A queue's interest in an exchange's keys: words between dots, `*` for one, `#` for any number."""

    exchange: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue. `leader` ones are quorum queues with a single active consumer; others classic and exclusive.

    `expires_to` is the (exchange, key) that gets what expires unread, instead of the dead letters. A queue with `keep`
    holds so many bytes and then loses its oldest: for a reader who may stay away without stopping the others.
    """

    name: str
    bindings: tuple[Binding, ...]
    leader: bool = True
    delivery_limit: int = 20
    most: int | None = None
    expires_to: tuple[str, str] | None = None
    keep: int | None = None


class Broker(Protocol):
    """Opened by `async with`; closing it ends in bounded time, whatever the state of the connection."""

    @property
    def connected(self) -> bool: ...

    async def declare(self, exchanges: Sequence[str], queues: Sequence[Queue]) -> None:
        """Make sure that these exist and are bound; asking twice is harmless."""

    def publish(self, publication: Publication) -> Awaitable[None]:
        """Send now, in the order of the calls; what is returned ends with the confirm.

        It raises UnroutableError, UncertainError (send again with the same id) or BrokerError (not sent).
        """

    def consume(self, queue: Queue, handler: Handler, *, prefetch: int = 256) -> AbstractAsyncContextManager[None]:
        """Consume while the context is open. Leaving it stops new deliveries, then waits for the handler to end."""
