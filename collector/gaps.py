"""What is missing of streams: gaps are in flight for a while, and while their host sends what an outage held up."""

import heapq
import math
from collections.abc import Iterable, Iterator

from collector.account import Name, Stream, count
from collector.findings import GAP, Effects, Findings, Measure, Subject, Why
from collector.ledger import Ledger
from collector.silence import Moment, Silence
from exhaust.messages import FactReason
from exhaust.received import Gap

AFTER = 60.0


class Gaps:
    """Looks at a stream some time after there was a gap in it. Readings are of the ledger's own time."""

    def __init__(self, findings: Findings, ledger: Ledger, silence: Silence) -> None:
        self._findings = findings
        self._ledger = ledger
        self._silence = silence
        self._awaited: dict[Name, float] = {}
        self._due: list[tuple[float, Name]] = []

    def recall(self, streams: Iterable[Stream]) -> None:
        self._awaited.clear()
        self._due.clear()
        for stream in streams:
            if any(stream.gaps()):
                self.look_at(stream.name)

    def notice(self, name: Name, reading: float) -> None:
        """Note that a stream has a gap that was noticed at a reading."""
        self._await(name, reading + AFTER)

    def look_at(self, name: Name) -> None:
        """Look at a stream as soon as can be."""
        self._await(name, -math.inf)

    def _await(self, name: Name, reading: float) -> None:
        """Look at a stream at a reading, unless it will be looked at before."""
        if reading < self._awaited.get(name, math.inf):
            self._awaited[name] = reading
            heapq.heappush(self._due, (reading, name))

    def ends_flight(self, host: str, gap: Gap, since: float) -> float:
        """Return the reading from which a gap is missing, unless something of the backlog comes before it."""
        return max(gap.noticed, self._silence.backlog(host), since) + AFTER

    def judge(self, at: Moment) -> Effects:
        """Find what is missing."""
        while self._due and self._due[0][0] <= at.certain:
            reading, name = heapq.heappop(self._due)
            stream = self._ledger.get(name)
            if self._awaited.get(name) == reading:
                del self._awaited[name]
                if stream is not None:
                    yield from self._judge(stream, at)

    def _judge(self, stream: Stream, at: Moment) -> Effects:
        ends = {gap: self.ends_flight(stream.host, gap, at.since) for gap in stream.gaps()}
        missing = [gap for gap, end in ends.items() if end <= at.certain]
        if missing:
            subject, why = Subject(GAP, *stream.name), Why((stream.last.last_id,), at.due)
            since = at.now - at.certain + min(gap.noticed for gap in missing)
            yield from self._findings.open(subject, self.measure(subject, at.certain), since, why, at.now)
        if waiting := [end for end in ends.values() if end > at.certain]:
            self._await(stream.name, min(waiting))

    def settle(self, stream: Stream, reading: float, reason: FactReason, cause: str, now: float) -> Effects:
        """See whether a fact is over, after something that was missing came (`cleared`), or else is missed no more.

        It is only `withdrawn` where any of it did not come, whatever came last.
        """
        subject = Subject(GAP, *stream.name)
        if subject not in self._findings:
            return
        if not any(_overdue(stream, reading)):
            yield from self._findings.close(subject, reason, Why((cause,)), now)
        elif reason == "withdrawn":
            yield from self._findings.mar(subject)

    def measure(self, subject: Subject, reading: float) -> Measure:
        """Return how much of a stream is missing, whether or not its host sends what was held up."""
        stream = self._ledger.get((subject.host or "", subject.emitter or "", subject.stream or ""))
        missing = 0 if stream is None else count(_overdue(stream, reading))
        return Measure(missing, f"{missing} batch{'es' * (missing != 1)} of it did not come")


def _overdue(stream: Stream, reading: float) -> Iterator[Gap]:
    return (gap for gap in stream.gaps() if reading - gap.noticed >= AFTER)
