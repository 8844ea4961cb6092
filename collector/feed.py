"""What arrives, as it arrives, to those who follow: server-sent events."""

import asyncio
import contextlib
import fnmatch
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from exhaust.broker.interface import Delivery
from exhaust.errors import MessageError
from exhaust.messages import Batch, Codec, Message, kind_of
from exhaust.wire import unpack

MOST_FOLLOWERS = 16
MOST_WAITING = 1000
MOST_BYTES = 2 * 1024 * 1024  # of one follower
RECORD = "record"
_OURS = ("id", "host", "stream")


class Wish(NamedTuple):
    """What somebody follows: kinds of messages, all but records where none is named; of records those of a stream,
    which may be a pattern, and of a host."""

    kinds: frozenset[str] = frozenset()
    stream: str = "*"
    host: str | None = None

    def message(self, kind: str) -> bool:
        return not self.kinds or kind in self.kinds

    def records(self, host: str, stream: str) -> bool:
        return RECORD in self.kinds and self.host in (None, host) and fnmatch.fnmatchcase(stream, self.stream)


class Follower:
    """One client; `None` among its events is the end."""

    def __init__(self, wish: Wish, cut: Callable[[], None]) -> None:
        self.wish = wish
        self.cut = cut
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_WAITING)
        self._size = 0

    def hand(self, event: bytes | None) -> bool:
        """Put an event in line; tell whether there was room."""
        size = len(event or b"")
        if self._waiting.full() or self._size + size > MOST_BYTES:
            return False
        self._waiting.put_nowait(event)
        self._size += size
        return True

    async def next(self, within: float) -> bytes | None:
        """Return the next event, or raise TimeoutError."""
        async with asyncio.timeout(within):
            event = await self._waiting.get()
        self._size -= len(event or b"")
        return event


class Feed:
    """Hands every message to every follower. One that is too slow is cut off: it holds up nobody."""

    def __init__(self) -> None:
        self._followers: set[Follower] = set()
        self._closed = False

    @property
    def full(self) -> bool:
        return self._closed or len(self._followers) >= MOST_FOLLOWERS

    @contextlib.contextmanager
    def follow(self, wish: Wish, cut: Callable[[], None]) -> Iterator[Follower]:
        """Take part; `cut` ends a client's connection."""
        follower = Follower(wish, cut)
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def publish(self, message: Message) -> None:
        if not self._followers:
            return
        kind = kind_of(message).partition("/")[0]
        event = _event(kind, message.id, Codec.encode(message))
        self._hand([one for one in self._followers if one.wish.message(kind)], event)

    def show(self, delivery: Delivery, host: str, stream: str) -> None:
        """Hand the records of a batch to those who follow its stream: only for them its body is read."""
        wanting = [one for one in self._followers if one.wish.records(host, stream)]
        if not wanting:
            return
        try:
            batch = unpack(delivery)
        except MessageError:
            return  # it is counted by its headers; whoever needs its body refuses it
        if isinstance(batch, Batch) and batch.records:
            self._hand(wanting, b"".join(_records(batch, stream)))

    def close(self) -> None:
        """End all, so that nobody holds up the end of the service."""
        self._closed = True
        self._hand(list(self._followers), None)

    def _hand(self, followers: list[Follower], event: bytes | None) -> None:
        for follower in followers:
            if not follower.hand(event):
                self._followers.discard(follower)
                follower.cut()


def _records(batch: Batch, stream: str) -> Iterator[bytes]:
    """Yield an event for each record, and after the last a comment."""
    for number, record in enumerate(batch.records):
        name = f"{batch.id}#{number}"
        yield _event(RECORD, name, msgspec.json.encode(_shown(record, id=name, host=batch.host, stream=stream)))
    yield b": that was a batch of %b\n\n" % msgspec.json.encode(batch.host)


def _shown(record: Mapping[str, Any], **ours: str) -> dict[str, Any]:
    """Return a record with its id and its source; a field of its own by such a name is shown as `record.<name>`."""
    return {**ours, "time": record.get("time")} | {
        f"record.{name}" if name in _OURS else name: value for name, value in record.items()
    }


def _event(kind: str, name: str, data: bytes) -> bytes:
    # An id comes from whoever may publish: a line's end in it would begin a line of theirs.
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (name.encode() if name.isprintable() else b"", kind.encode(), data)
