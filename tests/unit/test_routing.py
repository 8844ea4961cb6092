"""Routing: where each message goes, that who needs it has bound for it, and that no host passes for another."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exhaust.broker.embedded import matches, words_of
from exhaust.broker.handling import DEAD_QUEUE
from exhaust.messages import AnyMessage, Batch, Codec, ExecutionEvent, ExecutionState, Message
from exhaust.routing import COMMANDS, EXCHANGES, QUEUES, RESULTS, address, agent_queue, control_queue, word

GOLDEN = Path(__file__).parent.parent / "golden" / "messages"
NAMES = st.text(st.sampled_from("ab.*#%-2E"), min_size=1)


def golden(name: str) -> AnyMessage:
    return Codec.decode((GOLDEN / f"{name}.json").read_bytes())


@pytest.mark.parametrize(
    ("name", "exchange", "key", "readers"),
    [
        ("Batch", "exhaust.telemetry", "web-1.service.state", {"collector", "analyzers"}),
        ("Fact", "exhaust.knowledge", "fact.web-1.service.down", {"collector", "activator", "orchestrator"}),
        ("Watch", "exhaust.knowledge", "watch.web-1", {"analyzers"}),
        ("Sighting", "exhaust.knowledge", "sighting.web-1", {"orchestrator"}),
        ("Activation", "exhaust.activations", "restart-service", {"orchestrator"}),
        ("Command", "exhaust.commands", "web-1", {"agent"}),
        ("Result", "exhaust.results", "web-1", {"orchestrator"}),
        (
            "Prediction",
            "exhaust.knowledge",
            "prediction.web-1.disk.filling",
            {"collector", "activator", "orchestrator"},
        ),
        ("Order", "exhaust.control", "order.trigger", {"activator"}),
        ("Decision", "exhaust.journal", "decision.restart-dead-service", {"collector"}),
        ("ExecutionEvent", "exhaust.journal", "execution.restart-service.task", {"collector"}),
    ],
)
def test_a_message_has_its_address_and_its_readers(name: str, exchange: str, key: str, readers: set[str]) -> None:
    assert address(golden(name)) == (exchange, key)
    assert set(_readers(exchange, key)) == readers


@pytest.mark.parametrize(("state", "readers"), [("running", {"collector"}), ("failed", {"collector", "activator"})])
def test_the_end_of_a_run_reaches_who_decides(state: ExecutionState, readers: set[str]) -> None:
    event = golden("ExecutionEvent")
    assert isinstance(event, ExecutionEvent)
    assert set(_readers(*address(msgspec.structs.replace(event, task=None, state=state)))) == readers


def test_a_halt_reaches_all_that_act_and_no_command_can_stand_before_it() -> None:
    assert set(_readers("exhaust.control", "order.halt")) == {"activator", "orchestrator", "agent"}
    assert not {binding.exchange for binding in control_queue("web-1").bindings} & {COMMANDS}


def test_every_kind_has_an_address_on_an_exchange_that_is_declared() -> None:
    for kind in get_args(AnyMessage):
        assert address(golden(kind.__name__))[0] in EXCHANGES


def test_what_is_no_kind_of_ours_has_no_address() -> None:
    with pytest.raises(TypeError, match="Message has no address"):
        address(Message(id="x", time=0.0))


def _readers(exchange: str, key: str) -> Iterator[str]:
    for component, queues in {**QUEUES, "agent": (agent_queue("web-1"), control_queue("web-1"))}.items():
        bindings = (binding for queue in queues for binding in queue.bindings)
        if any(one.exchange == exchange and matches(words_of(one.pattern), words_of(key)) for one in bindings):
            yield component


@given(NAMES, NAMES)
def test_a_host_is_one_word_and_no_two_hosts_are_the_same_word(one: str, other: str) -> None:
    assert not set(word(one)) & set(".*#")
    assert (word(one) == word(other)) == (one == other)


def test_no_host_is_a_dash() -> None:
    assert word(None) == "-"
    assert word("web.1") == "web%2E1"


@given(NAMES, NAMES)
def test_an_agent_gets_the_commands_of_its_own_host_alone(own: str, other: str) -> None:
    (binding,) = agent_queue(own).bindings
    assert binding.exchange == COMMANDS
    assert matches(words_of(binding.pattern), words_of(word(other))) == (own == other)


def test_a_command_that_nobody_read_comes_back_among_the_results() -> None:
    queue = agent_queue("web.1")
    assert queue.name == "exhaust.agent.web%2E1"
    assert queue.expires_to == (RESULTS, "web%2E1")
    assert not queue.leader
    assert queue.most


def test_queues_are_named_after_component_and_exchange_and_each_is_there_once() -> None:
    names = [queue.name for queues in QUEUES.values() for queue in queues]
    assert len(set(names)) == len(names)
    for component, queues in QUEUES.items():
        for queue in set(queues) - {DEAD_QUEUE}:
            (exchange,) = {binding.exchange for binding in queue.bindings}
            assert queue.name == f"exhaust.{component}.{exchange.removeprefix('exhaust.')}"
            assert queue.leader
            assert queue.delivery_limit == 20


def test_dead_letters_are_read_by_the_collector_alone() -> None:
    assert set(_readers("exhaust.dead", "exhaust.analyzers.telemetry")) == {"collector"}
    assert DEAD_QUEUE in QUEUES["collector"]


def test_a_backlog_reaches_the_analyzers() -> None:
    batch = golden("Batch")
    assert isinstance(batch, Batch)
    assert "analyzers" in set(_readers("exhaust.backlog", address(batch)[1]))
