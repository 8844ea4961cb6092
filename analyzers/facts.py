"""The messages and the evidence of a series' fact."""

from typing import Any

import msgspec

from analyzers.series import Series
from exhaust.messages import Fact, FactReason

_MOST_EVIDENCE = 4096


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


def evidence(known: list[dict[str, Any]], record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the newest records, at most 8 and at most 4 KiB of them; one that is too long alone is left out."""
    kept = [*known, record][-8:]
    while kept and len(msgspec.json.encode(kept)) > _MOST_EVIDENCE:
        kept = kept[1:]
    return kept
