"""Hostile bytes where the kernel's records are read: process accounting, netlink of every kind, sockets, audit.

Whatever they are, they become records, or are told as malformed; nothing else is raised, and nothing takes long.
"""

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from emitters.commands.audited import Events
from emitters.exits.pacct import UnusableError, decode
from emitters.kernel import audit, connector, taskstats
from emitters.kernel.netlink import MalformedError, attributes, messages
from emitters.measures.users import Users
from emitters.sockets import diag

NOBODY = Users(Path("/nonexistent"))
FAMILY = 16
TCP = 6
MOST_SECONDS = 0.05  # instrumented, it takes many times as long as it does otherwise
MOST_EVENTS = 2000

_events = Events()


def accounting(data: bytes) -> Iterable[Any]:
    with contextlib.suppress(UnusableError):
        _, fields = decode(data[:64].ljust(64, b"\0"), NOBODY, NOBODY)
        msgspec.json.encode(fields)
    return ()


def sockets(data: bytes) -> Iterable[Any]:
    found = diag.decode(data, TCP)
    return (found, diag.traffic(found))


def audited(data: bytes) -> Iterable[Any]:
    """Take it as a record of an event that goes on: what is kept of unfinished ones stays bounded."""
    line = audit.line(data)
    told = [msgspec.json.encode(fields) for fields in _events.add(line, 0.0)]
    assert len(_events) < MOST_EVENTS
    return told


READERS: tuple[Callable[[bytes], Iterable[Any]], ...] = (
    accounting,
    messages,
    lambda data: attributes(data).items(),
    connector.events,
    lambda data: taskstats.ended(data, FAMILY),
    sockets,
    audited,
)


def one_input(data: bytes) -> None:
    """Give it to one of the readers; the first byte says to which."""
    which, data = data[0] if data else 0, data[1:]
    began = time.process_time()
    with contextlib.suppress(MalformedError):
        for _ in READERS[which % len(READERS)](data):
            pass
    took = time.process_time() - began
    assert took < MOST_SECONDS, f"{took:.3f} s for {len(data)} bytes"
