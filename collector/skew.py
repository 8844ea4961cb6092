"""Whose clock differs from ours: told by the times of batches that came at once, over a while."""

from typing import NamedTuple

from collector.arrival import CUSTOM, Arrival
from collector.findings import SKEW, Effects, Findings, Measure, Subject, Why

WRONG = 5.0
RIGHT = 2.5
BATCHES = 3
OVER = 10.0


class _Run(NamedTuple):
    """Batches in a row that say the same, since `first`."""

    says: str
    batches: int
    first: float


class Skew:
    """Compares clocks while probes are quick, so that neither a slow broker nor a stopped process is a wrong clock.

    What is found is a difference. Where our own clock was set wrong, all hosts differ after 10 seconds; and as many
    after it is right again, none does.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._runs: dict[str, _Run] = {}

    def compare(self, arrival: Arrival, received: float, lag: float) -> Effects:
        """Take a new batch that came in `lag` seconds, as probes do."""
        if not arrival.live or arrival.emitter == CUSTOM:
            return
        offset = round(arrival.time - received + lag, 3)
        says = "right" if abs(offset) < RIGHT else "" if abs(offset) <= WRONG else "ahead" if offset > 0 else "behind"
        subject = Subject(SKEW, arrival.host)
        is_open = subject in self._findings
        if not says or (says == "right") != is_open:
            self._runs.pop(arrival.host, None)
            if is_open:
                self._findings.measure(subject, _measure(offset))
            return
        run = self._runs.get(arrival.host)
        if run is None or run.says != says:
            run = _Run(says, 0, received)
        self._runs[arrival.host] = run = run._replace(batches=run.batches + 1)
        if run.batches < BATCHES or received - run.first < OVER:
            return
        del self._runs[arrival.host]
        why = Why((arrival.id,))
        if is_open:
            yield from self._findings.close(subject, "cleared", why, received)
        else:
            yield from self._findings.open(subject, _measure(offset), run.first, why, received)

    def forget(self, host: str) -> None:
        """Compare a host anew."""
        self._runs.pop(host, None)


def _measure(offset: float) -> Measure:
    return Measure(offset, f"its clock is {abs(offset):.1f} s {'ahead' if offset > 0 else 'behind'}")
