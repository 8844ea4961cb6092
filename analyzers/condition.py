"""A fact that holds while an expression over one record does, with hysteresis where `until` is given."""

from collections.abc import Mapping, Sequence
from typing import Any

from analyzers.selection import EACH
from exhaust.expressions import Timestamp, truth
from exhaust.language import AnalyzerCondition
from exhaust.plugins import Analyzer, Inferring, Judgement, Judgements


class ConditionSettings(Inferring, frozen=True, kw_only=True):
    """`when` opens, `until` closes; without `until` it closes when `when` is false. Unknown does neither."""

    when: AnalyzerCondition
    until: AnalyzerCondition | None = None


class Judge:
    """The two expressions, compiled."""

    silence: float | None = None

    def __init__(self, settings: ConditionSettings, lists: Mapping[str, Any]) -> None:
        self._when = settings.when.function
        self._until = settings.until.function if settings.until else None
        self._lists = lists
        self._opens = settings.when.verdicts(EACH)
        self._clears = settings.until.verdicts(EACH) if settings.until else None
        self._timed = any("time" in one.variables for one in (settings.when, settings.until) if one)

    def judge(self, record: Mapping[str, Any], time: float, host: Mapping[str, Any]) -> Judgement:
        moment = Timestamp.from_seconds(time)
        opens = truth(self._when(record, moment, host, self._lists))
        if self._until is None:
            return Judgement(opens, None if opens is None else not opens)
        return Judgement(opens, truth(self._until(record, moment, host, self._lists)))

    def scan(self, records: Sequence[Mapping[str, Any]], times: Sequence[float], host: Mapping[str, Any]) -> Judgements:
        moments = list(map(Timestamp.from_seconds, times)) if self._timed else times
        opens = self._opens(records, moments, host, self._lists)
        return Judgements(opens, self._clears(records, moments, host, self._lists) if self._clears else None)


CONDITION = Analyzer("condition", ConditionSettings, Judge)
