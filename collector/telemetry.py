"""What the collector makes of telemetry without looking into it: the ledger, and the facts that follow from it."""

import math
from collections.abc import Container, Iterator
from typing import Any

from collector.account import Noted, Stream, count
from collector.arrival import Arrival
from collector.findings import GAP, LAG, Effects, Findings, Measure, Subject, Why
from collector.gaps import Gaps
from collector.ledger import Ledger
from collector.letters import Letters
from collector.path import QUICK, Path
from collector.silence import Moment, Silence
from collector.skew import Skew
from exhaust.received import Gap
from exhaust.worker import Effect, Rows

FORGET_AFTER = 7 * 86400.0
FORGET_STRANGER_AFTER = 3600.0
_SWEEP_EVERY = 600.0


class Telemetry:
    """A part of the collector's decider. `host` is the one that it runs on, `letters` what lies dead.

    Of hosts that are not in the `inventory` little is made: anybody may send a batch in the name of any.
    """

    def __init__(self, host: str, letters: Letters, inventory: Container[str]) -> None:
        self.ledger = Ledger()
        self.path = Path(host)
        self._host = host
        self._letters = letters
        self._findings = findings = Findings()
        self._inventory = inventory
        self._silence = Silence(findings, inventory)
        self._gaps = Gaps(findings, self.ledger, self._silence)
        self._skew = Skew(findings)
        self._sweep = math.inf
        self._alive = False

    def recall(self, rows: Rows) -> None:
        self.ledger.recall(rows)
        self._findings.recall(rows)
        streams = self.ledger.streams()
        latest = max((epoch.heard for stream in streams for epoch in stream.epochs), default=0.0)
        self.path.recall(rows, latest)
        self._silence.recall(streams, self.path.since)
        self._gaps.recall(streams)

    def resume(self, now: float) -> Iterator[Effect]:
        """Begin to listen. Nobody was heard until now for want of a listener: that is not their silence."""
        self._sweep = now
        yield from self.ledger.begin(now)
        yield from self.path.begin(now)

    @property
    def due(self) -> float:
        return min(self.path.due, self._findings.due) if self._alive else self.path.due

    def hear(self, now: float) -> None:
        """Note that the broker has delivered something."""
        self._tell_time(now)
        self.path.came(now)
        self._alive = True

    def _tell_time(self, now: float) -> None:
        if self.path.turns_back(now):
            self._findings.set_back(now)
            self._sweep = min(self._sweep, now + _SWEEP_EVERY)

    def tick(self, now: float) -> Iterator[Effect]:
        self._tell_time(now)
        # What cannot be sent is not asserted: it would only pile up, to be told when it is long over.
        self._alive = self.path.alive(now)
        yield from self.path.tick(now)
        yield from self._judge_lag(now)
        if self._alive:
            yield from self._findings.reassert(now, self._measure)

    def take(self, arrival: Arrival, received: float) -> Iterator[Effect]:
        """Take a batch, by its headers."""
        if self.path.owns(arrival):
            yield from self._probe(arrival, received)
            return
        reading = self.path.reading(received)
        noted = yield from self.ledger.add(arrival, reading, received)
        yield from self._silence.hear(arrival, reading, received)
        name = (arrival.host, arrival.emitter, arrival.stream)
        stream = self.ledger.get(name)
        assert stream is not None, "it was added"  # noqa: S101  a fault of ours
        yield from self._bury_known(arrival, noted)
        missed = count(stream.gaps()) if arrival.forgone and noted.new else 0
        if noted.new:
            yield from self.ledger.forgo(arrival)
        if noted.above_gap:
            self._gaps.notice(name, reading)
        if noted.forgotten is not None or count(stream.gaps() if missed else ()) < missed:
            yield from self._gaps.settle(stream, reading, "withdrawn", arrival.id, received)
        elif noted.new:
            yield from self._gaps.settle(stream, reading, "cleared", arrival.id, received)
        if noted.new and self.path.quick(received):
            yield from self._skew.compare(arrival, received, self.path.lag)
        if (surplus := self.ledger.surplus) is not None:
            yield from self._drop(surplus, received)

    def _bury_known(self, arrival: Arrival, noted: Noted) -> Iterator[Effect]:
        """Count what of an arrival's epoch lies among the dead letters already."""
        if noted.first:
            name = (arrival.host, arrival.emitter, arrival.stream)
            for letter, by_broker in self._letters.batches(name, arrival.epoch):
                yield from self.ledger.bury(letter, certain=by_broker)
        elif noted.new and self._letters.holds(arrival):
            yield from self.ledger.bury(arrival, certain=True)

    def bury(self, letter: Arrival, now: float, *, by_broker: bool) -> Iterator[Effect]:
        """Take a batch that lies among the dead letters.

        It accounts for one that did not come only where its headers say that the broker put it there.
        """
        stream = self.ledger.get((letter.host, letter.emitter, letter.stream))
        missed = 0 if stream is None else count(stream.gaps())
        yield from self.ledger.bury(letter, certain=by_broker)
        if stream is not None and count(stream.gaps()) < missed:
            yield from self._gaps.settle(stream, self.path.reading(now), "withdrawn", letter.id, now)

    def redeem(self, letter: Arrival) -> Iterator[Effect]:
        """Take a batch that lay among the dead letters, and was sent again."""
        yield from self.ledger.redeem(letter)
        # Should it never have come otherwise, it is missing again, and may have been for long.
        self._gaps.look_at((letter.host, letter.emitter, letter.stream))

    def _probe(self, probe: Arrival, received: float) -> Iterator[Effect]:
        if not self.path.take(probe, received):
            return
        yield from self._judge_lag(received)
        if self.path.lag < QUICK:
            yield from self._findings.close(Subject(LAG), "cleared", Why((probe.id,)), received)
        yield from self._silence.hear_host(self._host, probe.id, self.path.reading(received), received)
        at = Moment(self.path.certain, self.path.since, self.path.sent, received)
        yield from self._silence.judge(at)
        yield from self._gaps.judge(at)
        if received >= self._sweep:
            self._sweep = received + _SWEEP_EVERY
            yield from self._forget(received)

    def _judge_lag(self, now: float) -> Effects:
        if self.path.slow:
            seconds = self.path.takes(now)
            why = Why((self.path.last_id,))
            yield from self._findings.open(Subject(LAG), _lag(seconds), now - seconds, why, now)

    def _forget(self, now: float) -> Iterator[Effect]:
        """Forget hosts that were silent for very long, and streams that nobody sends any more."""
        reading = self.path.reading(now)
        for stream in self.ledger.streams():
            silent = self._silence.is_silent(stream.host)
            stranger = silent and stream.host not in self._inventory
            over = silent or self._silence.is_withdrawn(stream, reading)
            after = FORGET_STRANGER_AFTER if stranger else FORGET_AFTER
            if over and now - stream.last.last_received > after:
                yield from self._drop(stream, now)

    def _drop(self, stream: Stream, now: float) -> Iterator[Effect]:
        why = Why((stream.last.last_id,))
        yield from self._findings.close(Subject(GAP, *stream.name), "withdrawn", why, now)
        yield from self.ledger.drop(stream, now)
        yield from self._silence.forget(stream, now)
        self._skew.forget(stream.host)

    def _measure(self, subject: Subject, now: float) -> Measure:
        match subject.name:
            case "emitter.silent" | "host.silent":
                return self._silence.measure(subject, now)
            case "telemetry.gap":
                return self._gaps.measure(subject, self.path.reading(now))
            case "telemetry.lag":
                return _lag(self.path.takes(now))
        return self._findings.told(subject)

    # What is shown

    def is_sent(self, stream: Stream, now: float) -> bool:
        """Whether a stream is sent by its host as far as is known; silent ones are."""
        return not self._silence.is_withdrawn(stream, self.path.reading(now))

    def table(self, now: float) -> list[dict[str, Any]]:
        """Return the ledger per host and emitter, with the names of the facts that are `open` of either."""
        reading, since = self.path.reading(now), self.path.since

        def in_flight(host: str, gap: Gap) -> bool:
            return self._gaps.ends_flight(host, gap, since) > reading

        rows = self.ledger.table(in_flight)
        names: dict[tuple[str | None, str | None], set[str]] = {}
        for subject in self._findings:
            names.setdefault((subject.host, subject.emitter), set()).add(subject.name)
        for row in rows:
            host, emitter = row["host"], row["emitter"]
            row["open"] = sorted(names.get((host, None), set()) | names.get((host, emitter), set()))
        return rows

    def status(self) -> dict[str, Any]:
        """Return what is quick to tell: how long telemetry takes, what was counted since the start, what is open."""
        return {
            "lag": round(self.path.takes(self.path.now), 3),
            "ledger": dict(self.ledger.counts),
            "findings": dict(self._findings.counts),
        }


def _lag(seconds: float) -> Measure:
    return Measure(round(seconds, 3), f"telemetry takes {seconds:.1f} s to come through")
