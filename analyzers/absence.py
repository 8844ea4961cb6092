"""A fact that holds while nothing is heard of a series: it opens when the silence has lasted `for`, by the clock."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from exhaust.plugins import Analyzer, Inferring, Judgement, Judgements
from exhaust.settings import Duration


class AbsenceSettings(Inferring, frozen=True, kw_only=True):
    """`for` is how long nothing may come before that is a fact; the next record closes it.

    A series is known from its first record on. Silence counts only while the emitter gives signs of life; streams of
    `custom` give none: theirs counts while anything else comes from their host.
    """

    for_: Annotated[Duration, msgspec.Meta(gt=0)]

    def __post_init__(self) -> None:
        if self.expires is not None:
            raise ValueError("an absence lasts until something is heard: it has no 'expires'")


class Absence:
    """Any record that counts says that the series is there."""

    def __init__(self, settings: AbsenceSettings, lists: Mapping[str, Any]) -> None:
        self.silence: float | None = settings.for_

    def judge(self, record: Mapping[str, Any], time: float, host: Mapping[str, Any]) -> Judgement:
        return Judgement(opens=False, clears=True)

    def scan(self, records: Sequence[Mapping[str, Any]], times: Sequence[float], host: Mapping[str, Any]) -> Judgements:
        return Judgements(opens=[False] * len(records))


ABSENCE = Analyzer("absence", AbsenceSettings, Absence)
