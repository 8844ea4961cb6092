"""Who is silent: an emitter while others of its host are heard, or a whole host.

Time is the ledger's own reading of it. Nobody is judged by time in which probes did not return.
"""

import heapq
import logging
import math
from collections.abc import Container, Generator, Iterable
from typing import NamedTuple

from collector.account import NEVER, Stream
from collector.arrival import CUSTOM, Arrival
from collector.findings import EMITTER, HOST, SKEW, Effects, Findings, Measure, Subject, Why
from exhaust.messages import Fact
from exhaust.worker import Keep

log = logging.getLogger(__name__)

AFTER = 30.0
# Anybody may send a batch in the name of any host: one that nobody listed must have been heard of for so many seconds
# before it is missed, and of such there are at most so many facts.
KNOWN_AFTER = 600.0
MOST_STRANGERS = 1000

# When an epoch came live last, and its number. The number alone tells nothing: one of the future would stay for ever.
Present = tuple[float, int]
_NONE: Present = (NEVER, -1)


class Moment(NamedTuple):
    """When silence is judged: at `certain`, a reading of the ledger's time up to which all that was published has come.

    From `since` on nothing has interrupted the listening. It was `due` by the clock, and is `now`.
    """

    certain: float
    since: float
    due: float
    now: float


class Source:
    """An emitter of a host: its streams, when it was last heard, and its present epoch."""

    def __init__(self, heard: float) -> None:
        self.streams: set[str] = set()
        self.heard = heard
        self.received = 0.0
        self.last_id = ""
        self.present = _NONE


class Host:
    """A host's life: `present` is its emitters' epoch, since `changed`; at `backlog` came what was held up.

    It was heard of from `begun` to `last`, whatever counts as `heard`.
    """

    def __init__(self, heard: float) -> None:
        self.sources: dict[str, Source] = {}
        self.heard = self.changed = self.begun = self.last = heard
        self.silent = False
        self.backlog = float("-inf")
        self.received = 0.0
        self.last_id = ""
        self.present = _NONE
        self.awaited = False


