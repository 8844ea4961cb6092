"""How a batch is read: what is quiet is passed by whole stretches, and only what may change something record by record.

Where a series is closed and nothing is building up, records that do not open it change nothing but what is remembered
of it; where it is open, those that do not clear it. Such stretches are passed at once, and what is between them is
taken one after the other, of all analyses in the order of the records: so it gives what reading each record would give.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from analyzers.analysis import Analysis
from analyzers.following import Follower, Way
from analyzers.observation import Observation, Sheet
from analyzers.population import Place
from analyzers.selection import Sieve, Values, label
from analyzers.verdicts import Verdicts
from analyzers.watches import Watches
from exhaust.expressions import truth
from exhaust.plugins import Scanning
from exhaust.worker import Effect

Take = Callable[[Observation], Iterator[Effect]]


class Course(Protocol):
    """What takes records one by one: `at` is the number of the next that it wants, None at the end."""

    at: int | None
    rank: int

    def step(self) -> Iterator[Effect]: ...


class Reader:
    """Reads batches, for the analyses that want them."""

    def __init__(
        self, analyses: Sequence[Analysis], follower: Follower, watches: Watches, lists: Mapping[str, Any]
    ) -> None:
        methods = {analysis.name: analysis.method for analysis in analyses}
        self._scanning = {name: method for name, method in methods.items() if isinstance(method, Scanning)}
        self._sieves = {analysis.name: Sieve(analysis.settings, lists) for analysis in analyses}
        self._follower = follower
        self._watches = watches
        self._lists = lists

    def read(self, sheet: Sheet, analyses: Sequence[Analysis]) -> Iterator[Effect]:
        """Yield what follows from a batch."""
        courses: list[Course] = []
        for rank, analysis in enumerate(analyses):
            if method := self._scanning.get(analysis.name):
                courses += self._scan(rank, analysis, method, sheet)
            else:
                courses.append(_Each(rank, sheet, self._taking(analysis, sheet.host["name"])))
        if self._watches.look_at(sheet.stream, sheet.host["name"]):
            courses.append(_Each(len(analyses), sheet, self._watches.record))
        yield from _in_order(courses)

    def _scan(self, rank: int, analysis: Analysis, method: Scanning, sheet: Sheet) -> Iterator[Way]:
        """Pass every series of which all records are quiet; yield the ways of the others."""
        sieve, follower = self._sieves[analysis.name], self._follower
        selection = sieve.select(sheet)
        grouping = sieve.group(selection)
        if selection.unknown or grouping.unknown:
            self._count(analysis, selection.unknown, grouping.unknown)
        if not grouping.groups:
            return
        judgements = method.scan(selection.records, selection.times, sheet.host)
        verdicts = Verdicts(judgements, len(selection.records))
        find = follower.population.finder(analysis, sheet.host["name"])
        for group in grouping.groups:
            place = find(group.values)
            if place is None:
                follower.counts["series refused"] += len(group.places)
                continue
            watched = self._watches.watched(place[0])
            if watched or not follower.rest(analysis, place[1], selection, group, verdicts):
                places = follower.in_time(place[1], selection, group)
                way = Way(rank, analysis, place, selection, verdicts, places, follower, watched=watched)
                if way.at is not None:
                    yield way

    def _count(self, analysis: Analysis, where: int, by: Mapping[str, int]) -> None:
        if where:
            self._follower.unknown[f"{analysis.name} where"] += where
        for name, count in by.items():
            self._follower.unknown[f"{analysis.name} by {name}"] += count

    # One by one

    def _taking(self, analysis: Analysis, host: str) -> Take:
        """Return what takes a record for a method that judges one after the other."""
        find = self._follower.population.finder(analysis, host)

        def take(seen: Observation) -> Iterator[Effect]:
            values = self._values(analysis, seen)
            if values is not None:
                yield from self._feed(analysis, find(values), seen)

        return take

    def _values(self, analysis: Analysis, seen: Observation) -> Values | None:
        """Return the values of a record's labels; None where it does not count, or one of them cannot be known."""
        settings, variables = analysis.settings, seen.variables(self._lists)
        counts = settings.where is None or truth(settings.where.function(*variables))
        if counts is None:
            self._count(analysis, 1, {})
        if not counts:
            return None
        values = []
        for name, expression in settings.by.items():
            value = label(expression.function(*variables))
            if value is None:
                self._count(analysis, 0, {name: 1})
                return None
            values.append(value)
        return tuple(values)

    def _feed(self, analysis: Analysis, place: Place | None, seen: Observation) -> Iterator[Effect]:
        if place is None:
            self._follower.counts["series refused"] += 1
            return
        key, series = place
        if seen.received < series.heard:
            series.begin_anew()
        if seen.time < series.newest:
            self._follower.counts["late"] += 1
            return
        judgement = analysis.method.judge(seen.fields, seen.time, seen.host)
        yield from self._follower.take(analysis, key, series, seen, judgement)


class _Each:
    """Every usable record of a batch."""

    def __init__(self, rank: int, sheet: Sheet, take: Take) -> None:
        self.rank = rank
        self.at: int | None = None
        self._sheet = sheet
        self._take = take
        self._numbers = iter(sheet.usable)
        self._next()

    def step(self) -> Iterator[Effect]:
        assert self.at is not None  # noqa: S101  nobody asks for more than there is
        yield from self._take(self._sheet.observation(self.at))
        self._next()

    def _next(self) -> None:
        self.at = next(self._numbers, None)


def _in_order(courses: Iterable[Course]) -> Iterator[Effect]:
    """Let each take its records, in the order of the records, and of one record in that of the analyses."""
    waiting = [(course.at, course.rank, course) for course in courses if course.at is not None]
    heapq.heapify(waiting)
    while waiting:
        _, rank, course = waiting[0]
        yield from course.step()
        if course.at is None:
            heapq.heappop(waiting)
        else:
            heapq.heapreplace(waiting, (course.at, rank, course))
