"""The few AMQP frames that every message passes through, written and read without going through objects.

What is rare (opening, declaring, cancelling) is left to pamqp; see benchmarks/hops.py for what this saves.
"""

import logging
import math
from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Any

from pamqp import decode

from exhaust.broker.interface import Delivery, Publication
from exhaust.errors import BrokerError

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"
ALIVE = b"\x08\x00\x00\x00\x00\x00\x00\xce"

DELIVER, RETURN, ACK, NACK = 0x3C003C, 0x3C0032, 0x3C0050, 0x3C0078
CANCELLED = 0x3C001E  # basic.cancel, sent by the broker
CONNECTION_CLOSE, BLOCKED, UNBLOCKED = 0x0A0032, 0x0A003C, 0x0A003D

# Whole microseconds: AMQP's own timestamp holds only seconds.
TIME = "x-time"

prefix = Struct(">BHI")  # kind, channel, size of what follows
method_id = Struct(">I")
_publish = Struct(">BHIIH")
_content = Struct(">BHIHHQH")
_settle = Struct(">BHIIQBB")
_uint64 = Struct(">Q")
_int64 = Struct(">q")
_uint32 = Struct(">I")
_header_start = Struct(">HHQH")

# Bits of the content header: content type, headers, delivery mode, expiration, message id, timestamp, type.
_FLAGS, _EXPIRATION = 0x8000 | 0x2000 | 0x1000 | 0x80 | 0x40 | 0x20, 0x100
_JSON = b"\x10application/json"
_PERSISTENT = b"\x02"
_LONGEST = 255
_LATEST = 253_402_300_800.0  # the year 10000

DEATHS = frozenset(("delivery_limit", "expired", "maxlen", "rejected"))
"""Why a broker makes a message a dead letter."""

log = logging.getLogger(__name__)


def _short(text: str, what: str) -> bytes:
    data = text.encode()
    if len(data) > _LONGEST:
        raise BrokerError(f"{what} {text[:40]!r}… is longer than the {_LONGEST} bytes that AMQP allows")
    return bytes((len(data),)) + data


@lru_cache(maxsize=4096)
def _target(channel: int, exchange: str, key: str) -> bytes:
    """Return the whole method frame of a mandatory basic.publish."""
    names = _short(exchange, "exchange") + _short(key, "routing key")
    return _publish.pack(METHOD, channel, 7 + len(names), 0x3C0028, 0) + names + b"\x01" + END


@lru_cache(maxsize=1024)
def _name(text: str, what: str) -> bytes:
    return _short(text, what)


def _table(headers: Mapping[str, str | int], time: float) -> bytes:
    parts = [b"\x06x-timel", _int64.pack(round(time * 1e6))]
    for name, value in headers.items():
        if isinstance(value, str):
            data = value.encode()
            parts += (_name(name, "header"), b"S", _uint32.pack(len(data)), data)
        else:
            parts += (_name(name, "header"), b"l", _int64.pack(value))
    data = b"".join(parts)
    return _uint32.pack(len(data)) + data


def publish(channel: int, publication: Publication, frame_max: int) -> bytes:
    """Return the frames that publish it: persistent, mandatory, its body split where it must be."""
    body = publication.body
    table = _table(publication.headers, publication.time)
    flags, expiration = _FLAGS, b""
    if publication.expires is not None:
        flags |= _EXPIRATION
        expiration = _short(str(max(0, math.ceil(publication.expires * 1000))), "expiration")
    properties = b"".join(
        (
            _JSON,
            table,
            _PERSISTENT,
            expiration,
            _short(publication.id, "message id"),
            _uint64.pack(max(0, int(publication.time))),
            _name(publication.type, "type"),
        )
    )
    if len(properties) + 32 > frame_max:
        raise BrokerError(f"the headers of {publication.id!r} are larger than a frame of {frame_max} bytes")
    head = _content.pack(HEADER, channel, 14 + len(properties), 60, 0, len(body), flags)
    target = _target(channel, publication.exchange, publication.key)
    size, most = len(body), frame_max - 8
    if 0 < size <= most:
        return b"".join((target, head, properties, END, prefix.pack(BODY, channel, size), body, END))
    parts = [target, head, properties, END]
    for start in range(0, size, most):
        piece = body[start : start + most]
        parts += (prefix.pack(BODY, channel, len(piece)), piece, END)
    return b"".join(parts)


def acknowledge(channel: int, tag: int, *, multiple: bool) -> bytes:
    return _settle.pack(METHOD, channel, 13, ACK, tag, multiple, 0xCE)


def requeue(channel: int, tag: int, *, multiple: bool) -> bytes:
    return _settle.pack(METHOD, channel, 13, NACK, tag, multiple | 2, 0xCE)


