"""Identifiers: random at the source, derived everywhere else, so that the same input gives the same ids."""

import hashlib
import os
import uuid
from collections.abc import Sequence

import msgspec

_NAMESPACE = uuid.UUID("6f1d4d0e-6b2b-5d0c-9a55-3c1e6f3f2a77")


def new_id(now: float, entropy: bytes | None = None) -> str:
    """Return a UUIDv7 (RFC 9562) of `now` in epoch seconds; `entropy` is 10 bytes, random unless given."""
    noise = int.from_bytes(entropy or os.urandom(10), "big")
    value = (int(now * 1000) & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (noise >> 68) << 64 | 0b10 << 62
    return str(uuid.UUID(int=value | noise & 0x3FFF_FFFF_FFFF_FFFF))


def derived_id(
    kind: str, causes: Sequence[str], producer: str, definition: str = "", ordinal: int = 0, due: float | None = None
) -> str:
    """Return the UUIDv5 of what `producer`, as defined by the hash `definition`, makes of `causes`.

    `ordinal` tells apart several of one kind; `due` is the instant of the timer that brought it about.
    """
    parts = (kind, *causes, producer, definition, str(ordinal), "" if due is None else f"{due:.6f}")
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


def definition_hash(definition: object) -> str:
    """Return 16 hexadecimal digits that change when `definition` (plain data or a settings type) does."""
    text = msgspec.json.encode(definition, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:16]


def execution_of(order: str) -> str:
    """Return the id of the run that an order, of this id, asks for."""
    return derived_id("execution", (order,), "order")


def effect_key(execution: str, task: str, retry: int) -> str:
    """Return the idempotency key of one task's effect; `task` is its path, with the `for_each` item if any."""
    return hashlib.sha256(f"{execution}\x1f{task}\x1f{retry}".encode()).hexdigest()
