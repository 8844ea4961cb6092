"""Where records are safe before they are sent: batches are numbered, stored and handed to the broker."""

import asyncio
import contextlib
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from exhaust.broker.interface import Broker, Publication
from exhaust.ids import new_id
from exhaust.messages import Batch
from exhaust.outbox import Outbox
from exhaust.store import Store
from exhaust.wire import pack

MOST_BYTES = 256 << 20
_DRAIN_WITHIN = 3.0
_LOOK_AGAIN = 0.01

Stream = tuple[str, str]
Parcel = tuple[Stream, Sequence[msgspec.Raw]]


@dataclass(slots=True)
class _Stretch:
    """Some consecutive publications in the store: the number of the last, and their bytes together."""

    last: int
    size: int


class Spool:
    """Batches of one host and epoch. What `put` took is on disk when it returns, and on its way.

    Once `most` bytes have no confirm yet, records are dropped, and the next batch of their stream says how many.
    """

    def __init__(self, store: Store, broker: Broker, host: str, *, most: int = MOST_BYTES) -> None:
        self._store = store
        self._outbox = Outbox(store, broker)
        self._host = host
        self._most = most
        self._numbers: dict[Stream, int] = {}
        self._dropped: dict[Stream, Counter[str]] = {}
        self._lost: Counter[str] = Counter()
        self._stretches: deque[_Stretch] = deque()
        self._size = 0

    def recall(self) -> None:
        """Count what an earlier run has left; once, before anything is put."""
        last = 0
        while page := self._store.unsent(last, 64):
            for number, publication in page:
                self._weigh(number, publication)
            last = page[-1][0]

    def put(self, parcels: Sequence[Parcel], now: float) -> None:
        """Make a batch of each parcel and store all in one transaction. Raises StoreError."""
        if self._full():
            for stream, records in parcels:
                self.drop(stream, "spool_full", len(records))
        elif parcels:
            self._commit(parcels, now)

    def drop(self, stream: Stream, reason: str, count: int) -> None:
        """Count records that go no further; the stream's next batch tells of them."""
        if count:
            self._dropped.setdefault(stream, Counter())[reason] += count
            self._lost[reason] += count

    def batches(self, emitter: str) -> int:
        """Return how many batches of an emitter were stored in this epoch."""
        return sum(count for stream, count in self._numbers.items() if stream[0] == emitter)

    async def run(self) -> None:
        """Send until cancelled."""
        await self._outbox.run()

    async def drain(self, now: float) -> None:
        """Tell what was dropped, and wait a while for the confirms; what gets none is sent by the next run."""
        if self._dropped:
            self._commit([(stream, ()) for stream in self._dropped], now)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_WITHIN):
                while self._outbox.well and self._store.backlog():
                    await self._outbox.drained()
                    await asyncio.sleep(_LOOK_AGAIN)

    def status(self) -> dict[str, Any]:
        return {
            "unsent": self._store.backlog(),
            "bytes": self._unconfirmed(),
            "dropped": dict(self._lost),
            "epoch": self._store.epoch,
            "last_error": self._outbox.last_error,
        }

    def _commit(self, parcels: Sequence[Parcel], now: float) -> None:
        # Sequence numbers and counts of what was dropped are used up only if the commit succeeds.
        numbers, dropped = self._numbers.copy(), self._dropped.copy()
        publications = []
        for stream, records in parcels:
            batch = Batch(
                id=new_id(now),
                time=now,
                host=self._host,
                emitter=stream[0],
                stream=stream[1],
                epoch=self._store.epoch,
                seq=numbers.get(stream, 0),
                dropped=dict(dropped.pop(stream, {})),
                records=cast("list[dict[str, Any]]", records),  # encoded already, as the codec passes them on
            )
            numbers[stream] = batch.seq + 1
            publications.append(pack(batch))
        stored = self._store.commit(send=publications, sent=self._outbox.confirmed())
        self._numbers, self._dropped = numbers, dropped
        for number, publication in zip(stored, publications, strict=True):
            self._weigh(number, publication)
        self._outbox.post(stored, publications)

    def _weigh(self, number: int, publication: Publication) -> None:
        size = len(publication.body)
        self._size += size
        # Summed up in stretches: a long outage must not cost memory for each batch.
        if not self._stretches or self._stretches[-1].size > self._most // 256:
            self._stretches.append(_Stretch(number, size))
        else:
            self._stretches[-1].last = number
            self._stretches[-1].size += size

    def _full(self) -> bool:
        return self._size >= self._most and self._unconfirmed() >= self._most

    def _unconfirmed(self) -> int:
        """Forget what the store has sent, and return the bytes of the rest, to within a stretch."""
        oldest = self._store.unsent(0, 1)
        first = oldest[0][0] if oldest else math.inf
        while self._stretches and self._stretches[0].last < first:
            self._size -= self._stretches.popleft().size
        return self._size
