"""Messages to publications and back: the only place where they are encoded, sealed, opened and attributed.

The ends of executions, from which guards are counted, carry their signature in a header: their bodies stay readable.
"""

from collections.abc import Iterable

import msgspec

from exhaust.broker.interface import Delivery, Publication
from exhaust.errors import ForgeryError, MessageError
from exhaust.messages import (
    MOST_EVIDENCE,
    MOST_EVIDENCE_BYTES,
    MOST_FACT_BYTES,
    MOST_LABELS,
    MOST_LABELS_BYTES,
    MOST_SUMMARY,
    MOST_VALUE_BYTES,
    TERMINAL,
    AnyMessage,
    Batch,
    Codec,
    Command,
    ExecutionEvent,
    Fact,
    Message,
    kind_of,
)
from exhaust.resending import original
from exhaust.routing import ACTIVATIONS, BACKLOG, COMMANDS, CONTROL, RESULTS, TELEMETRY, address
from exhaust.signing import MOST_PAYLOAD, SIGNED, Signer, Verifier

_SEALED = frozenset((ACTIVATIONS, COMMANDS, RESULTS, CONTROL))
_SCHEMA = 1
_LONGEST_KEY = 255  # of AMQP

_as_json = msgspec.json.Encoder().encode


def pack(message: Message, signer: Signer | None = None) -> Publication:
    """Return the publication of a message, sealed where its kind is a signed one."""
    exchange, key = address(message)
    if isinstance(message, SIGNED):
        if signer is None:
            raise TypeError(f"a {kind_of(message)} needs a signer")
        body = signer.seal(message)
    else:
        body = Codec.encode(message)
    if fault := _fault_of_key(message, key):
        raise MessageError(fault)
    headers = _headers(message)
    if (
        isinstance(message, ExecutionEvent)
        and message.task is None
        and message.state in TERMINAL
        and signer is not None
    ):
        headers["signature"] = signer.attest(kind_of(message), body)
    return Publication(exchange, key, message.id, kind_of(message), body, message.time, headers, _life(message))


def unsendable(message: Message) -> str:
    """Return why `pack` would not take a message, nothing where it would: for those who can then say another thing."""
    if fault := _fault_of_key(message, address(message)[1]):
        return fault
    size = len(Codec.encode(message)) if isinstance(message, SIGNED) else 0
    return f"a {kind_of(message)} of {size} bytes is too long: at most {MOST_PAYLOAD}" if size > MOST_PAYLOAD else ""


def _fault_of_key(message: Message, key: str) -> str:
    if len(key.encode()) <= _LONGEST_KEY:
        return ""
    return f"a {kind_of(message)} with a key of more than {_LONGEST_KEY} bytes can go nowhere"


def _headers(message: Message) -> dict[str, str | int]:
    """Return what the ledger reads, so that it need not decode a batch's body."""
    if not isinstance(message, Batch):
        return {}
    headers: dict[str, str | int] = {
        "host": message.host,
        "emitter": message.emitter,
        "stream": message.stream,
        "epoch": message.epoch,
        "seq": message.seq,
        "count": len(message.records),
        "dropped": sum(message.dropped.values()),
        "schema": _SCHEMA,
    }
    if message.forgone:
        headers["forgone"] = _stretches(message.forgone)
    return headers


def _stretches(forgone: Iterable[tuple[int, int, int]]) -> str:
    return ",".join(f"{epoch}:{first}-{last}" for epoch, first, last in forgone)


def _check_headers(batch: Batch, delivery: Delivery) -> None:
    """The ledger reads only the headers: they must not say another thing than the body."""
    own = (batch.host, batch.emitter, batch.stream, batch.epoch, batch.seq, _stretches(batch.forgone))
    names = ("host", "emitter", "stream", "epoch", "seq")
    told = (*(delivery.headers.get(name) for name in names), delivery.headers.get("forgone", ""))
    if told != own:
        raise MessageError(f"misattributed: the body says {own}, the headers {told}")


def _check_sizes(fact: Fact, size: int) -> None:
    """An activation carries the whole fact, so that one without measure could never be answered."""
    _check_size("summary", "characters", len(fact.summary), MOST_SUMMARY)
    _check_size("evidence", "records", len(fact.evidence), MOST_EVIDENCE)
    _check_size("labels", "labels", len(fact.labels), MOST_LABELS)
    _check_size("body", "bytes", size, MOST_FACT_BYTES)
    if size > MOST_EVIDENCE_BYTES:  # else no part of it is longer
        _check_size("evidence", "bytes", len(_as_json(fact.evidence)), MOST_EVIDENCE_BYTES)
        _check_size("labels", "bytes", len(_as_json(fact.labels)), MOST_LABELS_BYTES)
        _check_size("value", "bytes", len(_as_json(fact.value)), MOST_VALUE_BYTES)


def _check_size(part: str, unit: str, have: int, most: int) -> None:
    if have > most:
        raise MessageError(f"the {part} of a fact has {have} {unit}: at most {most}")


def _life(message: Message) -> float | None:
    return max(0.0, message.expires - message.time) if isinstance(message, Command) else None


def unpack(delivery: Delivery, verifier: Verifier | None = None) -> AnyMessage:
    """Return the message of a delivery. Raise MessageError where body, id, exchange and key do not belong together."""
    delivery = original(delivery, verifier)
    if delivery.exchange in _SEALED:
        if verifier is None:
            raise ForgeryError(f"nobody here reads signed messages from {delivery.exchange}")
        message = verifier.open(delivery.body)
    else:
        message = Codec.decode(delivery.body)
    if isinstance(message, ExecutionEvent) and verifier is not None:
        verifier.check(kind_of(message), delivery.body, delivery.headers.get("signature"))
    if isinstance(message, Batch):
        _check_headers(message, delivery)
    elif isinstance(message, Fact):
        _check_sizes(message, len(delivery.body))
    if message.id != delivery.id:
        raise MessageError(f"misattributed: the body says '{message.id}', the message '{delivery.id}'")
    exchange, key = address(message)
    # What a spool resends takes another road; a command that expired unread comes back among the results.
    allowed = {exchange, {TELEMETRY: BACKLOG, COMMANDS: RESULTS}.get(exchange, exchange)}
    if delivery.exchange not in allowed or delivery.key != key:
        raise MessageError(
            f"misattributed: a {kind_of(message)} for {exchange} {key} came by {delivery.exchange} {delivery.key}"
        )
    return message
