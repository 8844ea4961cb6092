"""What verdict the orchestrator reaches on which evidence, and what state the run ends in with it."""

from pathlib import Path

import pytest

from exhaust.messages import Command, ExecutionEvent, Watch
from tests.conducting import RESTART, TELL, Rig
from tests.harness import HOST, NOW

HOLD = "verify: {closes: cause, hold: 2s, within: 60s}"
RECORDS = 'verify: {on: service.state, same: [service], when: record.state == "running", samples: 3, within: 5m}'
ON_FAILURE = f"on_failure: [{TELL}]"


def acted(folder: Path, *lines: str, **given: str) -> Rig:
    """Return a run whose only task was started at 1 s and answered at 2 s."""
    rig = Rig(folder, *lines, **given)
    rig.harness.advance(1)
    rig.activate()
    rig.harness.advance(1)
    return rig


def done(folder: Path, *lines: str, **given: str) -> Rig:
    rig = acted(folder, *lines, **given)
    rig.harness.answer(started=NOW + 1.5)
    return rig


def test_the_causes_closing_after_the_act_is_recovery(tmp_path: Path) -> None:
    rig = done(tmp_path)
    rig.close(at=NOW + 1.6)
    assert rig.end() == ("succeeded", "recovered", None)


def test_a_closing_that_was_heard_of_before_the_result_counts_as_well(tmp_path: Path) -> None:
    rig = acted(tmp_path)
    rig.close(at=NOW + 1.6)
    assert rig.states()[-1] == (1, "running")
    rig.harness.answer(started=NOW + 1.5)
    assert rig.end() == ("succeeded", "recovered", None)


def test_a_closing_of_before_the_act_proves_nothing(tmp_path: Path) -> None:
    rig = done(tmp_path)
    rig.close(at=NOW + 1.4)
    rig.harness.advance(100)
    assert rig.end() == ("succeeded", "unknown", None)


def test_where_the_agent_did_not_say_when_the_receipt_by_our_clock_decides(tmp_path: Path) -> None:
    rig = acted(tmp_path)
    rig.harness.answer("failed", started=None)
    rig.close(at=NOW - 3600)
    assert rig.end() == ("failed", "recovered", None)


def test_a_task_on_another_host_is_told_by_our_clock(tmp_path: Path) -> None:
    rig = acted(tmp_path, HOLD, tasks=f"{RESTART[:-1]}, host: web-2}}")
    rig.harness.answer(started=NOW - 3600)
    assert [rig.of(Watch)[-1].clock, rig.of(Watch)[-1].after] == ["received", NOW + 1]


@pytest.mark.parametrize("reason", ["expired", "gone", "withdrawn"])
def test_only_a_closing_on_evidence_is_recovery(tmp_path: Path, reason: str) -> None:
    rig = done(tmp_path)
    rig.close(reason)  # type: ignore[arg-type]
    rig.harness.advance(100)
    assert rig.end() == ("succeeded", "unknown", None)


@pytest.mark.parametrize("lines", [HOLD, "verify: {closes: cause, samples: 2}"])
def test_where_more_is_asked_for_the_closing_alone_is_not_enough(tmp_path: Path, lines: str) -> None:
    rig = done(tmp_path, lines)
    rig.close()
    assert rig.states()[-1] == (2, "verifying")
    rig.see("true")
    assert rig.end() == ("succeeded", "recovered", None)


def test_a_closing_before_the_effect_has_settled_is_not_enough(tmp_path: Path) -> None:
    rig = done(tmp_path, "verify: {closes: cause, settle: 10s}")
    rig.close()
    rig.harness.advance(20)
    assert rig.states()[-1] == (2, "verifying")
    rig.see("true")
    assert rig.end() == ("succeeded", "recovered", None)


@pytest.mark.parametrize(
    ("seen", "end"),
    [
        ("false", ("failed", "not_recovered", None)),
        ("unknown", ("succeeded", "unknown", None)),
        (None, ("succeeded", "unknown", None)),
    ],
)
def test_at_the_end_of_within_the_newest_evidence_decides(tmp_path: Path, seen: str | None, end: object) -> None:
    rig = done(tmp_path, HOLD)
    if seen:
        rig.see(seen)  # type: ignore[arg-type]
    rig.harness.advance(61.9)
    assert rig.states()[-1] == (2, "verifying")
    rig.harness.advance(0.1)
    assert (rig.states()[-1][0], rig.end()) == (64, end)


def test_evidence_may_change_while_there_is_time(tmp_path: Path) -> None:
    rig = done(tmp_path, HOLD)
    for holds in ("false", "unknown", "true"):
        rig.harness.advance(5)
        rig.see(holds)
    assert (rig.states()[-1][0], rig.end()) == (17, ("succeeded", "recovered", None))


