"""What each component of an installation takes: what was re-sent to it, what a stranger sends, ids that come twice."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exhaust.broker.embedded import Embedded
from exhaust.broker.interface import ACKNOWLEDGE, Delivery, Disposition, Publication, Reject
from exhaust.clock import VirtualClock
from exhaust.configuration import load
from exhaust.lifecycle.leading import Led
from exhaust.lifecycle.service import Station
from exhaust.main import CATALOGUE, compose
from exhaust.messages import Activation, Batch, Codec, Command, ExecutionEvent, Fact, Message, Order, Result, Watch
from exhaust.resending import resent
from exhaust.routing import KNOWLEDGE, QUEUES, agent_queue, control_queue
from exhaust.signing import SIGNED, Keys
from exhaust.store import Store
from exhaust.wire import pack
from exhaust.worker import Worker

NOW = 1_800_000_000.0
HOST = "web-1"
_RUN: dict[str, Any] = {"execution": "x1", "workflow": "mend"}
_FACT: dict[str, Any] = {
    "episode": "e1",
    "reason": "asserted",
    "severity": "info",
    "since": NOW,
    "valid_until": NOW + 9,
}

BATCH = Batch(id="m", time=NOW, host=HOST, emitter="service", stream="state", epoch=1, seq=0, records=[{"time": NOW}])
WATCH = Watch(id="m", time=NOW, execution="x1", host=HOST, until=NOW + 9, on="service.state", when="true")
FACT = Fact(id="m", time=NOW, name="service.down", host=HOST, labels={}, state="open", **_FACT)
ENDED = ExecutionEvent(id="m", time=NOW, definition="d", state="succeeded", **_RUN)
HALT = Order(id="m", time=NOW, order="halt", target=None, by="ann")
ACTIVATION = Activation(
    id="m", time=NOW, inputs={}, rule="r", rung=0, attempt=1, cause=None, host=HOST, mode="auto", expires=NOW + 9,
    epoch=1, **_RUN,
)  # fmt: skip
RESULT = Result(id="m", time=NOW, command="c", key="k", execution="x1", host=HOST, state="succeeded")
COMMAND = Command(
    id="m", time=NOW, execution="x1", task="t", host=HOST, action="service.restart", params={}, audience="", epoch=1,
    seq=1, expires=NOW + 60, key="k", timeout=9.0,
)  # fmt: skip

AUTHORS: dict[type[Message], str] = {
    Activation: "activator", ExecutionEvent: "orchestrator", Command: "orchestrator", Order: "collector",
    Result: "agent",
}  # fmt: skip
READ: Sequence[tuple[str, Message]] = [
    ("analyzers", BATCH), ("analyzers", WATCH), ("activator", FACT), ("activator", ENDED), ("activator", HALT),
    ("orchestrator", ACTIVATION), ("orchestrator", RESULT), ("orchestrator", FACT), ("orchestrator", HALT),
    ("agent", COMMAND), ("agent", HALT),
]  # fmt: skip
BY_AUTHOR = [(reader, message) for reader, message in READ if type(message) in AUTHORS]
OF = {**QUEUES, "agent": (agent_queue(HOST), control_queue(HOST))}


class Installation:
    """Its keys, and its components as they are composed, without a broker in between."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        path = folder / "exhaust.yaml"
        path.write_text(f"hosts: [{{name: {HOST}}}]\n")
        self.keys = Keys(folder / "keys")
        self._configuration = load(path, CATALOGUE)
        self._station = Station(HOST, folder, VirtualClock(NOW), Embedded(), self.keys)
        self._opened = opened
        self._workers: dict[str, Worker] = {}

    def worker(self, component: str) -> Worker:
        if component not in self._workers:
            service = compose(component, self._configuration, self._station)
            if isinstance(service, Led):
                service = service._make(self._opened.enter_context(Store(self._station.state / f"{component}.db")))
            assert isinstance(service, Worker)
            if component == "agent":
                self._opened.enter_context(service._store)
            service._decider.recall(service._store.rows)
            self._workers[component] = service
        return self._workers[component]

    def give(self, component: str, delivery: Delivery) -> Disposition:
        steps = self.worker(component).handle([delivery]).__await__()
        with pytest.raises(StopIteration) as ended:
            next(steps)
        (answer,) = ended.value.value
        assert answer == ACKNOWLEDGE or isinstance(answer, Reject)
        return answer  # type: ignore[no-any-return]  # a StopIteration's value is anything

    def first(self, component: str, message: Message, author: str = "") -> Delivery:
        """A message as it first comes to a component; by another author where one is named."""
        role = author or AUTHORS.get(type(message), "collector")
        if isinstance(message, Command):
            message = replaced(message, audience=self.keys.signer("agent").fingerprint)
        out = pack(message, self.keys.signer(role))
        bound = {binding.exchange: queue.name for queue in OF[component] for binding in queue.bindings}
        return came(out, bound[out.exchange])

    def again(self, first: Delivery, role: str = "collector") -> Delivery:
        return came(resent(first, 1, self.keys.signer(role)), first.queue)


