"""A run is what its journal says: folding the entries gives its state, its tasks, and what is next."""

from typing import Any

import msgspec
import pytest

from exhaust.language import define
from exhaust.messages import Activation, ExecutionEvent, Fact, Sighting
from orchestrator.run import Run
from orchestrator.workflows import Workflow
from tests.conducting import CAUSE
from tests.harness import HOST, NOW


def task(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "use": "agent", "do": "service.restart", **more}


def workflow(*tasks: Any, **more: Any) -> dict[str, Any]:
    return {"name": "mend", "tasks": list(tasks), **more}


def run(source: dict[str, Any], cause: Fact | None = CAUSE, **inputs: Any) -> Run:
    given = Activation(
        id="a",
        time=NOW,
        execution="run",
        workflow="mend",
        inputs=inputs,
        rule="r",
        rung=1,
        attempt=2,
        cause=cause,
        host=HOST,
        mode="auto",
        expires=NOW + 60,
        epoch=1,
    )
    made = Run(given, define(Workflow, source))
    made.fold(given)
    return made


def own(one: Run, state: Any, at: float = 0.0, **more: Any) -> None:
    one.fold(event(state, at, **more))


def event(state: Any, at: float = 0.0, **more: Any) -> ExecutionEvent:
    about = {"execution": "run", "workflow": "mend", "definition": "d", "state": state}
    return ExecutionEvent(id=f"e{at}{more}", time=NOW + at, **about, **more)


def on(one: Run, name: str, state: Any, at: float = 0.0, **more: Any) -> None:
    own(one, state, at, task=name, **more)


def names(one: Run) -> list[str]:
    return [spec.name for spec in one.current_step()]


def test_a_new_run_is_pending_and_at_its_first_step() -> None:
    one = run(workflow(task("a"), task("b")))
    assert (one.id, one.state, one.over, names(one), one.running()) == ("run", "pending", False, ["a"], [])


def test_its_own_events_give_state_deadline_and_verdict() -> None:
    one = run(workflow(task("a")))
    own(one, "running", deadline=NOW + 700)
    assert (one.state, one.began, one.deadline, one.over) == ("running", NOW, NOW + 700, False)
    own(one, "failed", 5, verdict="not_recovered", reason="why")
    assert (one.state, one.verdict, one.reason, one.ended, one.over) == (
        "failed",
        "not_recovered",
        "why",
        NOW + 5,
        True,
    )


def test_a_relapse_changes_the_verdict_and_not_when_it_ended() -> None:
    one = run(workflow(task("a")))
    own(one, "succeeded", 5, verdict="recovered")
    own(one, "succeeded", 90, verdict="relapsed")
    assert (one.state, one.verdict, one.ended) == ("succeeded", "relapsed", NOW + 5)


def test_a_step_is_the_current_one_until_all_its_tasks_are_over() -> None:
    one = run(workflow({"parallel": [task("a"), task("b")]}, task("c")))
    assert names(one) == ["a", "b"]
    on(one, "a", "running")
    on(one, "a", "succeeded")
    assert names(one) == ["a", "b"]
    on(one, "b", "succeeded")
    assert names(one) == ["c"]
    on(one, "c", "succeeded")
    assert names(one) == []


def test_a_task_that_is_to_be_tried_again_is_not_over() -> None:
    one = run(workflow(task("a", retry={"attempts": 3, "delay": "2s", "backoff": 3, "max_delay": "5s"})))
    on(one, "a", "running", attempt=1)
    on(one, "a", "failed", 10, attempt=1, reason="retry")
    assert (one.task("a").over, one.task("a").retry_at, one.failure()) == (False, NOW + 12, None)
    on(one, "a", "running", 12, attempt=2)
    assert (one.running(), one.task("a").retry_at) == (["a"], None)
    on(one, "a", "failed", 20, attempt=2, reason="retry")
    assert one.task("a").retry_at == NOW + 25
    on(one, "a", "failed", 30, attempt=3)
    assert (one.task("a").over, one.failure()) == (True, "failed")


