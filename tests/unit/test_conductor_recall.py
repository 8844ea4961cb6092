"""The orchestrator killed at any moment, and hearing things in any order: one end, in time, under the same keys."""

from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exhaust.messages import TERMINAL, Codec, Command, ExecutionEvent
from exhaust.plugins import Done
from tests.conducting import CAUSE, RESTART, TELL, Rig
from tests.harness import NOW

STOP = "{name: stop, use: agent, do: service.stop, with: {service: shop}, retry: {attempts: 2, delay: 3s}}"
START = "{name: start, use: agent, do: service.start, with: {service: shop}, timeout: 20s, on_error: continue}"
TASKS = f"{TELL}, {{parallel: [{STOP}, {START}]}}, {RESTART}"
LINES = (
    "timeout: 5m",
    "verify: {closes: cause, settle: 2s, hold: 5s, within: 30s}",
    "on_failure: [{name: page, use: ops, do: send, with: {text: help}, retry: {attempts: 3, delay: 2s}}]",
)


def recovered(rig: Rig) -> None:
    rig.activate()
    rig.harness.advance(1)
    rig.harness.finish()
    rig.harness.advance(1)
    rig.harness.answer("failed", task="stop")
    rig.harness.answer(task="start")
    rig.harness.advance(3)
    rig.harness.answer(task="stop")
    rig.close()
    rig.harness.answer(task="restart")
    rig.harness.advance(5)
    rig.see("false")
    rig.see("true")
    rig.harness.advance(5)
    rig.tell(state="open", reason="asserted", episode="second", since=rig.harness.now)
    rig.harness.advance(900)


def not_recovered(rig: Rig) -> None:
    rig.activate()
    rig.harness.finish()
    rig.harness.answer("failed", task="stop")
    rig.harness.advance(60)
    rig.harness.answer("failed", task="start")
    rig.harness.answer("failed", task="stop")
    rig.harness.advance(1)
    rig.see("false")
    rig.harness.advance(60)
    rig.harness.finish(Done(error="no route", retry=True))
    rig.harness.advance(2)
    rig.harness.finish()
    rig.harness.advance(900)


def unanswered(rig: Rig) -> None:
    rig.activate()
    rig.harness.finish()
    rig.harness.advance(900)


def skipped(rig: Rig) -> None:
    rig.activate(msgspec.structs.replace(CAUSE, valid_until=NOW + 10))
    rig.harness.advance(40)
    rig.harness.finish()
    rig.harness.advance(10)
    rig.tell(valid_until=NOW + 45)
    rig.harness.advance(900)


def rejected(rig: Rig) -> None:
    rig.activate(inputs={})
    rig.harness.advance(900)


STORIES: dict[Callable[[Rig], None], tuple[str, str]] = {
    recovered: ("succeeded", "relapsed"),
    not_recovered: ("failed", "not_recovered"),
    unanswered: ("indeterminate", "unknown"),
    skipped: ("skipped", "unknown"),
    rejected: ("rejected", "unknown"),
}


def told(folder: Path, story: Callable[[Rig], None], crashes: Container[int]) -> tuple[Rig, list[bytes], list[str]]:
    """Return all events of the run, and the keys of its commands in the order in which they were first sent.

    A command that is sent again has another id, and after a start answers are waited for anew: neither is compared.
    """
    rig = Rig(folder, *LINES, tasks=TASKS)
    rig.harness.crashes = crashes
    story(rig)
    events = [Codec.encode(msgspec.structs.replace(event, time=0, causes=())) for event in rig.of(ExecutionEvent)]
    return rig, events, list(dict.fromkeys(command.key for command in rig.of(Command)))


@pytest.mark.parametrize("story", STORIES)
def test_killed_after_any_step_it_comes_to_the_same_end_under_the_same_keys(
    tmp_path: Path, story: Callable[[Rig], None]
) -> None:
    rig, events, keys = told(tmp_path, story, ())
    assert rig.end()[:2] == STORIES[story]
    for step in range(1, rig.harness.steps + 1):
        _, again, same = told(tmp_path, story, {step})
        assert (again, same) == (events, keys), f"killed after step {step}"


