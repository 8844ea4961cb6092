"""A service manager as its services see it: a datagram socket where they tell how they are."""

import asyncio
import contextlib
import socket

WITHIN = 30.0


class Manager:
    """A socket as the service manager opens it: a path, or an abstract name that begins with `@`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)

    async def hears(self) -> list[str]:
        async with asyncio.timeout(WITHIN):
            return (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode().split("\n")

    async def hears_until(self, line: str) -> list[str]:
        """Return all that is heard up to a line."""
        heard: list[str] = []
        while line not in heard:
            heard += await self.hears()
        return heard

    def silent(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            self._socket.recv(4096)
            return False
        return True

    def forget(self) -> None:
        """Hear only what comes from now on."""
        while not self.silent():
            pass

    def fill(self) -> None:
        """Leave no room for anything more, as a manager that does not read."""
        address = "\0" + self.address[1:] if self.address[0] == "@" else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, contextlib.suppress(BlockingIOError):
            other.setblocking(False)
            while True:
                other.sendto(b"X=1", address)

    def close(self) -> None:
        self._socket.close()
