"""A batch as its headers tell of it, which is all that the ledger reads of most."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec

from exhaust.broker.interface import Delivery
from exhaust.errors import MessageError
from exhaust.routing import BACKLOG, TELEMETRY, word

CUSTOM = "custom"
"""The emitter of what people and programs send over HTTP: it has no signs of life of its own."""

# So large that no source comes near, and so small that sums of them can still be told as JSON.
Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
Epoch = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
_UNKNOWN = "unknown"
_LONGEST_HOST = 230
_STRETCH = re.compile(r"([0-9]{1,16}):([0-9]{1,13})-([0-9]{1,13})")
ID = re.compile(r"[\w.:+-]{1,128}", re.ASCII)
"""What is taken as an id of a message: those of others come from whoever may publish."""


class Arrival(msgspec.Struct, frozen=True):
    """`count` is of its records; `dropped` of those, by reason, that its emitter gave up before it.

    `forgone` are numbers of its stream that will never come: the epoch, the first and the last of each stretch.
    `live` is what came by the road of fresh evidence, `backlog` what was held up and sent again. What came with an id
    that is none has no `id`.
    """

    host: Word
    emitter: Word
    stream: Word
    epoch: Epoch
    seq: Number
    count: Number
    time: float
    id: str = ""
    live: bool = True
    backlog: bool = False
    dropped: Mapping[str, int] = {}
    forgone: tuple[tuple[int, int, int], ...] = ()


class _Headers(msgspec.Struct, frozen=True):
    host: Word
    emitter: Word
    stream: Word
    epoch: Epoch
    seq: Number
    count: Number
    dropped: Number
    forgone: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class _Body(msgspec.Struct):
    dropped: dict[str, Number] = {}


_dropped = msgspec.json.Decoder(_Body).decode


def read_arrival(delivery: Delivery, *, resent: bool = False) -> Arrival:
    """Return what the headers say. A batch that was `resent` from the dead letters is no sign of life.

    Raise MessageError where they are not a batch's, or not those of its key.
    """
    try:
        told = msgspec.convert(delivery.headers, _Headers)
    except msgspec.ValidationError as exc:
        raise MessageError(f"the headers are not a batch's: {exc}") from exc
    host = word(told.host)
    if len(host.encode()) > _LONGEST_HOST:
        raise MessageError(f"the host '{told.host[:80]}…' has a name too long for the keys of facts about it")
    if delivery.key != f"{host}.{told.emitter}.{told.stream}":
        raise MessageError(f"misattributed: a batch of {told.host} came with the key {delivery.key}")
    return Arrival(
        told.host,
        told.emitter,
        told.stream,
        told.epoch,
        told.seq,
        told.count,
        delivery.time,
        delivery.id if ID.fullmatch(delivery.id) else "",
        delivery.exchange == TELEMETRY and not resent,
        delivery.exchange == BACKLOG and not resent,
        _reasons(delivery.body, told.dropped) if told.dropped else {},
        tuple(_stretches(told.forgone)) if told.forgone else (),
    )


def _stretches(text: str) -> Iterator[tuple[int, int, int]]:
    """Read `epoch:first-last` of each stretch, with commas between them."""
    for part in text.split(","):
        found = _STRETCH.fullmatch(part)
        if found is None:
            raise MessageError(f"the headers are not a batch's: '{part[:80]}' is no stretch of numbers")
        epoch, first, last = map(int, found.groups())
        if first <= last:
            yield epoch, first, last


def _reasons(body: bytes, dropped: int) -> dict[str, int]:
    """Return why records were dropped, as the body says; that many of which nobody says why, where it does not."""
    try:
        reasons = _dropped(body).dropped
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        reasons = {}
    return reasons if sum(reasons.values()) == dropped else {_UNKNOWN: dropped}
