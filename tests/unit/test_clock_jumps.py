"""A clock that is set while the loop runs: nothing acts twice, nothing is called gone, and it goes on from there."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exhaust.messages import Activation, Command, Decision, ExecutionEvent, Fact
from tests import conducting, deciding
from tests.harness import HOST, NOW, Harness

SITE = """
hosts: [{name: web-1}]
analyzers: [{use: condition, fact: service.down, on: service.state, when: record.state != "running", by: [service]}]
rules:
  - name: restart
    on: service.down
    run: restart
    with: {service: "${{ cause.labels.service }}"}
    mode: auto
    guard: {attempts: 2, window: 1h, cooldown: 0s}
workflows:
  - name: restart
    inputs: {service: string}
    tasks: [{name: restart, use: agent, do: service.restart, with: {service: "${{ inputs.service }}"}}]
    verify: {closes: cause, within: 30s}
"""
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
BACK = [-DAY, -HOUR, -MINUTE]
JUMPS = [*BACK, MINUTE, HOUR, DAY]
RESTARTS = pytest.mark.parametrize("restart", [False, True])


def say(harness: Harness, state: str) -> None:
    harness.batch("service.state", {"service": "shop", "state": state})


def end(harness: Harness, execution: str = "") -> tuple[str, str | None]:
    own = [event for event in harness.of(ExecutionEvent) if event.task is None]
    newest = [event for event in own if execution in ("", event.execution)][-1]
    return newest.state, newest.verdict


def heal(harness: Harness) -> None:
    say(harness, "failed")
    harness.answer()
    harness.advance(1)
    say(harness, "running")


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_in_the_middle_of_a_run_starts_nothing_twice(tmp_path: Path, jump: float) -> None:
    harness = Harness(tmp_path, SITE)
    say(harness, "failed")
    harness.now += jump
    harness.advance(1)
    harness.advance(120)
    assert len({command.key for command in harness.of(Command)}) <= 2
    assert end(harness)[1] in (None, "unknown", "not_recovered")


@pytest.mark.parametrize("jump", JUMPS)
def test_after_a_jump_a_fault_is_found_and_healed_as_ever(tmp_path: Path, jump: float) -> None:
    harness = Harness(tmp_path, SITE)
    say(harness, "running")
    harness.now += jump
    harness.advance(1)
    say(harness, "running")
    heal(harness)
    assert end(harness) == ("succeeded", "recovered")
    assert [fact.state for fact in harness.of(Fact)] == ["open", "closed"]
    assert harness.of(Fact)[0].host == HOST


@RESTARTS
@pytest.mark.parametrize("jump", JUMPS)
def test_the_next_fault_is_healed_at_once_whatever_the_clock_was_set_to_since_the_last(
    tmp_path: Path, jump: float, restart: bool
) -> None:
    harness = Harness(tmp_path, SITE)
    heal(harness)
    harness.now += jump
    if restart:
        harness.restart()
    before = harness.now
    heal(harness)
    assert end(harness) == ("succeeded", "recovered")
    assert harness.now == before + 1
    assert [one.outcome for one in harness.of(Decision)] == ["fired", "fired"]


@RESTARTS
@pytest.mark.parametrize("jump", JUMPS)
def test_a_run_that_is_being_verified_is_over_within_the_time_that_it_was_given(
    tmp_path: Path, jump: float, restart: bool
) -> None:
    harness = Harness(tmp_path, SITE)
    say(harness, "failed")
    harness.answer()
    harness.advance(5)
    harness.set_clock(jump, restart=restart)
    harness.advance(30)
    execution = harness.of(Activation)[0].execution
    assert end(harness, execution) == ("succeeded", "unknown")
    say(harness, "failed")
    assert len(harness.of(Activation)) == 2  # its slot is free


def test_a_host_whose_clock_alone_was_set_back_clears_nothing(tmp_path: Path) -> None:
    harness = Harness(tmp_path, SITE)
    say(harness, "failed")
    harness.batch("service.state", {"service": "shop", "state": "running", "time": harness.now - 3600})
    assert [fact.reason for fact in harness.of(Fact)] == ["asserted"]


# The activator


@RESTARTS
@pytest.mark.parametrize("jump", BACK)
def test_a_cooldown_lasts_no_longer_than_it_says_from_when_the_clock_was_set_back(
    tmp_path: Path, jump: float, restart: bool
) -> None:
    rig = deciding.Rig(tmp_path, "guard: {attempts: 9, cooldown: 20s}")
    rig.open()
    rig.end("not_recovered")
    rig.harness.set_clock(jump, restart=restart)
    rig.harness.advance(19)
    if restart:
        rig.harness.restart()
    assert [outcome for _, outcome, _ in rig.told] == ["fired", "refused"]
    rig.harness.advance(1)
    assert [outcome for _, outcome, _ in rig.told] == ["fired", "refused", "fired"]


def test_an_end_that_is_told_by_a_clock_ahead_of_ours_was_no_later_than_now(tmp_path: Path) -> None:
    rig = deciding.Rig(tmp_path, "guard: {attempts: 9, cooldown: 0s}")
    rig.open()
    rig.harness.send(msgspec.structs.replace(rig.event("failed", "not_recovered"), time=NOW + 3))
    assert rig.told == [(0, "fired", []), (0, "fired", [])]


@RESTARTS
def test_a_run_never_heard_of_again_is_given_up_a_day_after_the_clock_was_set_back(
    tmp_path: Path, restart: bool
) -> None:
    rig = deciding.Rig(tmp_path)
    rig.open()
    rig.harness.set_clock(-30 * DAY, restart=restart)
    rig.harness.advance(DAY - 1)
    assert rig.harness.desks["activator"].decider.status()["running"] == 1
    rig.harness.advance(1)
    assert rig.harness.desks["activator"].decider.status()["running"] == 0


def test_a_fact_that_is_asserted_again_after_the_clock_was_set_back_is_valid_until_it_says(tmp_path: Path) -> None:
    rig = deciding.Rig(tmp_path, "when: cause.severity == 'critical'", "guard: {attempts: 9, cooldown: 0s}")
    fact = rig.open()
    rig.harness.now -= DAY
    rig.reassert(fact)
    rig.end("not_recovered")
    rig.harness.advance(91)
    rig.end("not_recovered")
    assert rig.told[-1][1:] == ("refused", ["stale"])


steps = st.tuples(st.sampled_from([0.0, *BACK, -10.0]), st.booleans(), st.sampled_from([1.0, 15.0, 25.0, 200.0, 700.0]))


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=15))
def test_a_clock_set_back_lets_no_more_through_than_the_guards_allow_and_holds_nothing_back_for_good(
    tmp_path_factory: pytest.TempPathFactory, given: list[tuple[float, bool, float]]
) -> None:
    rig = deciding.Rig(tmp_path_factory.mktemp("any"), "guard: {attempts: 2, window: 10m, cooldown: 20s}")
    rig.open(valid_until=NOW + DAY)
    fired: list[float] = []
    ends: list[float] = []
    behind = 0.0
    for jump, restart, seconds in [(0.0, False, 0.0), *given, (0.0, True, 620.0)]:
        rig.harness.now += jump
        behind -= jump
        if restart:
            rig.harness.restart()
        rig.harness.advance(seconds)
        for activation in rig.of(Activation)[len(ends) :]:
            fired.append(activation.time + behind)
            assert sum(fired[-1] - moment < 600 for moment in ends) < 2
            assert all(fired[-1] - moment >= 20 for moment in ends)
            rig.end("not_recovered")
            ends.append(rig.harness.now + behind)
    assert fired[-1] >= rig.harness.now + behind - 620


# The orchestrator

RETRY = "{name: restart, use: agent, do: service.restart, with: {service: shop}, retry: {attempts: 2, delay: 3s}}"


@RESTARTS
@pytest.mark.parametrize("jump", BACK)
def test_a_retry_waits_no_longer_than_its_delay(tmp_path: Path, jump: float, restart: bool) -> None:
    rig = conducting.Rig(tmp_path, tasks=RETRY)
    rig.activate()
    rig.harness.answer("failed")
    rig.harness.set_clock(jump, restart=restart)
    rig.harness.advance(3)
    assert [state for _, _, state in rig.tasks()] == ["running", "failed", "running"]


@RESTARTS
@pytest.mark.parametrize("jump", JUMPS)
def test_a_task_that_nobody_answers_is_given_up_when_its_time_is_over(
    tmp_path: Path, jump: float, restart: bool
) -> None:
    rig = conducting.Rig(tmp_path, "timeout: 1h", "verify: {closes: cause, within: 30s}")
    rig.activate()
    rig.harness.restart()
    rig.harness.advance(10)
    rig.harness.set_clock(jump, restart=restart)
    rig.harness.advance(125 + 30)
    assert rig.end()[:2] == ("indeterminate", "unknown")
    assert len({command.key for command in rig.of(Command)}) == 1


@RESTARTS
@pytest.mark.parametrize("jump", JUMPS)
def test_a_run_is_over_a_minute_after_its_deadline(tmp_path: Path, jump: float, restart: bool) -> None:
    slow = "use: ops, do: send, with: {text: hello}, timeout: 12h"
    lines = ("timeout: 2m", "verify: {closes: cause, within: 30s}", f"on_failure: [{{name: page, {slow}}}]")
    rig = conducting.Rig(tmp_path, *lines, tasks=f"{{name: tell, {slow}}}")
    rig.activate()
    rig.harness.advance(140)
    assert [(name, state) for _, name, state in rig.tasks()][-1] == ("page", "running")
    rig.harness.set_clock(jump, restart=restart)
    rig.harness.advance(150 + 60)
    assert rig.end()[:2] == ("indeterminate", "unknown")


@pytest.mark.parametrize("jump", BACK)
def test_the_deadline_that_is_told_is_never_further_away_than_a_run_is_long(tmp_path: Path, jump: float) -> None:
    rig = conducting.Rig(tmp_path, "timeout: 2m", "verify: {closes: cause, within: 30s}")
    rig.activate()
    rig.harness.set_clock(jump, restart=True)
    rig.harness.advance(10)
    rig.harness.restart()
    deadlines = [(one.time - NOW, one.deadline - NOW) for one in rig.of(ExecutionEvent) if one.deadline]
    assert deadlines == [(0, 150), (jump, jump + 150)]


@RESTARTS
@pytest.mark.parametrize("jump", BACK)
@pytest.mark.parametrize(("later", "verdict"), [(590, "relapsed"), (610, "recovered")])
def test_what_comes_back_is_a_relapse_for_as_long_as_it_was_to_be(
    tmp_path: Path, jump: float, restart: bool, later: float, verdict: str
) -> None:
    rig = conducting.Rig(tmp_path, "verify: {closes: cause, relapse: 10m}")
    rig.activate()
    rig.harness.advance(1)
    rig.harness.answer()
    rig.harness.advance(1)
    rig.close()
    rig.harness.set_clock(jump - 600, restart=restart)
    rig.harness.advance(later)
    rig.tell(state="open", reason="asserted", episode="second", since=rig.harness.now)
    assert rig.end()[1] == verdict
    ends = [event for event in rig.of(ExecutionEvent) if event.state == "succeeded" and event.task is None]
    assert len(ends) == (2 if verdict == "relapsed" else 1)  # that the clock was set is no news of what is over


def test_what_was_seen_before_the_clock_was_set_back_is_no_recovery(tmp_path: Path) -> None:
    rig = conducting.Rig(tmp_path, "verify: {closes: cause, within: 30s}")
    rig.activate()
    rig.harness.answer(started=None, ended=None)
    rig.tell(state="closed", reason="cleared", valid_until=NOW - 1, time=NOW - 1)
    rig.harness.set_clock(-DAY, restart=False)
    rig.harness.advance(30)
    assert rig.end()[:2] == ("succeeded", "unknown")
