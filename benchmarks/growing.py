"""The three things that grow: the hosts that are listened to, the rules, and the facts that are open."""

import contextlib
import gc
import itertools
import random
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import psutil

from activator.decisions import Activator
from activator.questions import Surroundings
from activator.rules import Rule
from analyzers.condition import ConditionSettings, Judge
from analyzers.inference import Analysis, Inference
from benchmarks.desk import Cost, Desk, Stopwatch
from exhaust.inventory import Inventory
from exhaust.language import Defined, define
from exhaust.messages import Batch, Codec, Decision, ExecutionEvent, Fact

FAULT: Final = "a fault, from its record to its end"
BATCH: Final = "a batch of 10 records"
OPENS: Final = "a fact opens"
AGAIN: Final = "a fact is asserted again"
CLOSES: Final = "a fact closes"
TICK: Final = "a tick"
START: Final = "a start, per open fact"
ENDS: Final = "a run ends"

_NOW: Final = 1_800_000_000.0
_HOSTS: Final = 500
_INVENTORY: Final = Inventory({f"web-{n}": {"role": "web", "fleet": "all"} for n in range(_HOSTS)})
_MEND: Final[Mapping[str, Any]] = {
    "run": "mend",
    "with": {"service": "${{ cause.labels.service }}"},
    "mode": "auto",
}
_FIELDS: Final = ("cpu", "memory", "files", "threads", "reads", "writes", "sent", "received", "age")
_KINDS: Final = 10
_PREFETCH: Final = 256


def memory() -> float:
    """Return MiB of this process that are in memory."""
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20


class Case(Protocol):
    """Something of one size: each round adds to `samples` what a message of each kind costs."""

    samples: defaultdict[str, list[Cost]]

    def round(self) -> None: ...


class Source:
    """Sends batches, each numbered as its emitter would."""

    def __init__(self) -> None:
        self._sequences: defaultdict[tuple[str, str], Iterator[int]] = defaultdict(itertools.count)

    def batch(self, stream: str, host: str, now: float, *records: Mapping[str, Any]) -> bytes:
        emitter, _, name = stream.partition(".")
        timed = [{"time": now, **record} for record in records]
        own, seq = str(uuid.uuid4()), next(self._sequences[stream, host])
        return Codec.encode(
            Batch(id=own, time=now, host=host, emitter=emitter, stream=name, epoch=1, seq=seq, records=timed)
        )


def _condition(fact: str, on: str, when: str) -> Analysis:
    source = {"use": "condition", "fact": fact, "on": on, "when": when, "by": ["service"], "severity": "error"}
    settings = define(ConditionSettings, source).value
    return Analysis.of(Defined(settings, source), Judge(settings, {}))


def _end(execution: str, now: float, verdict: str) -> bytes:
    about: dict[str, Any] = {"workflow": "mend", "definition": "d", "state": "succeeded", "verdict": verdict}
    return Codec.encode(ExecutionEvent(id=str(uuid.uuid4()), time=now, execution=execution, **about))


def _fired(desk: Desk, bodies: Sequence[bytes], now: float) -> list[Decision]:
    """Let an activator take messages; return its decisions to act."""
    told = (Codec.decode(one.body) for one in desk.take(*bodies, now=now) if one.type == "decision/1")
    return [one for one in told if isinstance(one, Decision) and one.outcome == "fired"]


class Hosts:
    """So many hosts send batches of ten records, one for each of their services, to ten conditions.

    One batch in a hundred tells of a fault, and the same host's next one of its end.
    """

    def __init__(self, size: int, folder: Path, opened: contextlib.ExitStack, messages: int) -> None:
        analyses = [_condition(f"{field}.high", "bench.service", f"record.{field} > 99.5") for field in _FIELDS]
        analyses.append(_condition("service.down", "bench.service", 'record.state != "running"'))
        self._desk = Desk(Inference(analyses, _INVENTORY.variable, {}), folder / f"hosts-{size}.db", opened)
        self._hosts = itertools.cycle([f"web-{n}" for n in range(size)])
        self._source = Source()
        self._random = random.Random(size)
        self._messages = messages
        self._sent = 0
        self.samples: defaultdict[str, list[Cost]] = defaultdict(list)
        self._send([self._batch() for _ in range(size)])

    def round(self) -> None:
        batches = [self._batch() for _ in range(self._messages)]
        with Stopwatch(self._desk) as watch:
            self._send(batches)
        self.samples[BATCH].append(watch.of(len(batches)))

    def _send(self, batches: Sequence[tuple[bytes, float]]) -> None:
        for body, now in batches:
            self._desk.take(body, now=now)

    def _batch(self) -> tuple[bytes, float]:
        self._sent += 1
        now = _NOW + self._sent
        records = [self._record(f"service-{number}") for number in range(10)]
        if self._sent % 101 == 0:  # a prime: else it could be the same host each time
            records[0]["state"] = "exited"
        return self._source.batch("bench.service", next(self._hosts), now, *records), now

    def _record(self, service: str) -> dict[str, Any]:
        return {"service": service, "state": "running", **{name: 90 * self._random.random() for name in _FIELDS}}


