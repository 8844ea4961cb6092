"""An outbox at work before a broker whose confirms a test gives by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import Publication
from exhaust.errors import UnroutableError
from exhaust.outbox import Outbox
from exhaust.store import Store

WITHIN = 10.0


class Line(Embedded):
    """A broker whose confirms a test gives by hand. `sent` is every publication's id in the order of the calls.

    Publications for a key in `closed` fail at once, with the error that stands there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.open: dict[str, asyncio.Future[None]] = {}
        self.closed: dict[str, Exception] = {}
        self.prompt = False
        self.twice = False

    def publish(self, publication: Publication) -> Awaitable[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent.append(publication.id)
        self.twice |= publication.id in self.open
        if error := self.closed.get(publication.key):
            future.set_exception(error)
        elif self.prompt:
            future.set_result(None)
        else:
            self.open[publication.id] = future
        return future

    def confirm(self, *ids: str) -> None:
        for one in ids:
            self.open.pop(one).set_result(None)

    def fail(self, error: Exception, *ids: str) -> None:
        for one in ids:
            self.open.pop(one).set_exception(error)


class Desk:
    """A store, its outbox at work, and the line."""

    def __init__(self, store: Store, line: Line) -> None:
        self.store = store
        self.line = line
        self.outbox = Outbox(store, line)

    def post(self, *ids: str, key: str = "k", time: float = 1.0, expires: float | None = None) -> list[int]:
        publications = [Publication("x", key, one, "t", b"", time, expires=expires) for one in ids]
        numbers = self.store.commit(send=publications, sent=self.outbox.confirmed())
        self.outbox.post(numbers, publications)
        return numbers

    async def sent(self, *ids: str) -> None:
        """Wait until these, in this order, were handed to the broker, and nothing besides."""
        await eventually(lambda: len(self.line.sent) >= len(ids))
        assert self.line.sent == list(ids)

    async def empty(self) -> None:
        await eventually(lambda: not self.store.backlog())


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110  what is waited for has no event of its own
            await asyncio.sleep(0.001)


@asynccontextmanager
async def working(store: Store, *, before: Sequence[str] = (), unwanted: int = 0) -> AsyncIterator[Desk]:
    desk = Desk(store, Line())
    if unwanted:
        desk.line.closed["unwanted"] = UnroutableError("no queue")
        desk.post(*(f"u{n}" for n in range(unwanted)), key="unwanted")
    desk.post(*before)
    running = asyncio.create_task(desk.outbox.run())
    for _ in range(5):
        await asyncio.sleep(0)
    yield desk
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert not desk.line.twice
