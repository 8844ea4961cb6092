"""Probes of tcp and udp: whether somebody is there, and says what is expected."""

import asyncio
import socket
import time

from emitters.probing.attempt import Attempt, ProbeError
from emitters.probing.probe import place

_MOST_BYTES = 1 << 16


async def tcp(attempt: Attempt) -> None:
    """Connect; where something is to be said or expected, say it and read until it has come."""
    probe = attempt.probe
    with await attempt.connect(place(probe.tcp)) as connection:
        loop = asyncio.get_running_loop()
        if probe.send:
            await loop.sock_sendall(connection, probe.send.encode())
        if not isinstance(probe.expect, str):
            return
        wanted, said, since = probe.expect.encode(), b"", time.monotonic()
        while wanted not in said:
            piece = await loop.sock_recv(connection, _MOST_BYTES)
            if piece and not said:
                attempt.took("first_byte", since)
            said += piece
            if not piece or len(said) > _MOST_BYTES:
                raise ProbeError("body" if said else "closed", f"{len(said)} bytes came, what is expected did not")


async def udp(attempt: Attempt) -> None:
    """Send a datagram and wait for one back; where nobody listens, the host says so (`refused`), or is silent."""
    probe = attempt.probe
    said = await exchange(attempt, await attempt.connect(place(probe.udp), socket.SOCK_DGRAM), probe.send.encode())
    if isinstance(probe.expect, str) and probe.expect.encode() not in said:
        raise ProbeError("body", f"the answer of {len(said)} bytes is not what is expected")


async def exchange(attempt: Attempt, connection: socket.socket, datagram: bytes) -> bytes:
    """Send a datagram, and return the first that comes back."""
    loop = asyncio.get_running_loop()
    with connection:
        since = time.monotonic()
        await loop.sock_sendall(connection, datagram)
        said = await loop.sock_recv(connection, _MOST_BYTES)
        attempt.took("first_byte", since)
        return said
