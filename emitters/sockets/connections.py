"""All sockets of TCP and UDP that there are now: stream `connection`."""

import heapq
from typing import Any

from emitters.measures.users import Users
from emitters.sockets.diag import LISTEN, PROTOCOLS, STATES, Socket, address, traffic
from emitters.sockets.owners import Owner
from emitters.sockets.table import Known, Table
from exhaust.plugins import Fields

ENDS: Fields = {
    "protocol": "string: tcp or udp",
    "family": "string: ipv4 or ipv6; ipv4 also where an IPv6 socket talks IPv4",
    "local_address": "string: this end's address; 0.0.0.0 or :: is all of this host",
    "local_port": "int: this end's port",
    "remote_address": "string: the other end's address; missing where there is no other end",
    "remote_port": "int: the other end's port; missing likewise",
}
OWNER: Fields = {
    "uid": "int: whose socket it is; missing where no process has it any more",
    "user": "string: the same by /etc/passwd; the number where that has no name for it",
    "pid": "int: a process that has it open; missing where none has, or ours may not look (needs CAP_SYS_PTRACE)",
    "process": "string: what the kernel calls that process",
    "started": "timestamp: when it was first seen, which is at most `every` after it began; "
    "missing for what was there before this emitter",
}
TRAFFIC: Fields = {
    "sent_bytes": "int: data that the other end has acknowledged, bytes; each counted once; missing before Linux 4.19",
    "received_bytes": "int: data that came, bytes; each counted once",
    "rtt_seconds": "double: round-trip time, smoothed by the kernel, seconds; missing before it was measured",
    "retransmits": "int: segments that were sent again",
}
CONNECTION: Fields = {
    **ENDS,
    "state": f"string: {' '.join(dict.fromkeys(STATES.values()))}, as in RFC 9293; "
    "of UDP established (it has one peer) or close; those in time_wait are not told",
    **OWNER,
    "inode": "int: the socket's inode; missing where no process has it any more",
    **TRAFFIC,
    "receive_queue_bytes": "int: what came and was not read yet, bytes",
    "send_queue_bytes": "int: what was written and is not acknowledged yet, bytes",
    "backlog": "int: of a listener, connections that wait to be accepted",
    "backlog_limit": "int: of a listener, how many may wait",
    "left_out": "int: how many more sockets there were at this look than `most`, that have no record; "
    "missing where there was none; a look ends after 50,000",
}


def ends(one: Socket) -> dict[str, Any]:
    """Return which ends a socket connects."""
    local, family = address(one.family, one.local)
    found = {
        "protocol": PROTOCOLS[one.protocol],
        "family": family,
        "local_address": local,
        "local_port": one.local_port,
    }
    if any(one.remote):
        remote, found["family"] = address(one.family, one.remote)
        found["remote_address"] = remote
    if one.remote_port:
        found["remote_port"] = one.remote_port
    return found


def owned(one: Known, users: Users) -> dict[str, Any]:
    """Return whose it is, and since when it is known."""
    return owner_fields(one.owner) | user_fields(one.socket, users) | ({"started": one.since} if one.since else {})


def owner_fields(owner: Owner | None) -> dict[str, Any]:
    return {"pid": owner.pid, "process": owner.name} if owner else {}


def user_fields(one: Socket, users: Users) -> dict[str, Any]:
    return {"uid": one.uid, "user": users.name(one.uid)} if one.inode else {}


def moved(one: Socket) -> dict[str, Any]:
    """Return what has gone each way over it, as far as the kernel tells."""
    found = traffic(one)
    if found is None or one.state == LISTEN:
        return {}
    told: dict[str, Any] = {"received_bytes": found.received, "retransmits": found.retransmits}
    if found.sent is not None:
        told["sent_bytes"] = found.sent
    if found.rtt_seconds:
        told["rtt_seconds"] = found.rtt_seconds
    return told


class Connections:
    """Makes the records of a look; of more than `most` sockets, of those that moved most bytes since the last one."""

    def __init__(self, most: int, users: Users) -> None:
        self._most = most
        self._users = users

    def tell(self, table: Table) -> list[dict[str, Any]]:
        known = list(table.known.values())
        left_out = len(known) - self._most
        if left_out <= 0:
            return [self._record(one) for one in known]
        busiest = heapq.nlargest(self._most, known, key=_moved_since)
        return [self._record(one) | {"left_out": left_out} for one in busiest]

    def _record(self, one: Known) -> dict[str, Any]:
        socket = one.socket
        told = ends(socket) | {"state": STATES[socket.state]} | owned(one, self._users) | moved(socket)
        if socket.inode:
            told["inode"] = socket.inode
        if socket.state == LISTEN:
            return told | {"backlog": socket.queued, "backlog_limit": socket.unsent}
        return told | {"receive_queue_bytes": socket.queued, "send_queue_bytes": socket.unsent}


def _moved_since(one: Known) -> int:
    found = traffic(one.socket)
    before, one.moved = one.moved, (found.sent or 0) + found.received if found else 0
    return one.moved - before
