"""What the analyzers decide: batches in, facts and sightings out."""

import fnmatch
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from analyzers.facts import evidence, message
from analyzers.observation import Observation
from analyzers.series import Seen, Series, series_key, unslash
from analyzers.silence import GRACE, Signs
from analyzers.watches import Watches
from exhaust.expressions import Unknown, to_text, truth
from exhaust.ids import derived_id
from exhaust.language import Defined
from exhaust.messages import Batch, Fact, FactReason, Labels, Watch
from exhaust.plugins import Inferring, Method
from exhaust.text import clean
from exhaust.worker import Effect, Keep, Rows

_MOST_SUMMARY = 300
_LONGEST_LABEL = 1024

Hosts = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True)
class Analysis:
    """One configured analyzer: its settings, its compiled method, and the name that its facts are made under."""

    name: str
    settings: Inferring
    method: Method
    definition: str

    @classmethod
    def of(cls, defined: Defined[Inferring], method: Method) -> "Analysis":
        settings = defined.value
        return cls(settings.name or f"{settings.use}/{settings.fact}", settings, method, defined.hash)

    def wants(self, stream: str) -> bool:
        return fnmatch.fnmatchcase(stream, self.settings.on)


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
        self._series: dict[str, Series] = {}
        self._open: defaultdict[tuple[str, str], dict[str, Series]] = defaultdict(dict)
        self._watches = Watches(self._lists)
        self._signs = Signs()
        self._episodes: dict[str, str] = {}
        self._orphans: dict[str, Series] = {}
        self._timers: list[tuple[float, str, str]] = []

    @property
    def due(self) -> float:
        return self._timers[0][0] if self._timers else math.inf

    def recall(self, rows: Rows) -> None:
        self._clear()
        for key, body in rows("series/"):
            name = key.split("/", 3)[1]
            name = unslash(name)
            series = msgspec.json.decode(body, type=Series)
            if name in self._analyses:
                self._adopt(key, self._analyses[name], series)
            else:
                self._orphans[key] = series
        for execution, until in self._watches.recall(rows):
            self._remind(until, "watch", execution)

    def _adopt(self, key: str, analysis: Analysis, series: Series) -> None:
        self._series[key] = series
        for episode in series.episodes:
            self._episodes[episode] = key
        if series.open:
            self._open[analysis.name, series.host][key] = series
            self._remind(series.due(), "series", key)

    def resume(self, now: float) -> Iterator[Effect]:
        """Nobody was listening until now: that is not the sources' silence."""
        for name, host in list(self._open):
            for key, series in self._open[name, host].items():
                series.heard = max(series.heard, now)
                self._remind(series.due(), "series", key)
        for key, series in self._series.items():
            silence = self._analysis(key).method.silence
            if silence is not None and not series.open:
                self._remind(max(series.silent_from(silence), now + GRACE), "series", key)
        yield from self._withdraw(now)

    def _withdraw(self, now: float) -> Iterator[Effect]:
        """Close what analyzers have opened that are no longer configured."""
        for key, series in self._orphans.items():
            if series.open:
                series.open, series.ended = False, now
                causes = (series.last_message,)
                identifier = derived_id("fact/1", causes, f"analyzers {key}", ordinal=1)
                detector = unslash(key.split("/", 3)[1])
                yield message(series, identifier, "withdrawn", causes, now, detector)
            yield Keep(key, None)
        self._orphans = {}

    def status(self) -> dict[str, Any]:
        series = {"series": len(self._series), "open": sum(map(len, self._open.values()))}
        return {**series, "records": dict(self.counts), "unknown": dict(self.unknown)}

    def handle(self, message: Any, received: float) -> Iterator[Effect]:
        match message:
            case Batch():
                yield from self._batch(message, received)
            case Watch():
                self._remind(message.until, "watch", message.execution)
                asked = self._episodes.get(message.episode or "", "")
                yield from self._watches.take(message, asked, self._series, received)

    def performed(self, work: Any, outcome: Any, now: float) -> Iterable[Effect]:
        raise TypeError(f"analyzers ask for no work, and got {outcome!r} for {work!r}")

    def tick(self, now: float) -> Iterator[Effect]:
        while self._timers and self._timers[0][0] <= now:
            due, kind, key = heapq.heappop(self._timers)
            if kind == "watch":
                yield from self._watches.end(key, now)
            elif series := self._series.get(key):
                yield from self._series_due(key, series, due, now)

    # Records

    def _batch(self, batch: Batch, received: float) -> Iterator[Effect]:
        stream = f"{batch.emitter}.{batch.stream}"
        host = self._hosts(batch.host)
        analyses = self._wanting(stream)
        self._signs.hear(batch.host, stream, received)
        for analysis in analyses if not batch.records else ():  # a sign of life is one of all that have nothing to say
            for series in self._open[analysis.name, batch.host].values():
                series.heard = received
        for number in range(len(batch.records)):
            seen = Observation.of(batch, number, received, host)
            if seen is None:
                self.counts["unusable"] += 1
                continue
            for analysis in analyses:
                yield from self._feed(analysis, seen)
            yield from self._watches.record(seen)
        self.counts["records"] += len(batch.records)

    def _wanting(self, stream: str) -> tuple[Analysis, ...]:
        found = self._streams.get(stream)
        if found is None:
            found = tuple(analysis for analysis in self._analyses.values() if analysis.wants(stream))
            self._streams[stream] = found
        return found

    def _counts(self, analysis: Analysis, seen: Observation) -> bool:
        """Whether `where` lets the record count."""
        where = analysis.settings.where
        holds = where is None or truth(where.function(*seen.variables(self._lists)))
        if holds is None:
            self.unknown[f"{analysis.name} where"] += 1
        return bool(holds)

    def _feed(self, analysis: Analysis, seen: Observation) -> Iterator[Effect]:
        if not self._counts(analysis, seen):
            return
        labels = self._labels(analysis, seen)
        if labels is None:
            return
        key = series_key(analysis.name, seen.host["name"], labels)
        series = self._series.get(key) or self._series.setdefault(key, Series(seen.host["name"], labels))
        silence = analysis.method.silence
        if seen.received < series.heard:
            series.begin_anew()
        if seen.time < series.newest:
            self.counts["late"] += 1
            return
        judgement = analysis.method.judge(seen.fields, seen.time, seen.host)
        if judgement.opens is None and judgement.clears is None:
            self.unknown[analysis.name] += 1
        before = (series.opening, series.clearing, series.open)
        if silence is not None and not series.seen:
            self._remind(seen.received + silence, "series", key)
        series.newest, series.heard, series.stream = seen.time, seen.received, seen.stream
        series.keep = analysis.settings.keep
        series.remember(Seen(seen.id, seen.time, seen.received, judgement.clears))
        change = series.take(judgement, seen.time, analysis.settings)
        if judgement.opens or change or silence is not None:
            self._describe(analysis, series, judgement.value, seen)
        if change == "opens":
            yield self._opened(analysis, key, series, seen.id, seen.received)
        elif change == "closes":
            causes = (seen.id, series.episode or "")
            yield self._closed(analysis, key, series, "cleared", causes, seen.received, None)
            if silence is not None:
                self._remind(seen.received + silence, "series", key)
        watched = yield from self._watches.series(key, series, seen.received)
        if watched or series.open or silence is not None or before != (series.opening, series.clearing, series.open):
            yield Keep(key, series)

    def _labels(self, analysis: Analysis, seen: Observation) -> Labels | None:
        """Return the labels that a record's series has, or None where one of them cannot be known."""
        labels = {}
        for name, expression in analysis.settings.by.items():
            value = to_text(expression.function(*seen.variables(self._lists)))
            if isinstance(value, Unknown) or len(value) > _LONGEST_LABEL:
                self.unknown[f"{analysis.name} by {name}"] += 1
                return None
            labels[name] = value
        return labels

    def _describe(self, analysis: Analysis, series: Series, value: Any, seen: Observation) -> None:
        series.value = value
        series.evidence = evidence(series.evidence, {"id": seen.id, **seen.fields})
        if analysis.settings.summary is not None:
            text = to_text(analysis.settings.summary(*seen.variables(self._lists)))
            series.summary = clean(analysis.name if isinstance(text, Unknown) else text, _MOST_SUMMARY)

    # Facts

    def _opened(self, analysis: Analysis, key: str, series: Series, cause: str, now: float) -> Fact:
        episode = derived_id("fact/1", (cause,), f"{analysis.name} {key}", analysis.definition)
        for forgotten in series.begin(episode):
            self._episodes.pop(forgotten, None)
        series.evidence = series.evidence[-1:]
        series.refresh_at = now + analysis.settings.refresh
        self._episodes[episode] = key
        self._open[analysis.name, series.host][key] = series
        fact = self._fact(analysis, series, episode, "asserted", (cause,), now)
        self._remind(series.due(), "series", key)
        return fact

    def _closed(
        self,
        analysis: Analysis,
        key: str,
        series: Series,
        reason: FactReason,
        causes: tuple[str, ...],
        now: float,
        due: float | None,
    ) -> Fact:
        self._open[analysis.name, series.host].pop(key, None)
        identifier = derived_id("fact/1", causes, f"{analysis.name} {key}", analysis.definition, 1, due)
        return self._fact(analysis, series, identifier, reason, causes, now)

    def _fact(
        self,
        analysis: Analysis,
        series: Series,
        identifier: str,
        reason: FactReason,
        causes: tuple[str, ...],
        now: float,
    ) -> Fact:
        series.last_message = identifier
        series.fact, series.severity = analysis.settings.fact, analysis.settings.severity
        series.told_until = series.valid_until(analysis.settings) if series.open else series.ended
        return message(series, identifier, reason, causes, now, analysis.name)

    def _series_due(self, key: str, series: Series, due: float, now: float) -> Iterator[Effect]:
        """A timer of a series came: it expires, is asserted again, or the timer was overtaken."""
        analysis = self._analysis(key)
        settings = analysis.settings
        if not series.open:
            yield from self._silent(analysis, key, series, now)
            return
        if due < series.due():
            self._remind(series.due(), "series", key)
            return
        if analysis.method.silence is not None and self._signs.alive(series.host, series.stream, now):
            series.heard = now
        causes = (series.last_message,)
        if series.valid_until(settings) <= now:
            series.open, series.ended = False, series.valid_until(settings)
            series.opening = series.clearing = None
            yield self._closed(analysis, key, series, "expired", causes, now, due)
        else:
            # By the timer's own beat, so that a tick that comes late does not change the ids of those that follow.
            series.refresh_at = due + settings.refresh * (math.floor((now - due) / settings.refresh) + 1)
            identifier = derived_id("fact/1", causes, f"{analysis.name} {key}", analysis.definition, 2, due)
            yield self._fact(analysis, series, identifier, "asserted", causes, now)
            self._remind(series.due(), "series", key)
        yield Keep(key, series)

    def _silent(self, analysis: Analysis, key: str, series: Series, now: float) -> Iterator[Effect]:
        """Open the fact of a series that is silent while its source lives; else look again later."""
        silence = analysis.method.silence
        if silence is None:
            return
        since = series.silent_from(silence)
        if since > now:
            self._remind(since, "series", key)
        elif not self._signs.alive(series.host, series.stream, now):
            self._remind(now + GRACE, "series", key)
        else:
            series.open, series.since, series.heard, series.value = True, since, now, silence
            yield self._opened(analysis, key, series, series.seen[-1].id, now)
            yield Keep(key, series)

    def _analysis(self, key: str) -> Analysis:
        return self._analyses[unslash(key.split("/", 3)[1])]

    def _remind(self, due: float, kind: Literal["series", "watch"], key: str) -> None:
        heapq.heappush(self._timers, (due, kind, key))
