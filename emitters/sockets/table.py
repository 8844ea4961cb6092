"""The sockets of this host as the last look found them, each known by its cookie for as long as it is there."""

import logging
from contextlib import ExitStack

from emitters.sockets.asking import look
from emitters.sockets.diag import LISTEN, PROTOCOLS, TCP, Socket
from emitters.sockets.owners import Owner, Owners

log = logging.getLogger(__name__)


class Known:
    """A socket as it was last seen, and whose it is; `since` it is known, None where it was there at the first look."""

    __slots__ = ("moved", "owner", "since", "socket")

    def __init__(self, socket: Socket, since: float | None, owner: Owner | None) -> None:
        self.socket = socket
        self.since = since
        self.owner = owner
        self.moved = 0


class Table:
    """Looked at anew from time to time; between looks, what ends is taken out of it."""

    def __init__(self, protocols: tuple[int, ...], opening: ExitStack) -> None:
        self._protocols = protocols
        self._owners = Owners(opening)
        self._errors: dict[int, str] = {}
        self._looked = False
        self.known: dict[bytes, Known] = {}
        self.listeners: dict[int, Owner] = {}

    async def look(self, now: float) -> list[Known]:
        """Look at all sockets; return the connections of the look before that are over, if that can be known."""
        found = await look(self._protocols)
        self._tell(found.errors)
        owners = await self._owners.find({one.inode for one in found.sockets if one.inode})
        before, since = self.known, now if self._looked else None
        self.known = {one.cookie: _known(one, before.get(one.cookie), owners, since) for one in found.sockets}
        self._looked = True
        self.listeners = {
            one.socket.local_port: one.owner
            for one in self.known.values()
            if one.owner and one.socket.state == LISTEN and one.socket.protocol == TCP
        }
        return [one for one in before.values() if one.socket.connected and not self._lives(one)] if found.all else []

    def _lives(self, one: Known) -> bool:
        now = self.known.get(one.socket.cookie)
        return now is not None and now.socket.connected

    def _tell(self, errors: dict[int, str]) -> None:
        for protocol, error in errors.items():
            if self._errors.get(protocol) != error:
                log.warning("sockets cannot be listed", extra={"protocol": PROTOCOLS[protocol], "error": error})
        self._errors = errors


def _known(one: Socket, before: Known | None, owners: dict[int, Owner], since: float | None) -> Known:
    owner = owners.get(one.inode)
    if before is None:
        return Known(one, since, owner)
    # A connection that nobody has open any more is still that of who had it.
    if before.socket.connected and not one.connected:
        return Known(one, before.since, owner or before.owner)  # and `before` stays as it was until its end
    before.socket, before.owner = one, owner or before.owner
    return before
