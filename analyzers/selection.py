"""Which records of a batch count for an analysis, and of which series they are.

Analyses that ask the same share the answer. A place is that of a record among those that count.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from analyzers.observation import Observation, Sheet
from analyzers.recent import MOST_SEEN, pack
from exhaust.expressions import Expression, Timestamp, Unknown, to_text
from exhaust.plugins import Inferring

EACH = ("record", "time")
_LONGEST_LABEL = 1024

Values = tuple[str, ...]
"""The values of a series' labels, in the order of `by`."""


def label(value: Any) -> str | None:
    """Return a value as a label's, None where it has none that can be one."""
    text = to_text(value)
    return None if isinstance(text, Unknown) or len(text) > _LONGEST_LABEL else text


class Group:
    """The records of one series: their places, the times of the first and the last, and whether none falls behind."""

    __slots__ = ("_blocks", "_selection", "count", "first", "last", "ordered", "places", "values")

    def __init__(self, selection: "Selection", values: Values, places: Sequence[int]) -> None:
        self.values = values
        self.places = places
        self.first, self.last = selection.times[places[0]], selection.times[places[-1]]
        self.ordered = selection.ordered
        self.count = min(len(places), MOST_SEEN)
        self._selection = selection
        self._blocks: dict[bytes, bytes] = {}

    def block(self, gone: bytes) -> bytes:
        """Return the newest `count` of them as `recent` has them; what analyses say alike of them, they share."""
        found = self._blocks.get(gone)
        if found is None:
            found = self._blocks[gone] = self._selection.pack(self.places) + gone
        return found


class Selection:
    """The records that count, in columns; `numbers` are theirs in the batch, of `unknown` ones nobody can know."""

    def __init__(self, sheet: Sheet, numbers: Sequence[int], unknown: int = 0) -> None:
        whole = len(numbers) == len(sheet.records)
        self.sheet = sheet
        self.numbers = numbers
        self.unknown = unknown
        self.records: Sequence[Any] = sheet.records if whole else [sheet.records[number] for number in numbers]
        self.times: Sequence[float] = sheet.times if whole else [sheet.times[number] for number in numbers]
        self.groupings: dict[tuple[str, ...], Grouping] = {}

    @cached_property
    def moments(self) -> list[Timestamp]:
        return [Timestamp.from_seconds(time) for time in self.times]

    @cached_property
    def ordered(self) -> bool:
        return sorted(self.times) == self.times

    def observation(self, place: int) -> Observation:
        return self.sheet.observation(self.numbers[place])

    def pack(self, places: Sequence[int]) -> bytes:
        """Return the newest of some records as the first part of a block."""
        newest, numbers, times = places[-MOST_SEEN:], self.numbers, self.times
        return pack(
            self.sheet.batch,
            self.sheet.received,
            [numbers[place] for place in newest],
            [times[place] for place in newest],
        )


class Grouping:
    """All groups of a selection, in the order of their first records, and how often which label is unknown."""

    def __init__(self, groups: Sequence[Group], unknown: Counter[str]) -> None:
        self.groups = groups
        self.unknown = unknown


class Sieve:
    """The `where` and the `by` of one analysis, compiled for whole batches."""

    def __init__(self, settings: Inferring, lists: Mapping[str, Any]) -> None:
        self._lists = lists
        self._names = tuple(settings.by)
        self._by = tuple(settings.by.values())
        self._columns = [expression.column(EACH) for expression in self._by]
        self._key = tuple(f"{name}={expression.source}" for name, expression in settings.by.items())
        self._where = settings.where
        self._holds = settings.where.verdicts(EACH) if settings.where else None

    def select(self, sheet: Sheet) -> Selection:
        """Return the records for which `where` is true."""
        source = self._where.source if self._where else ""
        found = sheet.selections.get(source)
        if found is None:
            found = sheet.selections[source] = self._selected(sheet)
        return found

    def group(self, selection: Selection) -> Grouping:
        """Return them by the values of their labels; those without one of them are in no group."""
        found = selection.groupings.get(self._key)
        if found is None:
            found = selection.groupings[self._key] = self._grouped(selection)
        return found

    def _selected(self, sheet: Sheet) -> Selection:
        usable = sheet.selections.get("")
        if usable is None:
            usable = sheet.selections[""] = Selection(sheet, sheet.usable)
        if self._where is None or self._holds is None:
            return usable
        verdicts = self._holds(usable.records, _times(self._where, usable), sheet.host, self._lists)
        numbers = [number for number, holds in zip(usable.numbers, verdicts, strict=True) if holds]
        return Selection(sheet, numbers, verdicts.count(None))

    def _grouped(self, selection: Selection) -> Grouping:
        if not self._by:
            whole = range(len(selection.numbers))
            return Grouping([Group(selection, (), whole)] if whole else [], Counter())
        columns = [
            column(selection.records, _times(expression, selection), selection.sheet.host, self._lists)
            for expression, column in zip(self._by, self._columns, strict=True)
        ]
        places_of: defaultdict[tuple[str | None, ...], list[int]] = defaultdict(list)
        for place, values in enumerate(zip(*map(_labels, columns), strict=True)):
            places_of[values].append(place)
        unknown: Counter[str] = Counter()
        groups = []
        for values, places in places_of.items():
            if None in values:
                unknown[self._names[values.index(None)]] += len(places)
            else:
                groups.append(Group(selection, values, places))  # type: ignore[arg-type]  # none of them is None
        return Grouping(groups, unknown)


def _labels(values: Sequence[Any]) -> list[str | None]:
    return [value if type(value) is str and len(value) <= _LONGEST_LABEL else label(value) for value in values]


def _times(expression: Expression, selection: Selection) -> Sequence[Any]:
    return selection.moments if "time" in expression.variables else selection.times
