"""What could not be handled, kept for people: to be seen, and sent again to the queue that refused it."""

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from collector.account import Name
from collector.arrival import Arrival, read_arrival
from collector.shelf import Place, Shelf
from exhaust import resending
from exhaust.broker.frames import DEATHS
from exhaust.broker.interface import Delivery
from exhaust.errors import MessageError
from exhaust.ids import derived_id
from exhaust.routing import BACKLOG, COMMANDS, KNOWLEDGE, RESULTS, TELEMETRY
from exhaust.worker import Keep, Rows

MOST = 10_000
MOST_BYTES = 64 << 20
KIND = "letter"
_LONGEST = 300
_WHY = ("x-reason", "x-exchange", "x-key", "x-queue")


class Letter(msgspec.Struct, frozen=True):
    """A dead letter: which `message` it was, by which exchange and key it had come, which queue's reader refused it.

    `time` is the message's own, `received` when it came to lie here, `attempts` how often it was sent again before;
    `batch` is there where it was one.
    """

    id: str
    message: str
    time: float
    received: float
    type: str
    host: str | None
    stream: str | None
    queue: str
    exchange: str
    key: str
    reason: str
    attempts: int
    size: int
    headers: dict[str, str | int]
    batch: Arrival | None = None

    @property
    def by_broker(self) -> bool:
        """Whether its x-death says that a broker made it a dead letter; who may publish one can write that too."""
        return self.reason in DEATHS

    def delivery(self, body: bytes) -> Delivery:
        """Return the message as it came to the queue that refused it."""
        about = (self.message, self.type, body, self.time, self.headers)
        return Delivery(self.exchange, self.key, *about, self.queue, 1)


def read_letter(delivery: Delivery, received: float) -> Letter:
    """Return what is to be known of a dead letter. Its headers may hold anything: whoever published it wrote them."""
    headers = dict(delivery.headers)
    reason, exchange, key, queue = (str(headers.pop(name, "")) for name in _WHY)
    if not exchange:  # it had been sent again
        exchange, key = str(headers.get(resending.EXCHANGE, "")), str(headers.get(resending.KEY, ""))
    attempts = headers.get(resending.COUNT, 0)
    batch = _batch(replace(delivery, exchange=exchange, key=key))
    return Letter(
        id=derived_id("dead/1", (delivery.id, queue, hashlib.sha256(delivery.body).hexdigest()), "collector"),
        message=delivery.id,
        time=delivery.time,
        received=received,
        type=delivery.type,
        host=_host(exchange, key),
        stream=None if batch is None else f"{batch.emitter}.{batch.stream}",
        queue=queue,
        exchange=exchange,
        key=key,
        reason=reason[:_LONGEST],
        attempts=attempts if isinstance(attempts, int) else 0,
        size=len(delivery.body),
        headers=resending.plain(headers),
        batch=batch,
    )


def _batch(delivery: Delivery) -> Arrival | None:
    try:
        return read_arrival(delivery) if delivery.exchange in (TELEMETRY, BACKLOG) else None
    except MessageError:
        return None


def _host(exchange: str, key: str) -> str | None:
    """Return the host that a key names, where one of its kind does."""
    place = {TELEMETRY: 0, BACKLOG: 0, COMMANDS: 0, RESULTS: 0, KNOWLEDGE: 1}.get(exchange)
    words = key.split(".")
    if place is None or len(words) <= place or words[place] in ("", "-"):
        return None
    return unquote(words[place])


class _Held(NamedTuple):
    """As much of a letter as is remembered beside the rows that keep it."""

    weight: int
    attempts: int
    batch: Arrival | None
    by_broker: bool


class Letters:
    """The newest ones: `most` of them, and so many bytes together."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self.shelf = Shelf(most)
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._batches: defaultdict[tuple[Name, int], dict[int, set[str]]] = defaultdict(dict)
        self._bytes = 0
        self.forgotten = 0

    def recall(self, rows: Rows) -> None:
        for name in list(self._held):
            self._remove(name)
        for _, row in rows(f"{KIND}/"):
            self._put(msgspec.json.decode(row, type=Letter))
        for _, name in reversed(self.shelf.newest(len(self._held))):
            self._held.move_to_end(name)

    def __len__(self) -> int:
        return len(self._held)

    def add(self, letter: Letter, body: bytes) -> Iterator[Keep]:
        """Keep a letter; the oldest go where it is too much, but not for one that is too much alone."""
        yield from self.remove(letter.id)
        if self._put(letter) > self._most_bytes:
            self.forgotten += 1
            self._remove(letter.id)
            return
        yield Keep(letter_key(letter.id), letter)
        yield Keep(body_key(letter.id), body)
        while self.shelf.surplus() or self._bytes > self._most_bytes:
            self.forgotten += 1
            yield from self.remove(next(iter(self._held)))

    def remove(self, name: str) -> Iterator[Keep]:
        self._remove(name)
        yield Keep(letter_key(name), None)
        yield Keep(body_key(name), None)

    def lies(self, letter: Letter) -> bool:
        """Whether a letter lies here as it is, neither gone nor come anew."""
        held = self._held.get(letter.id)
        return held is not None and held.attempts == letter.attempts

    def batches(self, stream: Name, epoch: int) -> Iterator[tuple[Arrival, bool]]:
        """Yield the batches of one epoch of a stream that lie here, and whether by the broker's doing.

        One that several refused comes more than once.
        """
        for names in self._batches.get((stream, epoch), {}).values():
            for held in map(self._held.__getitem__, sorted(names)):
                if held.batch is not None:
                    yield held.batch, held.by_broker

    def holds(self, batch: Arrival) -> bool:
        """Whether this batch lies here, refused by whomever."""
        return batch.seq in self._batches.get(_epoch(batch), ())

    def _put(self, letter: Letter) -> int:
        weight = letter.size + sum(len(name) + len(str(value)) for name, value in letter.headers.items())
        self._held[letter.id] = _Held(weight, letter.attempts, letter.batch, letter.by_broker)
        self._bytes += weight
        self.shelf.put(letter.id, Place(letter.received, letter.received, over=True))
        if letter.batch is not None:
            self._batches[_epoch(letter.batch)].setdefault(letter.batch.seq, set()).add(letter.id)
        return weight

    def _remove(self, name: str) -> None:
        held = self._held.pop(name, None)
        if held is None:
            return
        self._bytes -= held.weight
        self.shelf.remove(name)
        if held.batch is not None:
            others = self._batches[_epoch(held.batch)]
            others[held.batch.seq].discard(name)
            if not others[held.batch.seq]:
                del others[held.batch.seq]
            if not others:
                del self._batches[_epoch(held.batch)]


def _epoch(batch: Arrival) -> tuple[Name, int]:
    return (batch.host, batch.emitter, batch.stream), batch.epoch


def letter_key(name: str) -> str:
    """Return the key under which a letter is kept, without its body."""
    return f"{KIND}/{name}"


def body_key(name: str) -> str:
    return f"body/{name}"
