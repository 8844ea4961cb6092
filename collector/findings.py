"""The facts that the ledger asserts of what it finds, as analyzers do: opened, asserted again, closed, kept."""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from exhaust.ids import derived_id
from exhaust.ledger import LEDGER
from exhaust.messages import Fact, FactReason
from exhaust.worker import Keep, Rows

EMITTER, HOST = "emitter.silent", "host.silent"
GAP, LAG, SKEW = "telemetry.gap", "telemetry.lag", "clock.skew"
REFRESH = 30.0
DETECTOR = "ledger"
_VALID = 3 * REFRESH
_PREFIX = "finding/"
_OPENED, _CLOSED, _ASSERTED = range(3)

Effects = Iterator[Fact | Keep]


class Subject(NamedTuple):
    """What a finding is of: a fact's name, and whose it is."""

    name: str
    host: str | None = None
    emitter: str | None = None
    stream: str | None = None

    @property
    def labels(self) -> dict[str, str]:
        given = {"emitter": self.emitter, "stream": self.stream}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def key(self) -> str:
        parts = (self.name, self.host, self.emitter, self.stream)
        return _PREFIX + "/".join(quote(part, safe="") for part in parts if part is not None)


class Measure(NamedTuple):
    """How much it is now, and in words."""

    value: float
    summary: str


class Why(NamedTuple):
    """What brought a change about: the ids of messages, as far as they have any, and when it was due where time did."""

    causes: tuple[str, ...]
    due: float | None = None


class Finding(msgspec.Struct):
    """One that is open; `last` is the id of its last message, `refresh_at` when the next is due.

    One that is `marred` was not seen well, whatever is seen from now on.
    """

    subject: Subject
    episode: str
    last: str
    since: float
    refresh_at: float
    value: float
    summary: str
    marred: bool = False


class Findings:
    """Those that are open, by subject."""

    def __init__(self) -> None:
        self._open: dict[Subject, Finding] = {}
        self._due: list[tuple[float, Subject]] = []

    def recall(self, rows: Rows) -> None:
        found = [msgspec.json.decode(row, type=Finding) for _, row in rows(_PREFIX)]
        self._open = {finding.subject: finding for finding in found}
        self._rearm()

    def __contains__(self, subject: object) -> bool:
        return subject in self._open

    def __iter__(self) -> Iterator[Subject]:
        return iter(list(self._open))

    @property
    def counts(self) -> Mapping[str, int]:
        """How many are open, by name."""
        return Counter(subject.name for subject in self._open)

    @property
    def due(self) -> float:
        return self._due[0][0] if self._due else math.inf

    def open(self, subject: Subject, measure: Measure, since: float, why: Why, now: float) -> Effects:
        """Assert it for the first time; one that is open is only measured anew."""
        if subject in self._open:
            self.measure(subject, measure)
            return
        identifier = self._identifier(subject, why, _OPENED)
        finding = Finding(subject, identifier, identifier, since, now + REFRESH, *measure)
        self._open[subject] = finding
        self._arm(finding)
        yield self._fact(finding, "asserted", why.causes, now)
        yield Keep(subject.key, finding)

    def measure(self, subject: Subject, measure: Measure) -> None:
        """Take note of how much it is, for the next time that it is asserted."""
        finding = self._open[subject]
        finding.value, finding.summary = measure

    def mar(self, subject: Subject) -> Iterator[Keep]:
        """Note that it will not be seen well: it can no more be cleared, only withdrawn."""
        finding = self._open[subject]
        if not finding.marred:
            finding.marred = True
            yield Keep(subject.key, finding)

    def told(self, subject: Subject) -> Measure:
        """Return how much it was when it was last measured."""
        finding = self._open[subject]
        return Measure(finding.value, finding.summary)

    def close(self, subject: Subject, reason: FactReason, why: Why, now: float) -> Effects:
        """Say that it is over; nothing where it was not open."""
        finding = self._open.pop(subject, None)
        if finding is None:
            return
        if finding.marred:
            reason = "withdrawn"
        why = Why((*why.causes, finding.episode), why.due)
        finding.last = self._identifier(subject, why, _CLOSED)
        yield self._fact(finding, reason, why.causes, now, closed=True)
        yield Keep(subject.key, None)

    def reassert(self, now: float, measured: Callable[[Subject, float], Measure]) -> Effects:
        """Assert again what is due."""
        while self._due and self._due[0][0] <= now:
            due, subject = heapq.heappop(self._due)
            finding = self._open.get(subject)
            if finding is None or finding.refresh_at != due:
                continue
            why = Why((finding.last,), due)
            finding.value, finding.summary = measured(subject, now)
            finding.last = self._identifier(subject, why, _ASSERTED)
            # By the timer's own beat, so that a tick that comes late does not change the ids of those that follow.
            finding.refresh_at = due + REFRESH * (math.floor((now - due) / REFRESH) + 1)
            self._arm(finding)
            yield self._fact(finding, "asserted", why.causes, now)
            yield Keep(subject.key, finding)

    def set_back(self, now: float) -> None:
        """The clock was set back: nothing waits longer than it would have."""
        for finding in self._open.values():
            finding.refresh_at = min(finding.refresh_at, now + REFRESH)
        self._rearm()

    def _rearm(self) -> None:
        self._due = [(finding.refresh_at, finding.subject) for finding in self._open.values()]
        heapq.heapify(self._due)

    def _arm(self, finding: Finding) -> None:
        heapq.heappush(self._due, (finding.refresh_at, finding.subject))

    @staticmethod
    def _identifier(subject: Subject, why: Why, ordinal: int) -> str:
        return derived_id("fact/1", why.causes, f"{DETECTOR} {subject.key}", ordinal=ordinal, due=why.due)

    @staticmethod
    def _fact(
        finding: Finding, reason: FactReason, causes: tuple[str, ...], now: float, *, closed: bool = False
    ) -> Fact:
        subject = finding.subject
        return Fact(
            id=finding.last,
            time=now,
            causes=tuple(filter(None, causes)),
            name=subject.name,
            host=subject.host,
            labels=subject.labels,
            episode=finding.episode,
            state="closed" if closed else "open",
            reason=reason,
            severity=LEDGER[subject.name].severity,
            since=finding.since,
            valid_until=now if closed else now + _VALID,
            value=finding.value,
            summary=finding.summary,
            detector=DETECTOR,
        )