class Rules:
    """So many rules, each on a fact of its own (every tenth by a glob) that has an analyzer and a stream of its own.

    A fault is five durable transactions: a record opens a fact, a rule fires, its run ends, a record closes the fact.
    """

    def __init__(self, size: int, folder: Path, opened: contextlib.ExitStack, messages: int) -> None:
        kinds = range(size)
        analyses = [_condition(f"kind{n}.down", f"bench.kind{n}", 'record.state == "down"') for n in kinds]
        rules = [{"name": f"mend-{n}", "on": f"kind{n}.{'*' if n % 10 == 9 else 'down'}", **_MEND} for n in kinds]
        defined = [
            define(Rule, {**source, "guard": {"cooldown": "0s", "limit": {"runs": 1_000_000}}}) for source in rules
        ]
        self._analyzers = Desk(Inference(analyses, _INVENTORY.variable, {}), folder / f"analyzers-{size}.db", opened)
        self._activator = Desk(
            Activator(defined, Surroundings(_INVENTORY.variable), 1), folder / f"rules-{size}.db", opened
        )
        self._source = Source()
        self._size, self._messages, self._count = size, messages, 0
        self.samples: defaultdict[str, list[Cost]] = defaultdict(list)

    def round(self) -> None:
        with Stopwatch(self._analyzers, self._activator) as watch:
            for _ in range(self._messages):
                self._fault()
        self.samples[FAULT].append(watch.of(self._messages))

    def _fault(self) -> None:
        self._count += 1
        now = _NOW + 10 * self._count
        (fired,) = _fired(self._activator, self._tell("down", now), now)
        self._activator.take(_end(fired.execution or "", now + 1, "recovered"), now=now + 1)
        self._activator.take(*self._tell("up", now + 1), now=now + 1)

    def _tell(self, state: str, now: float) -> list[bytes]:
        """Return the facts that follow from a record."""
        kind = self._count % self._messages * self._size // self._messages
        stream, host = f"bench.kind{kind}", f"web-{self._count % _HOSTS}"
        record = {"service": f"service-{self._count}", "state": state}
        return [one.body for one in self._analyzers.take(self._source.batch(stream, host, now, record), now=now)]


class Facts:
    """So many facts are open, of ten kinds, on 500 hosts; of each kind one at a time is acted upon, the others wait."""

    def __init__(self, size: int, folder: Path, opened: contextlib.ExitStack, messages: int) -> None:
        guard = {"concurrent": {"fleet": 1}, "cooldown": "0s", "limit": {"runs": 1_000_000}}
        kinds = [{"name": f"mend-{n}", "on": f"kind{n}.down", "guard": guard, **_MEND} for n in range(_KINDS)]
        self._rules = [define(Rule, source) for source in kinds]
        self._desk = Desk(self._activator(), folder / f"facts-{size}.db", opened)
        self._size, self._messages, self._count, self._now = size, messages, 0, _NOW
        self._acted: list[Decision] = []
        self.samples: defaultdict[str, list[Cost]] = defaultdict(list)
        for first in range(0, size, _PREFETCH):
            self._act([Codec.encode(self._fact()) for _ in range(first, min(size, first + _PREFETCH))])

    def round(self) -> None:
        facts = [self._fact(kind=0) for _ in range(self._messages)]
        self._take(OPENS, facts)
        self._take(AGAIN, [self._later(fact) for fact in facts])
        self._take(CLOSES, [self._later(fact, state="closed", reason="cleared") for fact in facts])
        with Stopwatch(self._desk) as watch:
            for _ in range(1000):
                list(self._desk.decider.tick(self._now))
        self.samples[TICK].append(watch.of(1000))
        if len(self.samples[START]) < 3:
            self._run_ends()
            self._start()

    def _activator(self) -> Activator:
        return Activator(self._rules, Surroundings(_INVENTORY.variable), 1)

    def _fact(self, kind: int | None = None) -> Fact:
        number, own, now = self._count, str(uuid.uuid4()), self._now + 0.001
        self._count, self._now = number + 1, now
        service, host = f"service-{number}", f"web-{number % _HOSTS}"
        record = {"id": f"{own}#1", "service": service, "state": "exited", "wanted": True, "pid": number, "time": now}
        return Fact(
            id=own,
            time=now,
            causes=(f"{uuid.uuid4()}#1",),
            name=f"kind{number % _KINDS if kind is None else kind}.down",
            host=host,
            labels={"service": service},
            episode=own,
            state="open",
            reason="asserted",
            severity="critical",
            since=now,
            valid_until=now + 1e6,
            summary=f"{service} is exited",
            evidence=[record] * 3,
            detector="condition/kind.down",
        )

    def _later(self, fact: Fact, **changed: Any) -> Fact:
        self._now += 0.001
        return msgspec.structs.replace(fact, id=str(uuid.uuid4()), time=self._now, **changed)

    def _take(self, what: str, facts: Sequence[Fact]) -> None:
        bodies = [Codec.encode(fact) for fact in facts]
        with Stopwatch(self._desk) as watch:
            for body in bodies:
                self._desk.take(body, now=self._now)
        self.samples[what].append(watch.of(len(bodies)))

    def _act(self, bodies: Sequence[bytes]) -> None:
        self._acted += [one for one in _fired(self._desk, bodies, self._now) if one.rule == "mend-0"]

    def _run_ends(self) -> None:
        """Let the run of the first kind end in vain; then another fact takes the place of the one that it was for."""
        acted, self._now = self._acted.pop(), self._now + 0.001
        end = _end(acted.execution or "", self._now, "not_recovered")
        with Stopwatch(self._desk) as watch:
            self._act([end])
        self.samples[ENDS].append(watch.of(1))
        gone = self._later(self._fact(kind=0), episode=acted.cause, state="closed", reason="cleared")
        self._act([Codec.encode(gone), Codec.encode(self._fact(kind=0))])

    def _start(self) -> None:
        """Start another activator on what is kept."""
        again = self._activator()
        with Stopwatch(self._desk) as watch:
            again.recall(self._desk.store.rows)
            left = list(again.resume(self._now))
        assert not left, "a start changes nothing"
        self.samples[START].append(watch.of(self._size))