def replaced(message: Command, **fields: Any) -> Command:
    return Command(**{name: getattr(message, name) for name in message.__struct_fields__} | fields)


def came(out: Publication, queue: str) -> Delivery:
    return Delivery(out.exchange, out.key, out.id, out.type, out.body, out.time, out.headers, queue, 1)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with ExitStack() as opened:
        yield Installation(tmp_path, opened)


@pytest.mark.parametrize(("reader", "message"), READ)
def test_what_the_collector_sends_again_is_taken(installation: Installation, reader: str, message: Message) -> None:
    first = installation.first(reader, message)
    assert installation.give(reader, installation.again(first)) == ACKNOWLEDGE
    assert installation.worker(reader).counts["handled"] == 1


@pytest.mark.parametrize(("reader", "message"), READ)
@pytest.mark.parametrize(
    "straight",
    [
        lambda here, first: replace(first, exchange="", key=first.queue),
        lambda here, first: here.again(first, "agent"),
        lambda here, first: here.again(first, "orchestrator"),
        lambda here, first: replace(here.again(first), queue="exhaust.another"),
        lambda here, first: replace(here.again(first), id="another"),
    ],
)
def test_what_anybody_else_sends_straight_to_the_queue_is_refused(
    installation: Installation, reader: str, message: Message, straight: Callable[[Installation, Delivery], Delivery]
) -> None:
    sent = straight(installation, installation.first(reader, message))
    assert isinstance(installation.give(reader, sent), Reject)
    assert installation.worker(reader).counts["handled"] == 0


@pytest.mark.parametrize(("reader", "message"), BY_AUTHOR)
def test_what_another_than_its_author_signed_is_refused_though_the_collector_sends_it_again(
    installation: Installation, reader: str, message: Message
) -> None:
    author = "agent" if AUTHORS[type(message)] != "agent" else "activator"
    forged = installation.first(reader, message, author)
    for delivery in (forged, installation.again(forged)):
        answer = installation.give(reader, delivery)
        assert isinstance(answer, Reject)
        assert answer.reason.startswith("forged: ")


@pytest.mark.parametrize(("reader", "message"), [one for one in BY_AUTHOR if isinstance(one[1], SIGNED)])
def test_what_nobody_signed_is_refused_though_the_collector_sends_it_again(
    installation: Installation, reader: str, message: Message
) -> None:
    bare = replace(installation.first(reader, message), body=Codec.encode(message))
    assert isinstance(installation.give(reader, installation.again(bare)), Reject)


@pytest.mark.parametrize(("reader", "message"), [one for one in BY_AUTHOR if one[0] in ("activator", "orchestrator")])
def test_a_fact_with_the_id_of_a_signed_message_does_not_swallow_it(
    installation: Installation, reader: str, message: Message
) -> None:
    assert installation.give(reader, installation.first(reader, FACT)) == ACKNOWLEDGE
    assert installation.give(reader, installation.first(reader, message)) == ACKNOWLEDGE
    worker = installation.worker(reader)
    assert (worker.counts["handled"], worker.counts["duplicate"]) == (2, 0)
    worker._flush()
    assert len(worker._store.seen([f"{KNOWLEDGE}/m", f"{installation.first(reader, message).exchange}/m"])) == 2


@pytest.mark.parametrize("written", [False, True])
def test_a_halt_is_in_force_though_a_fact_came_with_its_id(installation: Installation, written: bool) -> None:
    for reader in ("activator", "orchestrator"):
        installation.give(reader, installation.first(reader, FACT))
        if written:
            installation.worker(reader)._flush()
        installation.give(reader, installation.first(reader, HALT))
        assert list(installation.worker(reader)._store.rows("halt/")) != []


@pytest.mark.parametrize(("reader", "message"), [one for one in READ if one[1] is not BATCH])
def test_what_was_taken_is_the_same_message_when_it_is_sent_again(
    installation: Installation, reader: str, message: Message
) -> None:
    first = installation.first(reader, message)
    for delivery in (first, installation.again(first), first):
        assert installation.give(reader, delivery) == ACKNOWLEDGE
    worker = installation.worker(reader)
    assert (worker.counts["handled"], worker.counts["duplicate"]) == (1, 2)


@pytest.mark.parametrize(("reader", "message"), READ)
def test_what_was_refused_is_not_marked_and_is_taken_when_it_is_sent_again(
    installation: Installation, reader: str, message: Message
) -> None:
    first = installation.first(reader, message)
    assert isinstance(installation.give(reader, replace(first, key="another")), Reject)
    assert installation.give(reader, installation.again(first)) == ACKNOWLEDGE
    assert installation.worker(reader).counts["handled"] == 1


def test_a_batch_that_is_sent_again_is_known_by_its_number(installation: Installation) -> None:
    first = installation.first("analyzers", BATCH)
    for delivery in (first, installation.again(first)):
        assert installation.give("analyzers", delivery) == ACKNOWLEDGE
    worker = installation.worker("analyzers")
    assert worker._decider.status()["records"] == {"records": 1, "duplicate": 1}
    assert worker._store.seen(["exhaust.telemetry/m", "/m", "m"]) == set()
