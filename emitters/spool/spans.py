"""Stretches of the log, such as all that is unsent: few even where they hold much."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise


class Spans:
    """Sorted stretches from a first position up to an end that is not part of them; none touches another."""

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in spans:
            self.add(start, end)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    @property
    def first(self) -> tuple[int, int]:
        return self._starts[0], self._ends[0]

    @property
    def size(self) -> int:
        """How many bytes they cover together."""
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> None:
        if self._ends and self._ends[-1] == start < end:
            self._ends[-1] = end
            return
        low, high = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if low < high:
            start, end = min(start, self._starts[low]), max(end, self._ends[high - 1])
        if start < end:
            self._starts[low:high] = [start]
            self._ends[low:high] = [end]

    def remove(self, start: int, end: int) -> None:
        low, high = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if low >= high or start >= end:
            return
        rest = [(self._starts[low], start), (end, self._ends[high - 1])]
        rest = [(first, last) for first, last in rest if first < last]
        self._starts[low:high] = [first for first, _ in rest]
        self._ends[low:high] = [last for _, last in rest]

    def covers(self, start: int, end: int) -> bool:
        """Tell whether all between these positions is in one of them."""
        place = bisect_right(self._starts, start) - 1
        return place >= 0 and end <= self._ends[place]

    def touches(self, start: int, end: int) -> bool:
        """Tell whether anything between these positions is in one of them."""
        return bisect_right(self._ends, start) < bisect_left(self._starts, end)

    def outline(self, most: int) -> list[tuple[int, int]]:
        """Return them, or where they are more than `most`, so many that cover the smallest gaps as well."""
        if len(self._starts) <= most:
            return list(self)
        gaps = sorted(range(1, len(self._starts)), key=lambda n: self._starts[n] - self._ends[n - 1])
        kept = [0, *sorted(gaps[len(gaps) - most + 1 :]), len(self._starts)]
        return [(self._starts[a], self._ends[b - 1]) for a, b in pairwise(kept)]
