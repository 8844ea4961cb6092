"""A message that was refused and is sent again, straight to the queue that refused it.

It comes through the exchange without a name, which writes into any queue: then neither exchange nor key tell who may
have sent it. So the collector signs what it re-sends at a person's word, with the exchange and the key that the message
first came by; nothing else is taken that comes this way. What is signed by its author is checked as ever on top of it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from exhaust.broker.interface import Delivery, Publication
from exhaust.errors import MessageError
from exhaust.signing import Signer, Verifier

RESENT = "resent/1"
EXCHANGE, KEY, COUNT, _SEAL = "x-resent-exchange", "x-resent-key", "x-resent-count", "x-resent"
_OURS = frozenset((EXCHANGE, KEY, COUNT, _SEAL))

Headers = Mapping[str, str | int]


def resent(message: Delivery, count: int, signer: Signer) -> Publication:
    """Return what sends a message once more to `message.queue`, for the `count`th time."""
    first = replace(message, headers=plain(message.headers))
    seal = signer.attest(RESENT, _sealed(first))
    headers = {**first.headers, EXCHANGE: first.exchange, KEY: first.key, COUNT: count, _SEAL: seal}
    return Publication("", first.queue, first.id, first.type, first.body, first.time, headers)


def original(delivery: Delivery, verifier: Verifier | None) -> Delivery:
    """Return a delivery as it first came. `verifier` knows who may sign RESENT.

    One that came by an exchange is returned as it is. Raises MessageError where a message came straight to the queue
    and nobody whom the verifier knows has re-sent it.
    """
    if delivery.exchange:
        return delivery
    seal, exchange, key = (delivery.headers.get(name) for name in (_SEAL, EXCHANGE, KEY))
    if verifier is None or not isinstance(exchange, str) or not isinstance(key, str):
        raise MessageError(f"misattributed: it came straight to {delivery.queue}, and nobody has re-sent it")
    first = replace(delivery, exchange=exchange, key=key, headers=plain(delivery.headers))
    verifier.check(RESENT, _sealed(first), seal)
    return first


def first_exchange(delivery: Delivery) -> str:
    """Return the exchange that a message came by at first, as it says: only `original` tells whether that is true."""
    return delivery.exchange or str(delivery.headers.get(EXCHANGE, ""))


def plain(headers: Headers) -> dict[str, str | int]:
    """Return headers without those of a message that was re-sent."""
    return {name: value for name, value in headers.items() if name not in _OURS}


def _sealed(message: Delivery) -> bytes:
    """Return what is signed: all that a reader may go by. Brokers add headers of their own, which begin with `x-`."""
    headers = sorted((name, value) for name, value in message.headers.items() if not name.startswith("x-"))
    way = (message.queue, message.exchange, message.key)
    about = (message.id, message.type, round(message.time * 1e6))
    return msgspec.json.encode([*way, *about, headers, hashlib.sha256(message.body).hexdigest()])