@pytest.mark.parametrize("story", STORIES)
def test_killed_after_every_step_for_a_while_it_comes_to_the_same_end_under_the_same_keys(
    tmp_path: Path, story: Callable[[Rig], None]
) -> None:
    assert told(tmp_path, story, range(60))[1:] == told(tmp_path, story, ())[1:]


def test_a_run_is_timed_as_ever_once_the_orchestrator_had_to_go_back_to_what_it_keeps(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "timeout: 2m", "verify: {closes: cause, within: 30s}")
    rig.activate()
    desk = rig.harness.desks["orchestrator"]
    desk.decider.recall(desk._rows)
    rig.harness.advance(600)
    assert rig.end()[:2] == ("indeterminate", "unknown")


SAYINGS = ("true", "false", "unknown")
SHAPES: list[tuple[str, Iterable[str]]] = [
    (RESTART, ()),
    (TASKS, LINES),
    (RESTART, ("timeout: 20s", "verify: {closes: cause, samples: 2, within: 15s}", LINES[2])),
    (
        f"{STOP[:-1]}, on_error: continue}}, {RESTART}",
        (LINES[0], f"on_failure: [{START}, {TELL[:-1]}, retry: {{attempts: 9, delay: 1m}}}}]"),
    ),
]
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.sampled_from([0.0, 0.5, 3.0, 20.0, 65.0])),
        st.tuples(st.just("answer"), st.sampled_from(["succeeded", "failed", "refused", "indeterminate"])),
        st.tuples(st.just("expire"), st.none()),
        st.tuples(st.just("finish"), st.sampled_from([Done(), Done(error="e"), Done(error="e", retry=True)])),
        st.tuples(st.just("close"), st.sampled_from(["cleared", "expired"])),
        st.tuples(st.just("tell"), st.sampled_from([-1.0, 5.0, 90.0])),
        st.tuples(st.just("return"), st.none()),
        st.tuples(st.just("see"), st.sampled_from(SAYINGS)),
        st.tuples(st.just("sleep"), st.sampled_from([0.0, 10.0, 1000.0, -10.0, -5000.0])),
    ),
    max_size=25,
)


def happen(rig: Rig, what: str, how: Any) -> None:
    harness = rig.harness
    match what:
        case "advance":
            harness.advance(how)
        case "answer" if harness.commands:
            harness.answer(how)
        case "expire" if harness.commands:
            harness.expire()
        case "finish" if harness.works:
            harness.finish(how)
        case "close":
            rig.close(how)
        case "tell":
            rig.tell(valid_until=harness.now + how)
        case "return":
            rig.tell(state="open", reason="asserted", episode=f"at {harness.now}", since=harness.now)
        case "see":
            rig.see(how)
        case "sleep":
            harness.now += how
            harness.restart()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SHAPES), happenings, happenings)
def test_in_whatever_order_it_hears_of_things_it_ends_once_and_in_time(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[str, Iterable[str]],
    before: list[tuple[str, Any]],
    after: list[tuple[str, Any]],
) -> None:
    rig = Rig(tmp_path_factory.mktemp("any"), *shape[1], tasks=shape[0])
    for what, how in before[:3]:
        happen(rig, what, how)
    rig.activate()
    back = 0.0
    for what, how in after:
        over = rig.end()[0] in TERMINAL
        happen(rig, what, how)
        back = rig.harness.now if what == "sleep" and not over else back
    deadline = [event.deadline for event in rig.of(ExecutionEvent) if event.deadline][-1]
    rig.harness.advance(max(deadline, back) + 60 - rig.harness.now + 1000)
    own = [event for event in rig.of(ExecutionEvent) if event.task is None]
    ends = [event for event in own if event.state in TERMINAL and event.verdict != "relapsed"]
    assert len(ends) == 1
    assert ends[0].time <= max(deadline, back) + 60
    assert ends[0].verdict is not None
    keys = [command.key for command in rig.of(Command)]
    running = [event for event in rig.of(ExecutionEvent) if event.task is not None and event.state == "running"]
    assert len(set(keys)) <= len(running)
