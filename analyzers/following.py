"""How a series is moved on: by one record, or by a stretch of records that change nothing but what is remembered."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from analyzers.analysis import Analysis
from analyzers.facts import MOST_RECORDS, Teller, describe
from analyzers.observation import Observation
from analyzers.population import Place, Population
from analyzers.recent import MOST_SEEN, pack, pack_gone
from analyzers.selection import Group, Selection
from analyzers.series import Series
from analyzers.timers import Timers
from analyzers.verdicts import Verdicts
from analyzers.watches import Watches
from exhaust.plugins import Judgement
from exhaust.worker import Effect


class Follower:
    """For all analyses. `counts` and `unknown` are for people."""

    def __init__(
        self,
        population: Population,
        watches: Watches,
        timers: Timers,
        lists: Mapping[str, Any],
        counts: Counter[str],
        unknown: Counter[str],
    ) -> None:
        self.population = population
        self.counts = counts
        self.unknown = unknown
        self._watches = watches
        self._timers = timers
        self._teller = Teller(population, timers)
        self._lists = lists

    def take(
        self, analysis: Analysis, key: str, series: Series, seen: Observation, judgement: Judgement
    ) -> Iterator[Effect]:
        """Move a series on by one record that is not late."""
        silence = analysis.method.silence
        if judgement.opens is None and judgement.clears is None:
            self.unknown[analysis.name] += 1
        before = (series.opening, series.clearing, series.open)
        self._hear(analysis, key, series, seen)
        block = pack(seen.batch, seen.received, (seen.number,), (seen.time,))
        series.recent.add(block + pack_gone((judgement.clears,)), 1)
        change = series.take(judgement, seen.time, analysis.settings)
        if judgement.opens or change or silence is not None:
            describe(analysis, series, judgement.value, (seen,), self._lists)
        if change == "opens":
            yield self._teller.opened(analysis, key, series, seen.id, seen.received)
        elif change == "closes":
            yield self._teller.cleared(analysis, key, series, seen.id, seen.received)
            if silence is not None:
                self._timers.series(seen.received + silence, key)
        yield from self._watches.series(key, series, seen.received)
        watched = self._watches.watched(key)
        if watched or series.open or silence is not None or before != (series.opening, series.clearing, series.open):
            self.population.changed(key, series)

    def pass_by(
        self, analysis: Analysis, key: str, series: Series, of: Selection, verdicts: Verdicts, places: Sequence[int]
    ) -> None:
        """Move a series on by a stretch of records that neither open nor close it."""
        silence = analysis.method.silence
        if unknown := verdicts.unknown(places):
            self.unknown[analysis.name] += unknown
        self._hear(analysis, key, series, of.observation(places[-1]))
        series.recent.add(of.pack(places) + verdicts.gone(places), min(len(places), MOST_SEEN))
        opening = verdicts.opening(places) if series.open else []
        if opening:
            series.held = of.times[opening[-1]]
        if told := opening if silence is None else places:
            newest = [of.observation(place) for place in told[-MOST_RECORDS:]]
            describe(analysis, series, verdicts.of(told[-1]).value, newest, self._lists)
        if series.open or silence is not None:
            self.population.changed(key, series)

    def rest(self, analysis: Analysis, series: Series, of: Selection, group: Group, verdicts: Verdicts) -> bool:
        """Move a series on by all of its records in a batch, if they are quiet and it is; return whether it was so."""
        if (
            series.open
            or series.opening is not None
            or not group.ordered
            or group.first < series.newest
            or analysis.method.silence is not None
            or not verdicts.quiet(group.places)
        ):
            return False
        series.newest, series.heard, series.stream = group.last, of.sheet.received, of.sheet.stream
        series.keep = analysis.settings.keep
        series.recent.add(group.block(verdicts.gone(group.places)), group.count)
        return True

    def in_time(self, series: Series, of: Selection, group: Group) -> Sequence[int]:
        """Return the places of those records that are not late."""
        if of.sheet.received < series.heard:
            series.begin_anew()
        if group.ordered and group.first >= series.newest:
            return group.places
        newest, found = series.newest, []
        for place in group.places:
            if of.times[place] >= newest:
                newest = of.times[place]
                found.append(place)
        self.counts["late"] += len(group.places) - len(found)
        return found

    def _hear(self, analysis: Analysis, key: str, series: Series, seen: Observation) -> None:
        if analysis.method.silence is not None and not series.recent.count:
            self._timers.series(seen.received + analysis.method.silence, key)
        series.newest, series.heard, series.stream = seen.time, seen.received, seen.stream
        series.keep = analysis.settings.keep


class Way:
    """One series' way through a batch, by the places of those of its records that are not late.

    `at` is the number of the record that is to be taken next, None at the end; `rank` is the analysis' among others.
    """

    def __init__(
        self,
        rank: int,
        analysis: Analysis,
        place: Place,
        of: Selection,
        verdicts: Verdicts,
        places: Sequence[int],
        follower: Follower,
        *,
        watched: bool,
    ) -> None:
        self.rank = rank
        self.at: int | None = None
        self._analysis = analysis
        self._key, self._series = place
        self._of = of
        self._verdicts = verdicts
        self._places = places
        self._follower = follower
        self._watched = watched
        self._index = 0
        self._pass()

    def step(self) -> Iterator[Effect]:
        """Take that record, then pass what follows and changes nothing."""
        place = self._places[self._index]
        seen, judgement = self._of.observation(place), self._verdicts.of(place)
        yield from self._follower.take(self._analysis, self._key, self._series, seen, judgement)
        self._index += 1
        self._pass()

    def _pass(self) -> None:
        start, places = self._index, self._places
        settings = self._analysis.settings
        end = start if self._watched else self._verdicts.still(self._series, settings, places, start)
        if end > start:
            stretch = places[start:end]
            self._follower.pass_by(self._analysis, self._key, self._series, self._of, self._verdicts, stretch)
        self._index = end
        self.at = self._of.numbers[places[end]] if end < len(places) else None
