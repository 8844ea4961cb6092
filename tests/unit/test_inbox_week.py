"""A week without a broker: nothing grows, whoever dies meanwhile, and all that matters is delivered when it is back."""

import gc
import tempfile
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exhaust.clock import VirtualClock
from exhaust.configuration import load
from exhaust.ids import new_id
from exhaust.main import CATALOGUE, deciders
from exhaust.messages import TERMINAL, Activation, AnyMessage, Batch, Codec, Command, Decision, ExecutionEvent, Fact
from exhaust.routing import QUEUES
from exhaust.signing import Keys, Verifier
from exhaust.wire import pack, unpack
from exhaust.worker import Worker
from tests.inboxes import MEMORY, Bench, Disk
from tests.posting import Line

DAY = 86_400.0
BEAT = 1200.0
MANY = 20
YAML = f"""
hosts: [{{name: web-1}}]
analyzers:
  - {{use: condition, fact: service.down, on: service.state, when: record.state != "running", by: [service],
      refresh: {BEAT:g}s}}
  - {{use: condition, fact: login.failed, on: service.state, when: record.state != "running", by: [service],
      expires: 30d, refresh: {BEAT:g}s}}
rules:
  - {{name: mend, on: service.down, run: mend, with: {{service: "${{{{ cause.labels.service }}}}"}}, mode: auto,
      guard: {{cooldown: 5m, attempts: 1000, window: 30d, concurrent: {MANY}, limit: {{runs: {MANY}}}}}}}
workflows:
  - name: mend
    inputs: {{service: string}}
    tasks: [{{name: restart, use: agent, do: service.restart, with: {{service: "${{{{ inputs.service }}}}"}}}}]
"""


class Component:
    """One component of the loop, before a broker that goes away."""

    def __init__(self, name: str, folder: Path) -> None:
        self.keys = Keys(folder / "keys")
        path = folder / "exhaust.yaml"
        path.write_text(YAML)
        self._name = name
        self._decider = deciders(load(path, CATALOGUE))[name]
        self._signer = self.keys.signer(name) if name != "analyzers" else None
        kinds = {"activation/1": "activator", "command/1": "orchestrator", "execution/1": "orchestrator"}
        self._verifier = Verifier({kind: self.keys.public(role) for kind, role in kinds.items()})
        self.bench = Bench(folder, self._worker)

    def _worker(self, disk: Disk, line: Line, clock: VirtualClock) -> Worker:
        opened = partial(unpack, verifier=self._verifier)
        queues = QUEUES[self._name]
        return Worker(self._name, self._decider(), disk, line, clock, queues, signer=self._signer, unpack=opened)

    def hear(self, *messages: AnyMessage) -> None:
        """Let messages come, and the broker go away before anything can be sent because of them."""
        for message in messages:
            self.bench.post.take(pack(message, self.keys.signer("activator")))
        self.bench.deliver(len(messages))
        self.bench.line.cut()
        self.bench.turn()

    def away(self, days: int) -> Iterator[tuple[int, int]]:
        """Let days pass, with a death in each; yield the rows of the store and the bytes of memory after each."""
        for _ in range(days):
            for beat in range(int(DAY / BEAT)):
                self.bench.clock.advance(BEAT)
                self.bench.turn()
                if beat == 40:
                    self.bench.crash()
            self.bench.wait(3.0)
            gc.collect()
            yield self.bench.disk.rows_in_all(), tracemalloc.get_traced_memory()[0]

    def said(self) -> list[AnyMessage]:
        """Return all that arrived when the broker was back, in order."""
        self.bench.settle()
        return [self._read(one.type, one.body) for one in self.bench.post.arrived]

    def _read(self, kind: str, body: bytes) -> AnyMessage:
        return self._verifier.open(body) if kind in ("activation/1", "command/1") else Codec.decode(body)