class Silence:
    """All hosts. Each is looked at when the first of its emitters might be silent, whatever comes of it meanwhile.

    Those of the `inventory` are missed whenever they are silent, others only once they are known.
    """

    def __init__(self, findings: Findings, inventory: Container[str]) -> None:
        self._findings = findings
        self._inventory = inventory
        self._strangers: set[str] = set()  # of whose silence there is a fact, though nobody listed them
        self._crowded = False
        self._hosts: dict[str, Host] = {}
        self._due: list[tuple[float, str]] = []

    def recall(self, streams: Iterable[Stream], reading: float) -> None:
        """Take up what was known; all count as heard now."""
        self._hosts.clear()
        self._due.clear()
        silent = [one.host for one in self._findings if one.name == HOST]
        self._strangers = {name for name in silent if name is not None and name not in self._inventory}
        last_heard: dict[str, float] = {}
        for stream in streams:
            host, source = self._source(stream.host, stream.emitter, stream.stream, reading)
            host.begun = min(host.begun, *(epoch.begun for epoch in stream.epochs))
            host.last = last_heard[stream.host] = max(last_heard.get(stream.host, 0.0), stream.heard)
            host.silent = Subject(HOST, stream.host) in self._findings
            last = stream.last
            for one in (host, source):
                if last.last_received >= one.received:
                    one.received, one.last_id = last.last_received, last.last_id
            present = (stream.present.live, stream.present.epoch)
            source.present = max(source.present, present)
            if stream.emitter != CUSTOM:
                host.present = max(host.present, present)

    def _source(self, name: str, emitter: str, stream: str, reading: float) -> tuple[Host, Source]:
        host = self._hosts.get(name) or self._hosts.setdefault(name, Host(reading))
        source = host.sources.get(emitter) or host.sources.setdefault(emitter, Source(reading))
        source.streams.add(stream)
        if not host.awaited:
            self._await(name, host, reading + AFTER)
        return host, source

    def _await(self, name: str, host: Host, reading: float) -> None:
        host.awaited = True
        heapq.heappush(self._due, (reading, name))

    def hear(self, arrival: Arrival, reading: float, received: float) -> Effects:
        """Note a sign of life. What was held up is one of its host, and says nothing of its emitter now."""
        name, emitter = arrival.host, arrival.emitter
        host, source = self._source(name, emitter, arrival.stream, reading)
        present = (reading if arrival.live else NEVER, arrival.epoch)
        source.present = max(source.present, present)
        if present > host.present and emitter != CUSTOM:
            if arrival.epoch != host.present[1]:
                host.changed = reading
            host.present = present
        if arrival.backlog:
            host.backlog = reading
        yield from self.hear_host(name, arrival.id, reading, received)
        if arrival.live or not source.last_id:
            source.heard, source.received, source.last_id = reading, received, arrival.id
        if arrival.live:
            yield from self._findings.close(Subject(EMITTER, name, emitter), "cleared", Why((arrival.id,)), received)

    def hear_host(self, name: str, cause: str, reading: float, received: float) -> Effects:
        """Note that a host is there."""
        host = self._hosts.get(name)
        if host is None:
            return
        host.heard = host.last = reading
        host.received, host.last_id = received, cause
        if host.silent:
            host.silent = False
            self._strangers.discard(name)
            yield from self._findings.close(Subject(HOST, name), "cleared", Why((cause,)), received)
            for source in host.sources.values():  # each has as long as ever to be heard
                source.heard = max(source.heard, reading)

    def judge(self, at: Moment) -> Effects:
        """Find who is silent."""
        while self._due and self._due[0][0] < at.certain:
            name = heapq.heappop(self._due)[1]
            host = self._hosts.get(name)
            if host is not None:
                host.awaited = False
                yield from self._judge(name, host, at)

    def _judge(self, name: str, host: Host, at: Moment) -> Effects:
        judged = {emitter: source for emitter, source in host.sources.items() if emitter != CUSTOM}
        heard = max(host.heard, at.since)
        if at.certain - heard > AFTER and judged:
            yield from self._host_silent(name, host, at)
        elif judged:
            again = [heard + AFTER]
            for emitter, source in judged.items():
                again.append((yield from self._judge_source(name, host, emitter, source, at)))
            self._await(name, host, min(again))

    def _judge_source(
        self, name: str, host: Host, emitter: str, source: Source, at: Moment
    ) -> Generator[Fact | Keep, None, float]:
        """Return when to look at it again."""
        heard = max(source.heard, at.since)
        subject, why = Subject(EMITTER, name, emitter), Why((source.last_id,), at.due)
        if at.certain - heard <= AFTER:
            return heard + AFTER
        if source.present[1] == host.present[1]:
            yield from self._findings.open(subject, self.measure(subject, at.now), source.received, why, at.now)
        elif at.certain - host.changed <= AFTER:
            return host.changed + AFTER
        else:
            yield from self._findings.close(subject, "withdrawn", why, at.now)
        return math.inf

    def _host_silent(self, name: str, host: Host, at: Moment) -> Effects:
        why, subject = Why((host.last_id,), at.due), Subject(HOST, name)
        for emitter in host.sources:
            yield from self._findings.close(Subject(EMITTER, name, emitter), "withdrawn", why, at.now)
        yield from self._findings.close(Subject(SKEW, name), "withdrawn", why, at.now)
        host.silent = True
        if name in self._inventory or self._is_missed(name, host):
            yield from self._findings.open(subject, self.measure(subject, at.now), host.received, why, at.now)

    def _is_missed(self, name: str, host: Host) -> bool:
        """Whether a host that nobody listed is missed; where those are too many, none that is not already."""
        if host.last - host.begun < KNOWN_AFTER:
            return False
        if len(self._strangers) < MOST_STRANGERS or name in self._strangers:
            self._strangers.add(name)
            self._crowded = False
            return True
        if not self._crowded:
            log.warning("too many hosts of no inventory are silent, telling of no more", extra={"most": MOST_STRANGERS})
        self._crowded = True
        return False

    def measure(self, subject: Subject, now: float) -> Measure:
        """Return for how long somebody is silent."""
        host = self._hosts[subject.host or ""]
        if subject.name == HOST:
            return Measure(round(now - host.received, 3), "nothing comes of any of its emitters")
        seconds = round(now - host.sources[subject.emitter or ""].received, 3)
        return Measure(seconds, f"nothing comes of {subject.emitter}, while others of its host are heard")

    def is_silent(self, name: str) -> bool:
        """Whether a host is silent, though nobody may miss it."""
        host = self._hosts.get(name)
        return host is not None and host.silent

    def is_withdrawn(self, stream: Stream, reading: float) -> bool:
        """Whether a stream is no longer configured: its host's emitters have begun anew, and it is not heard since."""
        host = self._hosts.get(stream.host)
        if host is None or stream.emitter == CUSTOM:
            return False
        return stream.present.epoch != host.present[1] and reading - host.changed > AFTER

    def backlog(self, name: str) -> float:
        """Return the reading at which something that was held up last came of a host."""
        host = self._hosts.get(name)
        return float("-inf") if host is None else host.backlog

    def forget(self, stream: Stream, now: float) -> Effects:
        """Forget a stream; its emitter with the last of those, its host with the last of these."""
        name, emitter = stream.host, stream.emitter
        host = self._hosts[name]
        source = host.sources[emitter]
        source.streams.discard(stream.stream)
        if not source.streams:
            del host.sources[emitter]
            yield from self._findings.close(Subject(EMITTER, name, emitter), "withdrawn", Why((source.last_id,)), now)
        if not host.sources:
            del self._hosts[name]
            self._strangers.discard(name)
            for known in (HOST, SKEW):
                yield from self._findings.close(Subject(known, name), "withdrawn", Why((host.last_id,)), now)
