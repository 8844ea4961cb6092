"""The ids of one kind of item in two orders: by their beginning, to list them; by their last change, to drop them."""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

MOST = 10_000


class Place(NamedTuple):
    """Where an item stands; `over` ones and others are counted apart."""

    time: float
    updated: float
    over: bool


class Shelf:
    """Keeps at most `most` that are over, and as many that are not."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._places: dict[str, Place] = {}
        self._listed: list[tuple[float, str]] = []
        self._aged: dict[bool, list[tuple[float, str]]] = {False: [], True: []}

    def put(self, name: str, place: Place) -> None:
        if self._places.get(name) == place:
            return
        self.remove(name)
        self._places[name] = place
        bisect.insort(self._listed, (place.time, name))
        bisect.insort(self._aged[place.over], (place.updated, name))

    def remove(self, name: str) -> None:
        place = self._places.pop(name, None)
        if place is not None:
            _take(self._listed, (place.time, name))
            _take(self._aged[place.over], (place.updated, name))

    def surplus(self) -> list[str]:
        """Return those that changed longest ago, of each sort as many as are too many."""
        return [name for aged in self._aged.values() for _, name in aged[: max(0, len(aged) - self._most)]]

    def newest(self, most: int, before: tuple[float, str] | None = None) -> Sequence[tuple[float, str]]:
        """Return times and ids, the newest first, all of them older than `before`."""
        end = len(self._listed) if before is None else bisect.bisect_left(self._listed, before)
        return self._listed[max(0, end - most) : end][::-1]

    def under_way(self) -> list[str]:
        """Return those that are not over, the one that changed last first."""
        return [name for _, name in reversed(self._aged[False])]


def _take(entries: list[tuple[float, str]], entry: tuple[float, str]) -> None:
    del entries[bisect.bisect_left(entries, entry)]
