"""What the activator answers to open facts: fired, observed or refused, one decision for each change of mind."""

from pathlib import Path

import msgspec
import pytest

from exhaust.messages import Activation, Decision, Fact
from exhaust.wire import unsendable
from tests.deciding import Rig
from tests.harness import HOST, NOW

ONCE = "guard: {attempts: 1, window: 1h, cooldown: 20s}"
TWICE = "guard: {attempts: 2, window: 1h, cooldown: 20s}"


def test_an_open_fact_fires_its_rule(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    fact = rig.open()
    assert rig.told == [(0, "fired", [])]
    (decision,), (activation,) = rig.of(Decision), rig.of(Activation)
    assert (decision.rule, decision.rung, decision.cause, decision.host) == ("restart", 0, fact.episode, HOST)
    assert (decision.execution, decision.causes) == (activation.execution, (fact.id,))


def test_the_activation_holds_all_that_a_run_needs(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    fact = rig.open()
    (activation,) = rig.of(Activation)
    assert (activation.workflow, activation.inputs, activation.cause) == ("mend", {"service": "shop"}, fact)
    assert (activation.rule, activation.rung, activation.attempt, activation.host) == ("restart", 0, 1, HOST)
    assert (activation.mode, activation.expires) == ("auto", NOW + 60)
    assert activation.causes == (rig.of(Decision)[0].id,)


def test_a_rule_that_says_nothing_of_it_only_observes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, mode="observe")
    rig.open()
    assert rig.told == [(0, "observed", ["mode"])]
    assert rig.of(Activation) == []


def test_a_rule_that_would_be_refused_anyway_does_not_say_observed(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "when: cause.severity == 'info'", mode="observe")
    rig.open()
    assert rig.told == [(0, "refused", ["when", "mode"])]


@pytest.mark.parametrize("pattern", ["service.down", "service.*", "[disk.full, 'serv?ce.down']"])
def test_a_rule_names_its_facts_by_globs_and_lists(tmp_path: Path, pattern: str) -> None:
    rig = Rig(tmp_path, on=pattern)
    rig.open()
    rig.open(name="other.fact")
    assert rig.told == [(0, "fired", [])]


def test_several_rules_answer_one_fact_each_for_itself(tmp_path: Path) -> None:
    rig = Rig(
        tmp_path, "when: cause.severity == 'info'", more=["{name: tell, on: service.*, notify: {to: ops, text: hi}}"]
    )
    rig.open()
    assert {(one.rule, one.outcome) for one in rig.of(Decision)} == {("restart", "refused"), ("tell", "fired")}


def test_an_unknown_host_is_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.open(host="stranger")
    assert rig.told == [(0, "refused", ["host"])]


def test_values_that_cannot_be_rendered_refuse(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.open(labels={"other": "label"})
    assert rig.told == [(0, "refused", ["when"])]
    assert rig.of(Activation) == []


@pytest.mark.parametrize("guard", ["", "for: 1s"])
def test_what_is_too_long_with_the_evidence_of_its_cause_goes_without_it(tmp_path: Path, guard: str) -> None:
    rig = Rig(tmp_path, *filter(None, [guard]))
    rig.open(evidence=[{"log": "x" * 80_000}])
    rig.harness.advance(2)
    (activation,) = rig.of(Activation)
    assert unsendable(activation) == ""
    assert activation.cause is not None
    assert (activation.cause.evidence, activation.causes) == ([], (rig.of(Decision)[-1].id,))


def test_what_is_too_long_even_so_is_refused_and_the_next_fact_is_its_first_attempt(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ONCE)
    rig.close(rig.open(labels={"service": "x" * 60_000}))
    assert rig.told == [(0, "refused", ["when"])]
    assert "too long" in rig.of(Decision)[0].reasons[0].have
    rig.open()
    assert [activation.attempt for activation in rig.of(Activation)] == [1]


def test_being_asserted_again_is_no_reason_to_judge_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "when: cause.severity == 'critical'")
    fact = rig.open(severity="info")
    for _ in range(3):
        rig.harness.advance(30)
        fact = rig.reassert(fact, severity="critical")
    assert rig.told == [(0, "refused", ["when"])]


def test_a_fact_that_was_stale_and_is_valid_again_is_judged_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TWICE)
    fact = rig.open()
    rig.harness.advance(80)
    rig.end("not_recovered")
    rig.harness.advance(100)
    rig.reassert(fact)
    assert rig.told[2:] == [(100, "refused", ["stale"]), (180, "fired", [])]