@pytest.mark.parametrize(
    ("result", "seen", "end"),
    [
        ("failed", "true", ("failed", "recovered", None)),
        ("failed", "false", ("failed", "not_recovered", None)),
        ("refused", "unknown", ("failed", "unknown", None)),
        ("indeterminate", "true", ("indeterminate", "recovered", None)),
        ("indeterminate", "false", ("indeterminate", "not_recovered", None)),
    ],
)
def test_tasks_that_ended_badly_keep_their_state_and_the_evidence_gives_the_verdict(
    tmp_path: Path, result: str, seen: str, end: object
) -> None:
    rig = acted(tmp_path, HOLD)
    rig.harness.answer(result)  # type: ignore[arg-type]
    rig.see(seen)  # type: ignore[arg-type]
    rig.harness.advance(100)
    assert rig.end() == end


def test_a_run_that_acted_on_nothing_is_not_verified(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=TELL)
    rig.activate()
    rig.harness.finish()
    assert rig.states() == [(0, "running"), (0, "succeeded")]
    assert rig.end() == ("succeeded", "unknown", None)


def test_a_condition_of_its_own_needs_no_cause(tmp_path: Path) -> None:
    rig = Rig(tmp_path, RECORDS)
    rig.activate(None)
    rig.harness.answer()
    rig.see("true")
    assert rig.end() == ("succeeded", "recovered", None)


def test_the_watch_of_a_condition_names_records_labels_and_what_it_compares_with(tmp_path: Path) -> None:
    rig = done(tmp_path, RECORDS)
    watch = rig.of(Watch)[-1]
    assert (watch.episode, watch.on, watch.labels) == (None, "service.state", {"service": "shop"})
    assert (watch.when, watch.samples, watch.host) == ('record.state == "running"', 3, HOST)
    assert watch.variables["inputs"] == {"service": "shop"}
    assert watch.variables["cause"]["labels"] == {"service": "shop"}


@pytest.mark.parametrize("lines", [HOLD, ""])
def test_the_watch_is_repeated_until_it_is_answered(tmp_path: Path, lines: str) -> None:
    rig = done(tmp_path, *([lines] if lines else []))
    rig.harness.advance(35)
    asked = len(rig.of(Watch))
    assert asked >= 4
    rig.see("unknown")
    rig.harness.advance(20)
    assert len(rig.of(Watch)) == asked
    assert len({watch.id for watch in rig.of(Watch)}) == asked


def test_however_much_is_heard_meanwhile_it_is_repeated_no_more_often(tmp_path: Path) -> None:
    rig = done(tmp_path, "verify: {closes: cause, hold: 2s, within: 10m}")
    for _ in range(40):
        rig.tell()
        rig.harness.advance(10)
    assert len(rig.of(Watch)) <= 42


def test_a_sighting_before_the_tasks_are_over_is_no_evidence(tmp_path: Path) -> None:
    rig = acted(tmp_path, HOLD)
    rig.see("true")
    rig.harness.answer()
    rig.harness.advance(100)
    assert rig.end() == ("succeeded", "unknown", None)


def test_it_opened_and_closed_at_one_instant(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=f"{TELL}, {RESTART}")
    rig.activate()
    rig.tell(state="closed", reason="cleared", valid_until=NOW)
    rig.harness.finish()
    assert rig.end() == ("skipped", "recovered", "before_action")


def test_a_new_episode_makes_recovered_relapsed_once(tmp_path: Path) -> None:
    rig = done(tmp_path)
    rig.close(at=NOW + 1.6)
    rig.harness.advance(500)
    fact = rig.tell(state="open", reason="asserted", episode="second", since=rig.harness.now)
    rig.harness.advance(30)
    rig.tell()
    assert rig.states()[-2:] == [(2, "succeeded"), (502, "succeeded")]
    assert rig.end() == ("succeeded", "relapsed", "relapsed")
    assert rig.of(ExecutionEvent)[-1].causes == (fact.id,)


@pytest.mark.parametrize(
    ("after", "changed"),
    [
        (601, {"episode": "second"}),
        (100, {"episode": "second", "labels": {"service": "mail"}}),
        (100, {"episode": "second", "host": "web-2"}),
        (100, {"episode": "second", "since": NOW - 100}),
    ],
)
def test_what_comes_too_late_or_is_another_fault_is_no_relapse(
    tmp_path: Path, after: float, changed: dict[str, object]
) -> None:
    rig = done(tmp_path)
    rig.close(at=NOW + 1.6)
    rig.harness.advance(after)
    rig.tell(**({"state": "open", "reason": "asserted", "since": rig.harness.now} | changed))
    assert rig.end() == ("succeeded", "recovered", None)


