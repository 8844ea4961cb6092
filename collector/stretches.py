"""Stretches of numbers, each with its first and its last."""

import bisect
from collections.abc import Iterable, Iterator, Sequence

from exhaust.received import Gap

Stretch = tuple[int, int]


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Return stretches sorted, those that touch as one."""
    found: list[Stretch] = []
    for first, last in sorted(stretches):
        if found and found[-1][1] >= first - 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def without(gap: Gap, stretches: Sequence[Stretch]) -> Iterator[Gap]:
    """Yield what is left of a gap beside stretches of numbers."""
    first = gap.first
    place = bisect.bisect_left(stretches, first, key=lambda stretch: stretch[1])
    while place < len(stretches) and stretches[place][0] <= gap.last:
        begin, end = stretches[place]
        if begin > first:
            yield Gap(first, begin - 1, gap.noticed)
        first = end + 1
        place += 1
    if first <= gap.last:
        yield Gap(first, gap.last, gap.noticed)
