"""What has come and is not yet told of: bounded in bytes, and whoever fills it pauses while it is full."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from exhaust.plugins import Lost, Record

_MOST_BYTES = 4 << 20
_OVERHEAD = 512  # of one item, about: what Python needs to hold it


class Arrival(NamedTuple):
    """A message as it came: its bytes (`cut`: the first of more), when, and what its transport says of its sender."""

    data: bytes
    cut: bool
    received: float
    origin: Mapping[str, Any]


Item = Arrival | Record | Lost


class Tap(Protocol):
    """Whoever fills it from a callback; both may be called again while they have no effect."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Intake:
    """Items in the order in which they came. It is full at `most` bytes, until half of them are taken."""

    def __init__(self, most: int = _MOST_BYTES) -> None:
        self._most = most
        self._items: deque[Item] = deque()
        self._size = 0
        self._taps: set[Tap] = set()
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._failure: BaseException | None = None

    @property
    def full(self) -> bool:
        return not self._room.is_set()

    def add(self, tap: Tap) -> None:
        """Let a tap run as long as there is room."""
        self._taps.add(tap)
        if self.full:
            tap.pause()
        else:
            tap.resume()

    def remove(self, tap: Tap) -> None:
        tap.pause()
        self._taps.discard(tap)

    def put(self, item: Item) -> None:
        """Take an item in, full or not: a tap has to stop by itself, but what it holds already is not lost."""
        self._items.append(item)
        self._size += _size(item)
        self._some.set()
        if self._size >= self._most and not self.full:
            self._room.clear()
            for tap in self._taps:
                tap.pause()

    def fail(self, error: BaseException) -> None:
        """Let whoever takes from it know of a fault, once all items are taken."""
        self._failure = error
        self._some.set()

    async def room(self) -> None:
        """Return when it is not full."""
        await self._room.wait()

    async def some(self) -> None:
        """Return when there is something to take. Raises what it was told to fail with."""
        await self._some.wait()
        if self._failure is not None and not self._items:
            raise self._failure

    def take(self) -> Item | None:
        """Return the oldest item, None if there is none."""
        if not self._items:
            if self._failure is None:
                self._some.clear()
            return None
        item = self._items.popleft()
        self._size -= _size(item)
        if self.full and self._size <= self._most // 2:
            self._room.set()
            for tap in list(self._taps):
                tap.resume()
        return item


def _size(item: Item) -> int:
    if isinstance(item, Arrival):
        return len(item.data) + _OVERHEAD
    return len(item.fields.get("message", "")) + 2 * _OVERHEAD if isinstance(item, Record) else _OVERHEAD