def test_a_refusal_tells_what_it_found_and_what_it_wanted(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "when: cause.severity == 'info'")
    rig.open()
    (reason,) = rig.of(Decision)[0].reasons
    assert (reason.guard, reason.have, reason.want) == ("when", False, "cause.severity == 'info'")


def test_a_run_that_is_under_way_is_not_decided_about(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TWICE)
    fact = rig.open()
    for _ in range(5):
        rig.harness.advance(29)
        rig.reassert(fact)
    assert rig.told == [(0, "fired", [])]


def test_after_a_failure_it_is_tried_again_when_the_cooldown_ends(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TWICE)
    rig.open()
    rig.harness.advance(5)
    ended = rig.end("not_recovered")
    rig.harness.advance(60)
    assert rig.told == [(0, "fired", []), (5, "refused", ["cooldown"]), (25, "fired", [])]
    first, second, third = rig.of(Decision)
    assert ended.id in second.causes
    assert second.id in third.causes
    assert [one.attempt for one in rig.of(Activation)] == [1, 2]
    assert len({one.execution for one in rig.of(Activation)}) == 2
    assert first.cause == third.cause


def test_a_timer_fires_late_rather_than_never_and_only_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TWICE)
    fact = rig.open(valid_until=NOW + 1000)
    rig.end("not_recovered")
    rig.harness.now += 300
    rig.harness.restart("activator")
    rig.harness.advance(100)
    assert [outcome for _, outcome, _ in rig.told] == ["fired", "refused", "fired"]
    rig.reassert(fact)
    assert len(rig.of(Activation)) == 2


def test_when_the_attempts_are_used_up_it_is_refused_until_the_window_has_passed(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TWICE)
    fact = rig.open(valid_until=NOW + 9000)
    for _ in range(2):
        rig.harness.advance(30)
        rig.end("not_recovered")
    rig.harness.advance(3700)
    rig.reassert(fact)
    assert rig.told == [
        (0, "fired", []),
        (30, "refused", ["cooldown"]),
        (50, "fired", []),
        (60, "refused", ["attempts", "cooldown"]),
        (80, "refused", ["attempts"]),
        (3630, "fired", []),
    ]


def test_attempts_count_for_the_fault_across_its_episodes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {attempts: 1, window: 1h, cooldown: 0s}")
    fact = rig.open()
    rig.end("not_recovered")
    rig.close(fact)
    rig.harness.advance(10)
    rig.open()
    rig.open(labels={"service": "mail"})
    assert rig.told[-2:] == [(10, "refused", ["attempts"]), (10, "fired", [])]


def test_a_relapse_counts_as_an_attempt(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {attempts: 1, window: 1h, cooldown: 5s}")
    fact = rig.open()
    rig.close(fact)
    rig.end("recovered")
    rig.harness.advance(2)
    rig.open()
    rig.end("relapsed")
    rig.harness.advance(60)
    assert rig.told == [
        (0, "fired", []),
        (2, "refused", ["cooldown"]),
        (2, "refused", ["attempts", "cooldown"]),
        (5, "refused", ["attempts"]),
    ]


def test_a_fact_that_closes_takes_its_candidate_with_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TWICE)
    fact = rig.open()
    rig.end("not_recovered")
    rig.close(fact)
    rig.harness.advance(100)
    assert rig.told == [(0, "fired", []), (0, "refused", ["cooldown"])]
    assert {key.partition("/")[0] for key in rig.harness.desks["activator"].kept} == {"run"}


