"""Sockets as inet_diag tells of them (sock_diag(7)): what is asked, and the little that is needed of the answer.

Of `struct tcp_info` (linux/tcp.h) only a few numbers are read, at their fixed places: it has some 70, and there may be
thousands of sockets. Those places are the same on every architecture where a 64-bit number is aligned to 8 bytes.
"""

import struct
from functools import lru_cache
from socket import inet_ntop
from typing import NamedTuple

from emitters.kernel.netlink import DUMP, REQUEST, MalformedError, attributes, request

SOCK_DIAG_BY_FAMILY = 20
INET, INET6 = 2, 10
TCP, UDP = 6, 17
PROTOCOLS = {TCP: "tcp", UDP: "udp"}

# Numbers of include/net/tcp_states.h. A UDP socket is `established` when it is connected, else `close`.
STATES = {
    1: "established",
    2: "syn_sent",
    3: "syn_recv",
    4: "fin_wait1",
    5: "fin_wait2",
    6: "time_wait",
    7: "close",
    8: "close_wait",
    9: "last_ack",
    10: "listen",
    11: "closing",
    12: "syn_recv",
}
FIN_WAIT2, TIME_WAIT, CLOSE, LISTEN = 5, 6, 7, 10
_END_IS_IN = frozenset({TIME_WAIT, 8, 9, 11})  # the peer's FIN has come, and counts as a byte received
_ALL_BUT_TIME_WAIT = 0xFFFFFFFF & ~(1 << TIME_WAIT)

_INFO, _PROTOCOL = 2, 10
_ASKED = struct.Struct("=BBBBI")
_BODY = struct.Struct("=BBBB2s2s16s16sI8s5I")
_RTT = struct.Struct("=I28xI16xQQ")  # tcpi_rtt, _total_retrans, _bytes_acked, _bytes_received
_RTT_AT = 68
_SENT = struct.Struct("=QQ")  # tcpi_bytes_sent, _bytes_retrans: since Linux 4.19
_SENT_AT = 200
_ANY_COOKIE = b"\xff" * 8
_MAPPED = bytes(10) + b"\xff\xff"


class Socket(NamedTuple):
    """One socket. Addresses are the kernel's 16 bytes; `queued` and `unsent` are bytes, of a listener connections.

    `cookie` is its own for good, `inode` 0 once no process has it. `info` is its tcp_info, empty where it has none.
    """

    family: int
    protocol: int
    state: int
    identity: bytes
    cookie: bytes
    local_port: int
    remote_port: int
    queued: int
    unsent: int
    uid: int
    inode: int
    info: bytes

    @property
    def local(self) -> bytes:
        return self.identity[4:20]

    @property
    def remote(self) -> bytes:
        return self.identity[20:36]

    @property
    def connected(self) -> bool:
        """Whether it has another end, and is more than what lingers in the kernel after a connection's end."""
        return self.protocol == TCP and self.state not in (CLOSE, LISTEN) and bool(self.remote_port and self.info)


class Traffic(NamedTuple):
    """What tcp_info says: bytes of data that the peer has acknowledged, and that came; without those sent twice.

    `signs` is how many of our SYN and FIN the kernel counts as acknowledged: of connections that came in, not the SYN.
    """

    rtt_seconds: float
    retransmits: int
    sent: int | None
    received: int
    signs: int


def dump(family: int, protocol: int) -> bytes:
    """Return the request for all sockets of a protocol, but for connections that are over and wait for strays."""
    asked = _ASKED.pack(family, protocol, 1 << _INFO - 1, 0, _ALL_BUT_TIME_WAIT)
    return request(SOCK_DIAG_BY_FAMILY, asked + bytes(48), REQUEST | DUMP)


def enquiry(one: Socket, sequence: int) -> bytes:
    """Return the request for what has the addresses and ports of a socket now."""
    asked = _ASKED.pack(one.family, one.protocol, 0, 0, 0xFFFFFFFF)
    return request(SOCK_DIAG_BY_FAMILY, asked + one.identity[:40] + _ANY_COOKIE, REQUEST, sequence)


def decode(body: bytes, protocol: int) -> Socket:
    """Read a socket from the body of a message. Raises MalformedError where that is none."""
    if len(body) < _BODY.size:
        raise MalformedError(f"a socket has {len(body)} bytes, not {_BODY.size}")
    family, state, _, _, local_port, remote_port, _, _, _, cookie, _, queued, unsent, uid, inode = _BODY.unpack_from(
        body
    )
    more = attributes(body[_BODY.size :])
    protocol = (more.get(_PROTOCOL) or (protocol,))[0]
    if family not in (INET, INET6) or state not in STATES or protocol not in PROTOCOLS:
        raise MalformedError(f"a socket of family {family}, state {state} and protocol {protocol} is not known")
    ports = int.from_bytes(local_port, "big"), int.from_bytes(remote_port, "big")
    info = more.get(_INFO, b"")
    return Socket(family, protocol, state, body[4:52], cookie, *ports, queued, unsent, uid, inode, info)


def traffic(one: Socket) -> Traffic | None:
    """Return what a connection has moved; None where the kernel does not tell.

    The kernel counts the SYN and the FIN as bytes acknowledged, but not as sent: so what is acknowledged is no more
    than what was sent. `sent` is None before Linux 4.19; it is one too many while a connection that was opened from
    here has bytes under way. The peer's FIN is a byte received in states that only it leads to; where the state is lost
    (`close`), the caller must find out.
    """
    if len(one.info) < _RTT_AT + _RTT.size:
        return None
    rtt, retransmits, acknowledged, received = _RTT.unpack_from(one.info, _RTT_AT)
    sent, signs = None, 0
    if len(one.info) >= _SENT_AT + _SENT.size:
        total, again = _SENT.unpack_from(one.info, _SENT_AT)
        sent = max(0, min(acknowledged, total - again))
        signs = acknowledged - sent
    return Traffic(rtt / 1e6, retransmits, sent, max(0, received - (one.state in _END_IS_IN)), signs)


@lru_cache(4096)
def address(family: int, packed: bytes) -> tuple[str, str]:
    """Return a socket's address as text, and its family: of an IPv4 address inside IPv6, that of the former."""
    if family == INET:
        return inet_ntop(INET, packed[:4]), "ipv4"
    if packed[:12] == _MAPPED:
        return inet_ntop(INET, packed[12:16]), "ipv4"
    return inet_ntop(INET6, packed), "ipv6"