def confirm(data: bytes, at: int) -> tuple[int, bool]:
    """Read a basic.ack or basic.nack from the broker: delivery tag, and whether it covers all before it."""
    return _uint64.unpack_from(data, at + 4)[0], bool(data[at + 12] & 1)


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    # What is no UTF-8 is left out: replaced it would be longer, and might not fit where it is written again.
    return data[at + 1 : end].decode("utf-8", "ignore"), end


def reason(data: bytes, at: int) -> str:
    """Read the text of a connection.close, channel.close (behind their code) or connection.blocked."""
    return _text(data, at + 4 if data[at + 1] == 0x0A and data[at + 3] == 0x3C else at + 6)[0]


def delivered(data: bytes, at: int) -> tuple[int, bool, str, str]:
    """Read a basic.deliver: delivery tag, redelivered, exchange, key."""
    at += 5 + data[at + 4]
    tag = _uint64.unpack_from(data, at)[0]
    exchange, end = _text(data, at + 9)
    return tag, bool(data[at + 8] & 1), exchange, _text(data, end)[0]


def returned(data: bytes, at: int) -> tuple[str, str]:
    """Read a basic.return: exchange, key."""
    exchange, end = _text(data, _text(data, at + 6)[1])
    return exchange, _text(data, end)[0]


def _headers(data: bytes, at: int, end: int) -> dict[str, Any]:
    """Read a field table. One that cannot be read is empty: it costs its author the message, not us the connection."""
    try:
        return _table_of(data, at, end)
    except Exception as error:  # noqa: BLE001  strangers write these, and a fault of the decoder may be any
        log.debug("headers that cannot be read", extra={"error": str(error)})
        return {}


def _table_of(data: bytes, at: int, end: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    start = at - 4
    while at < end:
        name, at = _text(data, at)
        kind = data[at]
        if kind == 0x53:  # S, a string
            stop = at + 5 + _uint32.unpack_from(data, at + 1)[0]
            found[name] = data[at + 5 : stop].decode("utf-8", "replace")
            at = stop
        elif kind == 0x6C:  # l, 64 bits
            found[name] = _int64.unpack_from(data, at + 1)[0]
            at += 9
        else:
            return dict(decode.field_table(data[start:end])[1])
    return found


class Content:
    """The content header of one message: its properties and how much body follows."""

    __slots__ = ("headers", "id", "size", "stamp", "type")

    def __init__(self, data: bytes, at: int) -> None:
        _, _, self.size, flags = _header_start.unpack_from(data, at)
        at += 14
        self.headers: dict[str, Any] = {}
        self.id = self.type = ""
        self.stamp = 0
        if flags & 0x8000:
            at += 1 + data[at]
        if flags & 0x4000:
            at += 1 + data[at]
        if flags & 0x2000:
            end = at + 4 + _uint32.unpack_from(data, at)[0]
            self.headers = _headers(data, at + 4, end)
            at = end
        at += bool(flags & 0x1000) + bool(flags & 0x0800)
        for bit in (0x0400, 0x0200, 0x0100):  # correlation id, reply to, expiration
            if flags & bit:
                at += 1 + data[at]
        if flags & 0x80:
            self.id, at = _text(data, at)
        if flags & 0x40:
            self.stamp = _uint64.unpack_from(data, at)[0]
            at += 8
        if flags & 0x20:
            self.type = _text(data, at)[0]


def _origin(deaths: Any) -> dict[str, str]:
    """Put what the broker notes of a dead letter the way that we note it of a rejected one; empty where it does not."""
    if not isinstance(deaths, list) or not deaths or not isinstance(deaths[0], dict):
        return {}  # anyone who publishes may have written it
    death = deaths[0]
    keys = death.get("routing-keys")
    return {
        "x-reason": str(death.get("reason", "")),
        "x-queue": str(death.get("queue", "")),
        "x-exchange": str(death.get("exchange", "")),
        "x-key": str(keys[0]) if isinstance(keys, list) and keys else "",
    }


def delivery(content: Content, body: bytes, queue: str, exchange: str, key: str, *, redelivered: bool) -> Delivery:
    """Put a message together; only quorum queues count deliveries, of others we know first or not."""
    headers = content.headers
    stamp = headers.pop(TIME, None)
    count = headers.pop("x-delivery-count", None)
    attempt = count + 1 if isinstance(count, int) else 1 + redelivered
    if origin := _origin(headers.pop("x-death", None)):
        headers.update(origin)
    elif isinstance(reason := headers.get("x-reason"), str) and reason in DEATHS:  # a broker says so in x-death
        headers["x-reason"] = f"{reason}, as its publisher says"
    if "x-first-death-reason" in headers:
        for name in ("reason", "queue", "exchange"):
            headers.pop(f"x-first-death-{name}", None)
            headers.pop(f"x-last-death-{name}", None)
    plain = {name: value for name, value in headers.items() if isinstance(value, str | int)}
    time = stamp / 1e6 if isinstance(stamp, int) else float(content.stamp)
    time = time if 0 <= time < _LATEST else 0.0
    return Delivery(exchange, key, content.id, content.type, body, time, plain, queue, attempt)
