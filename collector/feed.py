"""What arrives, as it arrives, to those who follow: server-sent events."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from exhaust.messages import Codec, Message, kind_of

MOST_FOLLOWERS = 16
MOST_WAITING = 1000


class Follower:
    """One client; `None` in its queue is the end."""

    def __init__(self, kinds: frozenset[str], cut: Callable[[], None]) -> None:
        self.kinds = kinds
        self.cut = cut
        self.waiting: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_WAITING)


class Feed:
    """Hands every message to every follower. One that is too slow is cut off: it holds up nobody."""

    def __init__(self) -> None:
        self._followers: set[Follower] = set()
        self._closed = False

    @property
    def full(self) -> bool:
        return self._closed or len(self._followers) >= MOST_FOLLOWERS

    @contextlib.contextmanager
    def follow(self, kinds: frozenset[str], cut: Callable[[], None]) -> Iterator[Follower]:
        """Take part, in messages of these kinds or, where there are none, of all; `cut` ends a client's connection."""
        follower = Follower(kinds, cut)
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def publish(self, message: Message) -> None:
        if not self._followers:
            return
        kind = kind_of(message).partition("/")[0]
        event = b"id: %b\nevent: %b\ndata: %b\n\n" % (message.id.encode(), kind.encode(), Codec.encode(message))
        for follower in list(self._followers):
            if not follower.kinds or kind in follower.kinds:
                self._hand(follower, event)

    def close(self) -> None:
        """End all, so that nobody holds up the end of the service."""
        self._closed = True
        for follower in list(self._followers):
            self._hand(follower, None)

    def _hand(self, follower: Follower, event: bytes | None) -> None:
        try:
            follower.waiting.put_nowait(event)
        except asyncio.QueueFull:
            self._followers.discard(follower)
            follower.cut()
