"""A fact that holds while an expression over one record does, with hysteresis where `until` is given."""

from collections.abc import Mapping
from typing import Any

from exhaust.expressions import Timestamp, truth
from exhaust.language import AnalyzerCondition
from exhaust.plugins import Analyzer, Inferring, Judgement


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

    def judge(self, record: Mapping[str, Any], time: float, host: Mapping[str, Any]) -> Judgement:
        moment = Timestamp.from_seconds(time)
        opens = truth(self._when(record, moment, host, self._lists))
        if self._until is None:
            return Judgement(opens, None if opens is None else not opens)
        return Judgement(opens, truth(self._until(record, moment, host, self._lists)))


CONDITION = Analyzer("condition", ConditionSettings, Judge)