@pytest.mark.parametrize("limit", ["{concurrent: 1}", "{concurrent: {role: 1}}"])
def test_a_slot_is_held_until_the_verdict_and_then_taken_by_who_waits(tmp_path: Path, limit: str) -> None:
    rig = Rig(tmp_path, f"guard: {limit}")
    fact = rig.open()
    rig.open(labels={"service": "mail"})
    rig.open(labels={"service": "shop"}, host="db-1")
    assert rig.told == [(0, "fired", []), (0, "refused", ["concurrent"]), (0, "fired", [])]
    rig.harness.advance(7)
    rig.running()
    assert len(rig.told) == 3
    rig.close(fact)
    rig.end("recovered", run=0)
    assert rig.told[3:] == [(7, "fired", [])]


def test_slots_of_a_label_are_shared_by_the_hosts_that_have_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {concurrent: {role: 1}}")
    rig.open()
    rig.open(host="web-2")
    assert [outcome for _, outcome, _ in rig.told] == ["fired", "refused"]


def test_a_message_that_comes_twice_changes_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TWICE)
    fact = rig.open()
    again = msgspec.structs.replace(fact, id="the same under another id")
    rig.harness.send(again)
    event = rig.end("not_recovered")
    rig.harness.send(msgspec.structs.replace(event, id="also the same"))
    assert rig.told == [(0, "fired", []), (0, "refused", ["cooldown"])]


def test_an_end_of_a_run_that_is_not_ours_changes_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TWICE)
    rig.open()
    rig.harness.send(msgspec.structs.replace(rig.event("failed", "not_recovered"), execution="somebody else's"))
    assert rig.told == [(0, "fired", [])]


def test_repeated_answers_raise_the_count(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {concurrent: {role: 1}, correlated: {least: 9}}")
    facts = [rig.open(host=host) for host in ("web-1", "web-2", "web-3")]
    for number, fact in enumerate(facts[:2]):
        rig.close(fact)
        rig.end("recovered", run=number)
    assert [(one.host, one.outcome, one.count) for one in rig.of(Decision)] == [
        ("web-1", "fired", 1),
        ("web-2", "refused", 1),
        ("web-3", "refused", 1),
        ("web-2", "fired", 2),
        ("web-3", "fired", 3),
    ]


def test_other_open_facts_of_the_host_can_be_asked_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "when: has(facts.other) && !has(facts.elsewhere)")
    rig.open(name="other")
    rig.open(name="elsewhere", host="web-2")
    rig.open()
    assert rig.told == [(0, "fired", [])]


def test_a_fact_that_comes_or_goes_makes_those_be_judged_anew_that_look_at_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "when: '!has(facts.maintenance)'")
    other = rig.open(name="maintenance")
    rig.open()
    rig.harness.advance(3)
    rig.close(other)
    assert rig.told == [(0, "refused", ["when"]), (3, "fired", [])]


def test_ids_of_runs_follow_from_episode_rule_rung_and_attempt(tmp_path: Path) -> None:
    executions = []
    for lateness in (0.0, 5.0):
        rig = Rig(tmp_path, TWICE)
        rig.open()
        rig.harness.advance(lateness)
        rig.end("not_recovered")
        rig.harness.advance(30)
        executions.append([one.execution for one in rig.of(Activation)])
    assert executions[0] == executions[1]


def test_a_fact_message_older_than_the_newest_is_ignored(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    fact = rig.open()
    rig.harness.advance(30)
    newer = rig.reassert(fact, summary="newer")
    rig.harness.send(msgspec.structs.replace(fact, id="late"))
    (row,) = (body for key, body in rig.harness.desks["activator"].kept.items() if key.startswith("fact/"))
    assert msgspec.json.decode(row, type=Fact) == newer
