"""What the analyzers decide: batches in, facts and sightings out."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from analyzers.analysis import Analysis
from analyzers.arrivals import MOST_STREAMS, Arrivals
from analyzers.facts import Teller, withdrawn
from analyzers.following import Follower
from analyzers.observation import Sheet
from analyzers.population import Population
from analyzers.reading import Reader
from analyzers.series import Series
from analyzers.silence import GRACE, Signs
from analyzers.timers import Timers
from analyzers.watches import Watches
from exhaust.messages import Batch, Watch
from exhaust.worker import Effect, Keep, Rows

__all__ = ["Analysis", "Hosts", "Inference"]

Hosts = Callable[[str], Mapping[str, Any]]


class Inference:
    """The decider. Series are kept per analysis, host and labels; only what changed is written."""

    def __init__(self, analyses: Sequence[Analysis], hosts: Hosts, lists: Mapping[str, Any]) -> None:
        self._analyses = {analysis.name: analysis for analysis in analyses}
        self._hosts = hosts
        self._lists = lists
        self._streams: dict[str, tuple[Analysis, ...]] = {}
        self.counts: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self._clear()

    def _clear(self) -> None:
        analyses = list(self._analyses.values())
        self._timers = Timers()
        self._arrivals = Arrivals()
        self._signs = Signs()
        self._population = Population(analyses)
        self._watches = Watches(self._lists)
        self._teller = Teller(self._population, self._timers)
        follower = Follower(self._population, self._watches, self._timers, self._lists, self.counts, self.unknown)
        self._reader = Reader(analyses, follower, self._watches, self._lists)

    @property
    def due(self) -> float:
        return self._timers.due

    def recall(self, rows: Rows) -> None:
        self._clear()
        self._arrivals.recall(rows)
        self._population.recall(rows)
        for _, key, series in self._population:
            if series.open:
                self._timers.series(series.due(), key)
        for execution, until in self._watches.recall(rows):
            self._timers.watch(until, execution)

    def resume(self, now: float) -> Iterator[Effect]:
        """Nobody was listening until now: that is not the sources' silence."""
        for analysis, key, series in self._population:
            silence = analysis.method.silence
            if series.open:
                series.heard = max(series.heard, now)
                self._timers.series(series.due(), key)
            elif silence is not None:
                self._timers.series(max(series.silent_from(silence), now + GRACE), key)
        yield from self._withdraw(now)

    def _withdraw(self, now: float) -> Iterator[Effect]:
        """Close what analyzers have opened that are no longer configured."""
        for key, series in self._population.orphans().items():
            if series.open:
                yield withdrawn(key, series, now)
            yield Keep(key, None)

    def status(self) -> dict[str, Any]:
        series = {"series": len(self._population), "open": self._population.open, "streams": len(self._arrivals)}
        return {**series, "records": dict(self.counts), "unknown": dict(self.unknown)}

    def handle(self, message: Any, received: float) -> Iterator[Effect]:
        match message:
            case Batch():
                yield from self._batch(message, received)
            case Watch():
                self._timers.watch(message.until, message.execution)
                yield from self._watches.take(message, self._population, received)

    def performed(self, work: Any, outcome: Any, now: float) -> Iterable[Effect]:
        raise TypeError(f"analyzers ask for no work, and got {outcome!r} for {work!r}")

    def _batch(self, batch: Batch, received: float) -> Iterator[Effect]:
        new = yield from self._arrivals.take(batch, received)
        if not new:
            self.counts["duplicate"] += 1
            return
        sheet = Sheet(batch, received, self._hosts(batch.host))
        analyses = self._wanting(sheet.stream)
        self._signs.hear(batch.host, sheet.stream, received)
        if batch.records:
            yield from self._read(sheet, analyses)
        for analysis in () if batch.records else analyses:  # a sign of life is one of all that have nothing to say
            for series in self._population.open_of(analysis, batch.host):
                series.heard = received

    def _read(self, sheet: Sheet, analyses: Sequence[Analysis]) -> Iterator[Effect]:
        self.counts["records"] += len(sheet.records)
        if unusable := len(sheet.records) - len(sheet.usable):
            self.counts["unusable"] += unusable
        yield from self._reader.read(sheet, analyses)
        yield from self._population.keep()
        yield from self._watches.keep()
        for analysis in analyses:
            yield from self._population.forget(analysis)

    def _wanting(self, stream: str) -> tuple[Analysis, ...]:
        found = self._streams.get(stream)
        if found is None:
            if len(self._streams) >= MOST_STREAMS:
                self._streams.clear()
            found = tuple(analysis for analysis in self._analyses.values() if analysis.wants(stream))
            self._streams[stream] = found
        return found

    # Time

    def tick(self, now: float) -> Iterator[Effect]:
        for due, kind, key in self._timers.past(now):
            if kind == "watch":
                yield from self._watches.end(key, now)
            elif series := self._population.get(key):
                yield from self._series_due(key, series, due, now)
        yield from self._population.keep()

    def _series_due(self, key: str, series: Series, due: float, now: float) -> Iterator[Effect]:
        """A timer of a series came: it expires, is asserted again, or the timer was overtaken."""
        analysis = self._population.analysis(key)
        if not series.open:
            yield from self._silent(analysis, key, series, now)
            return
        if due < series.due():
            self._timers.series(series.due(), key)
            return
        if analysis.method.silence is not None and self._signs.alive(series.host, series.stream, now):
            series.heard = now
        over = series.valid_until(analysis.settings)
        if over <= now:
            series.open, series.ended = False, over
            series.opening = series.clearing = None
            yield self._teller.expired(analysis, key, series, due, now)
        else:
            yield self._teller.asserted(analysis, key, series, due, now)
        self._population.changed(key, series)

    def _silent(self, analysis: Analysis, key: str, series: Series, now: float) -> Iterator[Effect]:
        """Open the fact of a series that is silent, unless that may be for want of hearing: then look again later."""
        silence = analysis.method.silence
        newest = None if silence is None else series.recent.newest
        if silence is None or newest is None:
            return
        since = series.silent_from(silence)
        if since > now:
            self._timers.series(since, key)
        elif self._deaf(series, now):
            self._timers.series(now + GRACE, key)
        else:
            series.open, series.since, series.heard, series.value = True, since, now, silence
            yield self._teller.opened(analysis, key, series, newest.id, now)
            self._population.changed(key, series)

    def _deaf(self, series: Series, now: float) -> bool:
        """Whether there may be records that we cannot hear: then silence says nothing."""
        alive = self._signs.alive(series.host, series.stream, now)
        return not alive or self._arrivals.missing(series.host, series.stream, now)