@pytest.fixture
def component(request: pytest.FixtureRequest) -> Iterator[Component]:
    tracemalloc.start()
    with tempfile.TemporaryDirectory(prefix="week", dir=MEMORY) as folder:
        made = Component(request.param, Path(folder))
        yield made
        made.bench.close()
    tracemalloc.stop()


def fact(n: int, now: float) -> Fact:
    about: dict[str, Any] = {"host": "web-1", "labels": {"service": f"s{n}"}, "severity": "critical", "summary": ""}
    return Fact(
        id=f"e{n}", time=now, name="service.down", episode=f"e{n}", state="open", reason="asserted", since=now,
        valid_until=now + 90, detector="test", **about,
    )  # fmt: skip


def bounded(component: Component, most: int) -> None:
    """Let the week pass, and check that nothing grows once it is known, after a day, that no answer will come."""
    rows, memory = zip(*component.away(7), strict=True)
    assert max(rows) <= most
    assert max(rows[2:]) <= rows[1]
    assert memory[-1] - memory[1] < 1 << 18


@pytest.mark.parametrize("component", ["analyzers"], indirect=True)
def test_the_analyzers_keep_only_what_matters_of_their_facts(component: Component) -> None:
    now = component.bench.clock.now()
    records = [{"service": f"s{n}", "state": "dead", "time": now} for n in range(MANY)]
    about: dict[str, Any] = {"host": "web-1", "emitter": "service", "stream": "state", "epoch": 1, "seq": 0}
    component.hear(Batch(id=new_id(now), time=now, records=records, **about))
    bounded(component, 12 * MANY)
    episodes: defaultdict[str, list[Fact]] = defaultdict(list)
    for message in component.said():
        assert isinstance(message, Fact)
        episodes[message.episode].append(message)
    assert len(episodes) == 2 * MANY
    for told in episodes.values():
        assert told[0].id == told[0].episode, "its opening first"
        assert [one.time for one in told] == sorted(one.time for one in told)
        assert len({one.id for one in told}) <= 3
        if told[0].name == "service.down":
            assert (told[-1].state, told[-1].reason) == ("closed", "expired")
        else:
            assert told[-1].state == "open"
            assert told[-1].time > component.bench.clock.now() - 3 * BEAT, "and the newest that was said"


@pytest.mark.parametrize("component", ["activator"], indirect=True)
def test_the_activator_s_decisions_come_in_order(component: Component) -> None:
    component.hear(*(fact(n, component.bench.clock.now()) for n in range(MANY)))
    bounded(component, 12 * MANY)
    said = component.said()
    for n in range(MANY):
        decisions = [one for one in said if isinstance(one, Decision) and one.cause == f"e{n}"]
        assert decisions[0].outcome == "fired"
        execution = decisions[0].execution
        assert {one.id for one in said if isinstance(one, Activation) and one.execution == execution}


@pytest.mark.parametrize("component", ["orchestrator"], indirect=True)
def test_every_run_s_end_and_verdict_come_in_order(component: Component) -> None:
    now = component.bench.clock.now()
    given: dict[str, Any] = {"workflow": "mend", "host": "web-1", "rule": "mend", "rung": 0, "attempt": 1, "epoch": 1}
    for n in range(MANY):
        given |= {"inputs": {"service": f"s{n}"}, "cause": fact(n, now), "expires": now + 60, "mode": "auto"}
        component.hear(Activation(id=f"a{n}", time=now, execution=f"x{n}", **given))
    bounded(component, 30 * MANY)
    said = component.said()
    for n in range(MANY):
        events = {one.id: one for one in said if isinstance(one, ExecutionEvent) and one.execution == f"x{n}"}
        states = [(one.state, one.verdict) for one in events.values() if one.task is None]
        assert states[0] == ("running", None)
        assert [state for state, _ in states if state in TERMINAL] == [states[-1][0]]
        assert states[-1][1] == "unknown"
        assert any(isinstance(one, Command) and one.execution == f"x{n}" for one in said)