@pytest.mark.parametrize("state", ["failed", "indeterminate"])
def test_a_failure_is_one_when_its_step_is_over_and_it_must_not_fail(state: Any) -> None:
    one = run(workflow({"parallel": [task("a"), task("b", on_error="continue")]}))
    on(one, "b", state)
    assert one.failure() is None
    on(one, "a", "succeeded")
    assert one.failure() is None
    one = run(workflow({"parallel": [task("a"), task("b")]}))
    on(one, "b", state)
    assert one.failure() is None
    on(one, "a", "succeeded")
    assert one.failure() == state


def test_on_failure_is_a_part_of_its_own() -> None:
    one = run(workflow(task("a"), on_failure=[task("page")]))
    on(one, "a", "failed")
    own(one, "running", verdict="unknown", reason="on_failure", output={"tasks": "failed"})
    assert (names(one), one.failure(), one.tasks_ended, one.handling_failure) == (["page"], None, "failed", True)


def test_fresh_is_what_is_newer_than_the_last_mutating_start_by_the_agents_clock() -> None:
    one = run(workflow(task("a"), task("b")))
    on(one, "a", "running", 1, reason="mutating")
    assert one.freshness == (NOW + 1, "received")
    on(one, "a", "succeeded", 2, started=NOW + 1.5)
    assert one.freshness == (NOW + 1.5, "time")
    on(one, "b", "running", 3, reason="mutating")
    assert one.freshness == (NOW + 3, "received")
    on(one, "b", "succeeded", 5, started=NOW + 4)
    assert one.freshness == (NOW + 4, "time")


def test_another_hosts_clock_is_not_the_evidences() -> None:
    one = run(workflow(task("a", host="web-2")))
    on(one, "a", "running", 1, reason="mutating")
    on(one, "a", "succeeded", 2, started=NOW + 1.5)
    assert one.freshness == (NOW + 1, "received")


def test_verification_lasts_for_settle_within_and_hold() -> None:
    one = run(workflow(task("a"), verify={"settle": "5s", "within": "20s", "hold": "3s"}))
    own(one, "verifying", 10, output={"tasks": "succeeded"})
    assert (one.tasks_ended, one.since, one.verify_until) == ("succeeded", NOW + 10, NOW + 38)


def test_what_came_in_is_part_of_the_journal() -> None:
    one = run(workflow(task("a")))
    closed = msgspec.structs.replace(CAUSE, state="closed")
    sighting = Sighting(id="s", time=NOW, execution="run", host=HOST, holds="true", samples=1)
    one.fold(closed)
    one.fold(sighting)
    assert (one.cause, one.sighting, one.entries, one.events) == (closed, sighting, 3, 0)


def test_without_a_cause_only_a_condition_of_its_own_can_be_verified() -> None:
    assert run(workflow(task("a"))).verifiable
    assert not run(workflow(task("a")), None).verifiable
    assert run(workflow(task("a"), verify={"on": "service.state", "when": "true"}), None).verifiable


def test_expressions_see_cause_tasks_and_execution() -> None:
    one = run(workflow(task("a")))
    on(one, "a", "failed", output={"pid": 7}, error="exit 1")
    assert one.tasks_variable() == {"a": {"state": "failed", "output": {"pid": 7}, "error": "exit 1"}}
    cause = one.cause_variable() or {}
    assert (cause["id"], cause["labels"], cause["name"]) == ("episode", {"service": "shop"}, "service.down")
    assert one.execution_variable() == {
        "id": "run",
        "workflow": "mend",
        "host": HOST,
        "rule": "r",
        "state": "pending",
        "verdict": None,
        "attempt": 2,
    }


def test_inputs_that_do_not_fit_are_told_and_raise_nothing() -> None:
    one = run(workflow(task("a"), inputs={"count": "int"}), count="many")
    assert (one.misfit, one.inputs) == ("input 'count' should be of type int, got 'many'", {})


def test_the_same_journal_gives_the_same_run() -> None:
    one, other = (run(workflow(task("a"), task("b"))) for _ in range(2))
    entries = [event("running", deadline=NOW + 9), event("running", 1, task="a"), event("failed", 2, task="a")]
    for entry in entries:
        one.fold(entry)
        other.fold(entry)
    assert one == other
