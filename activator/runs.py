"""The runs that were started: found by what a guard asks of them, and forgotten when no guard can look back so far."""

import bisect
import heapq
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain

from activator.packing import Packing
from activator.rules import Rule
from activator.run import Run
from exhaust.depot import Depot
from exhaust.messages import Verdict
from exhaust.worker import Keep, Rows

# Far beyond any deadline: its activation, or the orchestrator's store, must have been lost.
_LOST_AFTER = 24 * 3600.0

_Group = tuple[str | None, ...]
# No guard looks at the labels of a run that is over.
_PACKING = Packing(Run, left_out=("identity", "labels"))


class Runs:
    """Those under way are grouped as the limits of their rules (by name) count them: no group outgrows its limit.

    Those that are over stay packed: there may be as many as there were faults in a week.

    No run began or ended later than now. One that seems to have did so by a clock that was set back since, and counts
    from the moment at which that is noticed, be it after a restart: its guards hold for as long again as they say.
    """

    def __init__(self, rules: Mapping[str, Rule], rows: Rows) -> None:
        self._rules = rules
        self._kept: Depot[Run] = Depot("run/", Run, rows)
        self._under_way: dict[str, Run] = {}
        self._groups: defaultdict[_Group, dict[str, Run]] = defaultdict(dict)
        self._losses: list[tuple[float, str]] = []
        self._over: dict[str, tuple[bytes, ...]] = {}
        self._ends: list[tuple[float, str]] = []
        self._keys: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._starts: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
        self._latest = -math.inf
        for _, run in self._kept.all():
            self._take(run)
            self._count(run)

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    @property
    def due(self) -> float:
        """When one may have to be given up; infinity where none is under way."""
        return self._losses[0][0] if self._losses else math.inf

    def get(self, execution: str) -> Run | None:
        return self._under_way.get(execution) or self._kept.get(execution)

    def start(self, run: Run) -> Keep:
        self._take(run)
        self._count(run)
        return self._kept.put(run.execution, run)

    def end(self, run: Run, time: float, verdict: Verdict | None, back: str | None) -> Keep:
        """Let a run be over since `time`; of one that is, only the verdict changes, and where the fault came back."""
        run.ended = time if run.ended is None else run.ended
        run.verdict, run.back = verdict, back
        self._take(run)
        return self._kept.put(run.execution, run)

    def ahead_of(self, now: float) -> bool:
        """Whether the clock was set back since the last run began or ended."""
        return self._latest > now

    def set_back(self, now: float) -> Iterator[Keep]:
        """Bring what seems to be later than now back to it."""
        self._latest = now
        self._starts.clear()
        over = (run for identity in list(self._over) for run in self._past(identity))
        for run in chain(list(self._under_way.values()), over):
            if run.latest > now:
                run.started = min(run.started, now)
                run.ended = None if run.ended is None else now
                self._take(run)
                yield self._kept.put(run.execution, run)
            self._count(run)

    def lost(self, now: float) -> Iterator[tuple[float, Run]]:
        """Yield those never heard of again, with since when they are given up: nobody knows how they went."""
        while self.due <= now:
            due, execution = heapq.heappop(self._losses)
            run = self._under_way.get(execution)
            if run is not None and run.started + _LOST_AFTER == due:
                yield due, run

    def forget(self, before: float) -> Iterator[Keep]:
        """Drop those that ended before then."""
        while self._ends and self._ends[0][0] < before:
            _, identity = heapq.heappop(self._ends)
            for run in self._past(identity):
                if run.ended is not None and run.ended < before:
                    self._leave(run)
                    yield self._kept.put(run.execution, None)

    def of_fault(self, identity: str) -> list[Run]:
        """Return those that were started for one fault, by whatever rule."""
        return [*self._past(identity), *self._groups.get((None, identity), {}).values()]

    def of_rule(self, rule: str) -> tuple[Run, ...]:
        """Return those of a rule that are under way."""
        return tuple(self._groups.get((rule,), {}).values())

    def of_key(self, key: str) -> list[Run]:
        """Return those that rules have started with a key."""
        past = (run for identity in self._keys.get(key, ()) for run in self._past(identity) if run.key == key)
        return [*past, *self._groups.get((None, "key", key), {}).values()]

    def starts(self, rule: str) -> list[float]:
        """Return when a rule last started runs, as many as its limit counts, the oldest first."""
        return [started for started, _ in self._starts.get(rule, ())]

    def on_host(self, host: str) -> bool:
        """Whether anything is under way on a host."""
        return (None, "host", host) in self._groups

    def concerning(self, rule: str, identity: str, host: str | None, labels: Mapping[str, str]) -> tuple[Run, ...]:
        """Return those that can hold back a run of a rule: of the same fault, and of the groups that it would be in."""
        groups = (self._groups.get(group, {}).values() for group in self._counted(rule, host, labels))
        return tuple({run.execution: run for run in chain(self.of_fault(identity), *groups)}.values())

    def _count(self, run: Run) -> None:
        """Note when a rule started something; of older ones only as many as its limit asks for."""
        if (rule := self._rules.get(run.rule)) is not None:
            starts = self._starts[run.rule]
            bisect.insort(starts, (run.started, run.execution))
            if len(starts) > rule.guard.limit.runs:
                del starts[0]

    def _counted(self, rule: str, host: str | None, labels: Mapping[str, str]) -> list[_Group]:
        """Return the groups that the limit of a rule counts."""
        known = self._rules.get(rule)
        match known.guard.concurrent if known else None:
            case int():
                return [(rule, host)]
            case dict() as limit:
                return [(rule, label, labels.get(label)) for label in limit]
        return [(rule,)]

    def _groups_of(self, run: Run) -> set[_Group]:
        groups: set[_Group] = {(run.rule,), (None, run.identity), *self._counted(run.rule, run.host, run.labels)}
        if run.host is not None:
            groups.add((None, "host", run.host))
        return groups | {(None, "key", run.key)} if run.key else groups

    def _past(self, identity: str) -> list[Run]:
        return [_PACKING.unpack(packed, identity=identity, labels={}) for packed in self._over.get(identity, ())]

    def _take(self, run: Run) -> None:
        self._leave(run)
        self._latest = max(self._latest, run.latest)
        if run.ended is not None:
            self._over[run.identity] = (*self._over.get(run.identity, ()), _PACKING.pack(run))
            heapq.heappush(self._ends, (run.ended, run.identity))
            if run.key:
                self._keys[run.key][run.identity] = None
            return
        self._under_way[run.execution] = run
        heapq.heappush(self._losses, (run.started + _LOST_AFTER, run.execution))
        for group in self._groups_of(run):
            self._groups[group][run.execution] = run

    def _leave(self, run: Run) -> None:
        if self._under_way.pop(run.execution, None) is not None:
            for name in self._groups_of(run):
                self._groups[name].pop(run.execution, None)
                if not self._groups[name]:
                    del self._groups[name]
        past = self._past(run.identity)
        rest = tuple(_PACKING.pack(other) for other in past if other.execution != run.execution)
        if len(rest) < len(past):
            self._over[run.identity] = rest
        if not rest:
            self._over.pop(run.identity, None)
        if run.key and not any(other.key == run.key for other in self._past(run.identity)):
            self._keys[run.key].pop(run.identity, None)
            if not self._keys[run.key]:
                del self._keys[run.key]
