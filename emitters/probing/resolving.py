"""Names looked up by the system's resolver, which may hang: in threads of its own, as many as are allowed to hang."""

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

Addresses = Sequence[tuple[int, str]]
_MOST = 8


def lookup(host: str) -> Addresses:
    """Return a host's addresses with their families. Raises socket.gaierror."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [(family, str(address[0])) for family, _, _, _, address in found]


def literal(host: str) -> Addresses:
    """Return the address that a host is given as; none where it is a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, host)]
    return []


class Resolver:
    """Looks up each name once at a time: whoever asks while a lookup hangs waits for that one.

    One such object serves the whole process, since a lookup that hangs outlives the emitter that wanted it.
    """

    def __init__(self, look: Callable[[str], Addresses] = lookup, most: int = _MOST) -> None:
        self._look = look
        self._most = most
        self._running: dict[str, Future[Addresses]] = {}

    async def addresses(self, host: str) -> Addresses:
        """Return a host's addresses. Raises OSError: there are none, or too many lookups hang."""
        answer = self._running.get(host) or self._start(host)
        return await asyncio.wrap_future(answer)

    def _start(self, host: str) -> Future[Addresses]:
        if len(self._running) >= self._most:
            raise socket.gaierror(socket.EAI_AGAIN, f"{self._most} other lookups hang")
        answer: Future[Addresses] = Future()
        answer.set_running_or_notify_cancel()  # whoever stops waiting for it does not cancel it
        self._running[host] = answer
        try:
            # A daemon: the process must be able to end while a lookup hangs.
            threading.Thread(target=self._make, args=(host, answer), name=f"lookup {host}", daemon=True).start()
        except RuntimeError as exc:  # there are too many threads
            del self._running[host]
            raise socket.gaierror(socket.EAI_AGAIN, str(exc)) from exc
        return answer

    def _make(self, host: str, answer: Future[Addresses]) -> None:
        try:
            found = self._look(host)
        except (OSError, UnicodeError) as exc:  # the latter of names that no domain can have
            del self._running[host]
            answer.set_exception(exc if isinstance(exc, OSError) else socket.gaierror(socket.EAI_NONAME, str(exc)))
        else:
            del self._running[host]
            answer.set_result(found)
