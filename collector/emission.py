"""What people and programs emit over HTTP: records made batches of the emitter `custom`, numbered as any other's."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import msgspec
from aiohttp import web

from collector.access import Need
from collector.answers import accepted
from collector.arrival import CUSTOM
from collector.body import read_records
from collector.refusal import Refusal, bad
from exhaust.clock import Clock
from exhaust.ids import new_id
from exhaust.messages import Batch
from exhaust.store import Store
from exhaust.worker import Effect, Keep

NEED = Need("emit", 1024 * 1024)
MOST_RECORDS = 500
MOST_BYTES = 256 * 1024
MOST_STREAMS = 1000
# Of batches without a confirm, at most 256 KiB each: as much as a spool holds.
MOST_WAITING = 1000
_KEY = "emitted"
_STREAM = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)

Put = Callable[[Iterable[Effect]], None]


class Numbers(msgspec.Struct):
    """The next sequence number of each stream in an epoch, which is of one start."""

    epoch: int
    next: dict[str, int] = {}


class Emission:
    """Takes records into the outbox. Sequence numbers start at 0 in each epoch, and leave no gap.

    An epoch is a start, numbered by the milliseconds since 1970: where the store is lost, none comes again.
    """

    def __init__(self, store: Store, put: Put, host: str, clock: Clock) -> None:
        self._store = store
        self._put = put
        self._host = host
        self._clock = clock
        last = self._kept()
        self._epoch = max(int(clock.now() * 1000), 0 if last is None else last.epoch + 1)

    async def emit(self, request: web.Request) -> web.Response:
        """Answer 202 once all records of a request are on disk; where one of them is wrong none is taken."""
        stream = request.match_info["stream"]
        if not _STREAM.fullmatch(stream):
            raise bad(f"'{stream[:80]}' is no stream: 1 to 64 of a-z, 0-9, _ and - are needed")
        records = await read_records(request, self._clock.now())
        self._take(stream, records)
        return accepted({"records": len(records)})

    def _take(self, stream: str, records: Sequence[bytes]) -> None:
        if self._store.backlog() >= MOST_WAITING:
            raise Refusal(503, "Service Unavailable", "the broker takes nothing just now: nothing was taken, try again")
        numbers = self._numbers()
        if stream not in numbers.next and len(numbers.next) >= MOST_STREAMS:
            raise bad(f"there are {MOST_STREAMS} streams already, '{stream}' would be one more")
        first = numbers.next.get(stream, 0)
        batches = list(self._batches(stream, records, first))
        if batches:
            numbers.next[stream] = first + len(batches)
            self._put([*batches, Keep(_KEY, numbers)])

    def _numbers(self) -> Numbers:
        kept = self._kept()
        return kept if kept is not None and kept.epoch == self._epoch else Numbers(self._epoch)

    def _kept(self) -> Numbers | None:
        row = self._store.get(_KEY)
        return None if row is None else msgspec.json.decode(row, type=Numbers)

    def _batches(self, stream: str, records: Sequence[bytes], first: int) -> Iterator[Batch]:
        now = self._clock.now()
        for seq, part in enumerate(_parts(records), first):
            raw = [msgspec.Raw(record) for record in part]
            yield Batch(
                id=new_id(now),
                time=now,
                host=self._host,
                emitter=CUSTOM,
                stream=stream,
                epoch=self._epoch,
                seq=seq,
                records=cast("list[dict[str, object]]", raw),  # encoded already, as the codec passes them on
            )


def _parts(records: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Cut into batches that are neither too many records nor too large."""
    part: list[bytes] = []
    size = 0
    for record in records:
        if len(part) == MOST_RECORDS or (part and size + len(record) > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(record)
        size += len(record)
    if part:
        yield part
