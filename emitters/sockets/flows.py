"""Connections of TCP that have ended: stream `flow`.

The kernel announces the end of each, with its last figures (groups SKNLGRP_INET_TCP_DESTROY and its like of
linux/sock_diag.h). Where it does not, two looks at all connections are compared.
"""

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

from emitters.kernel.channel import Channel, widen
from emitters.kernel.netlink import MalformedError, messages
from emitters.measures.users import Users
from emitters.sockets import asking
from emitters.sockets.asking import Enquiries
from emitters.sockets.connections import ENDS, OWNER, TRAFFIC, ends, moved, owned
from emitters.sockets.diag import TCP, Socket, decode, traffic
from emitters.sockets.table import Known, Table
from exhaust.clock import Clock
from exhaust.plugins import Fields, Lost, Record

log = logging.getLogger(__name__)

FLOW: Fields = {
    **ENDS,
    "remote_port": "int: the other end's port; missing where an attempt to connect failed, or where this host "
    "aborted a connection that no look had seen; then there are no figures either",
    **OWNER,
    "listener": "string: the process that listened on this end's port at the last look, if any did: "
    "the connection came in, most probably to it",
    **TRAFFIC,
    "received_bytes": "int: data that came, bytes; each counted once; one too many of a connection with another host "
    "that this end was the first to finish, and then read to the end of what came; "
    "one too few or many of one that was aborted",
    "ended": "timestamp: when its end was noticed",
    "evidence": "string: destroy (the kernel announced the end, with the last figures); dump (the figures are of the "
    "last look, as this host aborted the connection, or as the kernel announces nothing here)",
}

_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_GROUPS = (1, 3)  # SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY
_REMEMBERED = 512
_MOST_A_SECOND = 2000

End = tuple[str, int, str, int]
Subscribe = Callable[[], socket.socket]


def subscribed() -> socket.socket:
    """Return a socket to which the kernel announces the ends of connections. Raises OSError where it does not."""
    with ExitStack() as unless:
        found = unless.enter_context(asking.opened())
        widen(found)
        found.bind((0, 0))
        for group in _GROUPS:
            found.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        unless.pop_all()
    return found


def unusable() -> str:
    """Say why the kernel announces no ends here; nothing where it does."""
    try:
        subscribed().close()
    except OSError as exc:
        return f"sock_diag: {exc.strerror}: older kernels need CAP_NET_ADMIN"
    return ""


def told(one: Known, table: Table, users: Users, now: float) -> dict[str, Any]:
    """Return the fields of a connection that is over, by what was last seen of it."""
    found = ends(one.socket) | owned(one, users) | moved(one.socket) | {"ended": now, "evidence": "dump"}
    listener = table.listeners.get(one.socket.local_port)
    return found | ({"listener": listener.name} if listener else {})


class Bound:
    """Lets so many through each second of a clock, and counts the others."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._second = 0
        self._through = 0
        self._refused = 0

    def allows(self) -> bool:
        """Say whether there is room for one more, which then counts."""
        self._turn()
        if self._through >= self._most:
            self._refused += 1
            return False
        self._through += 1
        return True

    def refused(self) -> int:
        """Return how many there was no room for in the seconds before this one, each told once."""
        if not self._refused or not self._turn():
            return 0
        refused, self._refused = self._refused, 0
        return refused

    def _turn(self) -> bool:
        """Begin a new second where it is time; return whether there is room in this one."""
        if (second := int(self._clock.now())) != self._second:
            self._second, self._through = second, 0
        return self._through < self._most


class Announced:
    """The ends that the kernel announces, on a socket that `subscribe` opens. Raises OSError where it cannot.

    A flood of them becomes records only up to a bound; looks have one of their own, the sockets that they read at most.
    """

    def __init__(self, table: Table, users: Users, clock: Clock, opening: ExitStack, subscribe: Subscribe) -> None:
        self._table = table
        self._users = users
        self._clock = clock
        self._enquiries = Enquiries(opening)
        self._news = asyncio.Event()
        self._channel = Channel(subscribe(), self._news.set)
        opening.callback(self._channel.close)
        self._sent: OrderedDict[End, int] = OrderedDict()
        self._bound = Bound(_MOST_A_SECOND, clock)

    async def records(self) -> AsyncGenerator[Record | Lost]:
        while True:
            await self._news.wait()
            self._news.clear()
            for data in self._channel.take():
                for found in self._told(data):
                    if isinstance(found, Lost) or self._bound.allows():
                        yield found
            for left_out in self.left_out():
                yield left_out
            if lost := self._channel.lost():
                yield Lost("kernel", lost, "flow")  # whose they were, the next look forgets

    def left_out(self) -> Iterator[Lost]:
        """Yield how many were too many within a second that is over."""
        if refused := self._bound.refused():
            yield Lost("too_many", refused, "flow")

    def _told(self, data: bytes) -> Iterator[Record | Lost]:
        now = self._clock.now()
        try:
            for message in messages(data):
                if (fields := self._fields(decode(message.body, TCP), now)) is not None:
                    yield Record(now, fields, "flow")
        except MalformedError as exc:
            log.debug("an announcement cannot be read", extra={"error": str(exc)})
            yield Lost("unusable", 1, "flow")

    def _fields(self, one: Socket, now: float) -> dict[str, Any] | None:
        known = self._table.known.pop(one.cookie, None)
        if not any(one.remote) or one.protocol != TCP:  # a listener, or one that was never used
            return None
        if not one.remote_port:  # disconnected: the kernel has forgotten all but to whom
            return told(known, self._table, self._users, now) if known else _attempted(one, now)
        last = Known(one, None, None)
        if known:
            # The announcement says neither whose it was nor its inode.
            last = Known(one._replace(uid=known.socket.uid, inode=known.socket.inode), known.since, known.owner)
        found = told(last, self._table, self._users, now) | {"evidence": "destroy"}
        self._correct(found, one)
        return found

    def _correct(self, found: dict[str, Any], one: Socket) -> None:
        """Take the peer's FIN from the bytes received, where it is among them: the state that would tell is lost."""
        local = found["local_address"], one.local_port
        remote = found["remote_address"], one.remote_port
        peer = self._sent.pop((*remote, *local), None)
        if self._has_fin(one, found.get("received_bytes", 0), peer):
            found["received_bytes"] -= 1
        if "sent_bytes" in found:
            self._sent[(*local, *remote)] = found["sent_bytes"]
            if len(self._sent) > _REMEMBERED:
                self._sent.popitem(last=False)

    def _has_fin(self, one: Socket, received: int, peer: int | None) -> bool:
        if received == 0:
            return False
        if peer is not None and 0 <= received - peer <= 1:  # the other end was on this host, and has told
            return received > peer
        if one.queued:  # unread: only the FIN, as it closed before that came; or data, as it was aborted
            return one.queued == 1
        last = traffic(one)
        if last is None or last.signs == 0:  # our own FIN did not arrive: aborted
            return False
        return not self._enquiries.lingers(one)


def _attempted(one: Socket, now: float) -> dict[str, Any]:
    found = ends(one) | {"ended": now, "evidence": "destroy"}
    if not any(one.local):
        del found["local_address"]
    return found
