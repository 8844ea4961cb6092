"""The messages and the evidence of a series' fact."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from analyzers.analysis import Analysis
from analyzers.observation import Observation
from analyzers.population import Population
from analyzers.series import Series, analysis_of
from analyzers.timers import Timers
from exhaust.expressions import Unknown, to_text
from exhaust.ids import derived_id
from exhaust.messages import MOST_EVIDENCE, MOST_EVIDENCE_BYTES, MOST_SUMMARY, MOST_VALUE_BYTES, Fact, FactReason
from exhaust.text import clean

MOST_RECORDS = MOST_EVIDENCE
# Each may be 6 bytes of JSON.
_MOST_TEXT = MOST_VALUE_BYTES // 8


def message(
    series: Series, identifier: str, reason: FactReason, causes: tuple[str, ...], now: float, detector: str
) -> Fact:
    """Return what is told of a series' fact now."""
    return Fact(
        id=identifier,
        time=now,
        causes=causes,
        name=series.fact,
        host=series.host,
        labels=series.labels,
        episode=series.episode or identifier,
        state="open" if series.open else "closed",
        reason=reason,
        severity=series.severity,
        since=series.since,
        valid_until=series.told_until if series.open else series.ended,
        value=series.value,
        summary=series.summary,
        evidence=series.evidence,
        detector=detector,
    )


def withdrawn(key: str, series: Series, now: float) -> Fact:
    """Close a series whose analysis is no longer configured."""
    series.open, series.ended = False, now
    causes = (series.last_message,)
    identifier = derived_id("fact/1", causes, f"analyzers {key}", ordinal=1)
    return message(series, identifier, "withdrawn", causes, now, analysis_of(key))


def evidence(known: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the newest records, at most 8 and at most 4 KiB of them; one that is too long alone is left out.

    Records that are added one by one or together leave the same.
    """
    kept = [*known, *records][-MOST_RECORDS:]
    while kept and len(msgspec.json.encode(kept)) > MOST_EVIDENCE_BYTES:
        kept = kept[1:]
    return kept


def fitting(value: Any) -> Any:
    """Return what a fact may carry as its value: a text that is too long is cut and says so, all else left out."""
    if isinstance(value, str):
        return value if len(value) <= _MOST_TEXT else f"{value[: _MOST_TEXT - 1]}…"
    if isinstance(value, list | tuple | Mapping) and len(msgspec.json.encode(value)) > MOST_VALUE_BYTES:
        return None
    return value


def describe(
    analysis: Analysis, series: Series, value: Any, records: Sequence[Observation], lists: Mapping[str, Any]
) -> None:
    """Let a fact tell of the newest of some records, and have them as evidence; `value` is what the newest gives."""
    newest = records[-1]
    series.value = fitting(value)
    shown = [{"id": seen.id, **seen.fields} for seen in records[-MOST_RECORDS:]]
    series.evidence = evidence(series.evidence, shown)
    if analysis.settings.summary is not None:
        text = to_text(analysis.settings.summary(*newest.variables(lists)))
        series.summary = clean(analysis.name if isinstance(text, Unknown) else text, MOST_SUMMARY)


class Teller:
    """Tells of the facts that open, go on and close, and sets the time to look at them again."""

    def __init__(self, population: Population, timers: Timers) -> None:
        self._population = population
        self._timers = timers

    def opened(self, analysis: Analysis, key: str, series: Series, cause: str, now: float) -> Fact:
        """Tell that a series is open since just now."""
        episode = derived_id("fact/1", (cause,), f"{analysis.name} {key}", analysis.definition)
        self._population.begin(key, series, episode)
        self._population.opened(analysis, key, series)
        series.evidence = series.evidence[-1:]
        series.refresh_at = now + analysis.settings.refresh
        fact = self._fact(analysis, series, episode, "asserted", (cause,), now)
        self._timers.series(series.due(), key)
        return fact

    def cleared(self, analysis: Analysis, key: str, series: Series, cause: str, now: float) -> Fact:
        """Tell that a record has just closed a series."""
        causes = (cause, series.episode or "")
        return self._closed(analysis, key, series, "cleared", causes, now, None)

    def expired(self, analysis: Analysis, key: str, series: Series, due: float, now: float) -> Fact:
        """Tell that a series is over because nothing was heard of it."""
        return self._closed(analysis, key, series, "expired", (series.last_message,), now, due)

    def asserted(self, analysis: Analysis, key: str, series: Series, due: float, now: float) -> Fact:
        """Tell again that a series is open."""
        settings, causes = analysis.settings, (series.last_message,)
        # By the timer's own beat, so that a tick that comes late does not change the ids of those that follow.
        series.refresh_at = due + settings.refresh * (math.floor((now - due) / settings.refresh) + 1)
        identifier = derived_id("fact/1", causes, f"{analysis.name} {key}", analysis.definition, 2, due)
        fact = self._fact(analysis, series, identifier, "asserted", causes, now)
        self._timers.series(series.due(), key)
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
        self._population.closed(analysis, key, series)
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