def test_not_recovered_never_turns_into_anything_else(tmp_path: Path) -> None:
    rig = done(tmp_path, HOLD)
    rig.see("false")
    rig.harness.advance(62)
    rig.close()
    rig.tell(state="open", reason="asserted", episode="second", since=rig.harness.now)
    assert rig.end() == ("failed", "not_recovered", None)


def test_when_it_can_relapse_no_more_it_is_let_go(tmp_path: Path) -> None:
    rig = done(tmp_path)
    rig.close(at=NOW + 1.6)
    kept = rig.harness.desks["orchestrator"].kept
    assert any(key.startswith("active/") for key in kept)
    rig.harness.advance(601)
    assert not any(key.startswith("active/") for key in kept)
    assert any(key.startswith("journal/") for key in kept)


@pytest.mark.parametrize(("result", "seen"), [("succeeded", "false"), ("failed", "false"), ("failed", "true")])
def test_on_failure_runs_once_after_a_failure_or_not_recovered(tmp_path: Path, result: str, seen: str) -> None:
    rig = acted(tmp_path, HOLD, ON_FAILURE)
    rig.harness.answer(result)  # type: ignore[arg-type]
    rig.see(seen)  # type: ignore[arg-type]
    rig.harness.advance(62)
    assert (rig.states()[-1][1], rig.end()[2]) == ("running", "on_failure")
    rig.harness.finish()
    assert rig.end() == ("failed", "recovered" if seen == "true" else "not_recovered", None)
    assert [task for _, task, state in rig.tasks() if state == "running"] == ["restart", "tell"]


def test_on_failure_is_not_for_a_success_whose_verdict_is_unknown(tmp_path: Path) -> None:
    rig = done(tmp_path, HOLD, ON_FAILURE)
    rig.harness.advance(100)
    assert rig.end() == ("succeeded", "unknown", None)


def test_a_failing_on_failure_changes_neither_state_nor_verdict(tmp_path: Path) -> None:
    rig = done(tmp_path, HOLD, "on_failure: [{name: stop, use: agent, do: service.stop, with: {service: shop}}]")
    rig.see("false")
    rig.harness.advance(62)
    rig.harness.answer("failed")
    assert rig.end() == ("failed", "not_recovered", None)


def test_the_fault_coming_back_during_on_failure_leaves_no_run_hanging(tmp_path: Path) -> None:
    rig = acted(tmp_path, HOLD, ON_FAILURE)
    rig.harness.answer("failed")
    rig.see("true")
    rig.tell(state="open", reason="asserted", episode="second", since=rig.harness.now)
    rig.harness.finish()
    assert rig.end() == ("failed", "recovered", None)
    rig.harness.advance(30)
    rig.tell()
    assert rig.end() == ("failed", "relapsed", "relapsed")


def test_on_failure_has_to_be_over_a_minute_after_the_deadline(tmp_path: Path) -> None:
    slow = f"{TELL[:-1]}, timeout: 10m, retry: {{attempts: 9, delay: 30s}}}}"
    rig = done(tmp_path, "timeout: 10s", HOLD, f"on_failure: [{slow}]")
    rig.see("false")
    rig.harness.advance(600)
    deadline = rig.of(ExecutionEvent)[0].deadline or 0.0
    assert rig.end() == ("failed", "not_recovered", None)
    assert NOW + rig.states()[-1][0] <= deadline + 60


def test_back_after_a_long_absence_the_answer_that_waits_is_taken(tmp_path: Path) -> None:
    rig = acted(tmp_path)
    command = next(iter(rig.harness.commands.values()))
    rig.harness.now += 3600
    rig.harness.restart("orchestrator")
    assert [again.key for again in rig.of(Command)] == [command.key, command.key]
    rig.harness.advance(5)
    rig.harness.answer(started=NOW + 1.5)
    rig.harness.advance(5)
    rig.close(at=NOW + 1.6)
    assert rig.end() == ("succeeded", "recovered", None)


def test_back_after_a_long_absence_without_an_answer_it_ends_within_a_minute(tmp_path: Path) -> None:
    rig = acted(tmp_path, ON_FAILURE)
    rig.harness.now += 3600
    rig.harness.restart("orchestrator")
    rig.harness.advance(60)
    assert rig.end() == ("indeterminate", "unknown", None)


def test_back_while_verifying_the_analyzers_are_asked_and_waited_for(tmp_path: Path) -> None:
    rig = done(tmp_path, HOLD)
    rig.harness.now += 3600
    rig.harness.restart("orchestrator")
    rig.harness.advance(5)
    assert (rig.states()[-1][1], len(rig.of(Watch))) == ("verifying", 3)
    rig.see("false")
    rig.harness.advance(60)
    assert rig.end() == ("failed", "not_recovered", None)
