"""What is to be looked at when: series and watches."""

import heapq
import math
from collections.abc import Iterator
from typing import Literal

Kind = Literal["series", "watch"]


class Timers:
    """A series has one timer at a time: one that ends before it is to be looked at sets the next one then."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, Kind, str]] = []
        self._series: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def due(self) -> float:
        return self._waiting[0][0] if self._waiting else math.inf

    def series(self, due: float, key: str) -> None:
        """Look at a series then, or before."""
        if due < self._series.get(key, math.inf):
            self._series[key] = due
            heapq.heappush(self._waiting, (due, "series", key))

    def watch(self, due: float, execution: str) -> None:
        heapq.heappush(self._waiting, (due, "watch", execution))

    def past(self, now: float) -> Iterator[tuple[float, Kind, str]]:
        """Take what is due by now, also what is added meanwhile; yield when it was due, and what it is."""
        while self._waiting and self._waiting[0][0] <= now:
            due, kind, key = heapq.heappop(self._waiting)
            if kind == "series":
                if self._series.get(key) != due:
                    continue  # overtaken by an earlier one
                del self._series[key]
            yield due, kind, key
