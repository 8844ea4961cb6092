"""Messages too many to be held: they lie on disk, and in memory only while they may not have got there yet."""

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from exhaust.worker import Keep, Rows

# Four times what a queue hands over at once: what is older was written with an earlier transaction.
_NEWEST = 1024

T = TypeVar("T")


def no_rows(_prefix: str) -> Iterator[tuple[str, bytes]]:
    """What is kept before anything was."""
    return iter(())


class Depot(Generic[T]):
    """What a decider keeps as rows `<prefix><name>` of one type. `rows` are those of its `recall`."""

    def __init__(self, prefix: str, type_: object, rows: Rows) -> None:
        self._prefix = prefix
        self._decode = msgspec.json.Decoder(type_).decode
        self._rows = rows
        self._newest: dict[str, T | None] = {}

    def put(self, name: str, value: T | None) -> Keep:
        """Return what keeps a value; None forgets it."""
        self._newest.pop(name, None)
        self._newest[name] = value
        if len(self._newest) > _NEWEST:
            del self._newest[next(iter(self._newest))]
        return Keep(f"{self._prefix}{name}", value)

    def get(self, name: str) -> T | None:
        """Return what is kept under a name."""
        if name in self._newest:
            return self._newest[name]
        key, body = next(self._rows(f"{self._prefix}{name}"), ("", b""))
        return self._decode(body) if key == f"{self._prefix}{name}" else None

    def all(self) -> Iterator[tuple[str, T]]:
        """Yield what was kept when `rows` were handed over, by name."""
        return ((key.removeprefix(self._prefix), self._decode(body)) for key, body in self._rows(self._prefix))
