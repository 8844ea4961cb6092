"""How the activator goes up a rule's ladder, what it tells people, and that a restart changes none of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from exhaust.messages import Activation, Codec, Decision
from tests.deciding import Rig
from tests.harness import NOW

GUARD = "guard: {attempts: 1, window: 1h, cooldown: 20s}"
TELL = '{notify: {to: ops, text: "${{ cause.labels.service }} is still down"}}'
MEND = '{run: mend, with: {service: "other"}, mode: auto}'


def ran(rig: Rig) -> list[tuple[float, str, int, int]]:
    """Return when which workflow was started, on which rung, at which attempt."""
    return [(one.time - NOW, one.workflow, one.rung, one.attempt) for one in rig.of(Activation)]


def test_the_next_rung_comes_with_the_verdict_that_uses_up_the_one_before(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {attempts: 2, window: 1h, cooldown: 20s}", f"escalate: [{TELL}]")
    rig.open(valid_until=NOW + 900)
    for _ in range(2):
        rig.harness.advance(30)
        rig.end("not_recovered")
    assert ran(rig) == [(0, "mend", 0, 1), (50, "mend", 0, 2), (60, "notify", 1, 1)]
    assert rig.of(Activation)[2].inputs == {"to": "ops", "text": "shop is still down"}
    assert [(one.rung, one.outcome) for one in rig.of(Decision)][-2:] == [(0, "refused"), (1, "fired")]


def test_each_rung_has_attempts_and_cooldown_of_its_own(tmp_path: Path) -> None:
    rig = Rig(tmp_path, GUARD, f"escalate: [{MEND}, {TELL}]")
    rig.open()
    rig.harness.advance(5)
    rig.end("not_recovered")
    rig.harness.advance(5)
    rig.end("unknown")
    assert ran(rig) == [(0, "mend", 0, 1), (5, "mend", 1, 1), (10, "notify", 2, 1)]
    assert rig.of(Activation)[1].inputs == {"service": "other"}


def test_a_rung_that_helps_is_the_last_one(tmp_path: Path) -> None:
    rig = Rig(tmp_path, GUARD, f"escalate: [{MEND}, {TELL}]")
    fact = rig.open()
    rig.end("not_recovered")
    rig.close(fact)
    rig.end("recovered")
    rig.harness.advance(7200)
    assert ran(rig) == [(0, "mend", 0, 1), (0, "mend", 1, 1)]


def test_at_the_ladders_end_nothing_more_is_done(tmp_path: Path) -> None:
    rig = Rig(tmp_path, GUARD, f"escalate: [{MEND}]")
    rig.open(valid_until=NOW + 9000)
    rig.end("not_recovered")
    rig.end("not_recovered")
    rig.harness.advance(3000)
    assert len(ran(rig)) == 2


def test_a_rungs_mode_is_its_own_or_else_the_rules(tmp_path: Path) -> None:
    rig = Rig(tmp_path, GUARD, "escalate: [{run: mend, with: {service: other}, mode: observe}]")
    rig.open()
    rig.end("not_recovered")
    assert rig.told[-1] == (0, "observed", ["mode"])


def test_a_run_that_was_refused_by_the_orchestrator_uses_up_its_attempt(tmp_path: Path) -> None:
    rig = Rig(tmp_path, GUARD, f"escalate: [{TELL}]")
    rig.open()
    rig.harness.send(rig.event("rejected", "unknown"))
    assert [workflow for _, workflow, _, _ in ran(rig)] == ["mend", "notify"]


def relapse_after(rig: Rig) -> None:
    rig.open()
    rig.end("relapsed", run=0)


def relapse_before(rig: Rig) -> None:
    event = rig.event("succeeded", "relapsed", run=0)
    rig.harness.send(
        event.__class__(**{n: getattr(event, n) for n in event.__struct_fields__} | {"causes": ("episode-2",)})
    )
    rig.open()


@pytest.mark.parametrize("relapse", [relapse_after, relapse_before])
def test_a_relapse_that_uses_up_the_attempts_climbs_in_whatever_order_it_is_heard(
    tmp_path: Path, relapse: Callable[[Rig], None]
) -> None:
    rig = Rig(tmp_path, GUARD, f"escalate: [{TELL}]")
    rig.close(rig.open())
    rig.end("recovered")
    rig.harness.advance(3)
    relapse(rig)
    assert ran(rig) == [(0, "mend", 0, 1), (3, "notify", 1, 1)]


def test_while_a_rungs_run_is_under_way_a_relapse_of_another_does_not_climb(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {attempts: 1, window: 1h, cooldown: 0s}", f"escalate: [{TELL}]")
    rig.close(rig.open())
    rig.end("recovered")
    rig.open()
    rig.end("relapsed", run=0)
    assert [workflow for _, workflow, _, _ in ran(rig)] == ["mend", "mend"]
    rig.end("not_recovered", run=1)
    assert [workflow for _, workflow, _, _ in ran(rig)] == ["mend", "mend", "notify"]


def test_a_rule_may_only_notify_whatever_its_mode(tmp_path: Path) -> None:
    text = 'notify: {to: ops, text: "${{ cause.name }} on ${{ host.name }}"}'
    rig = Rig(tmp_path, on="nothing", more=[f"{{name: tell, on: service.down, {text}}}"])
    fact = rig.open()
    rig.reassert(fact)
    assert [one.inputs for one in rig.of(Activation)] == [{"to": "ops", "text": "service.down on web-1"}]
    assert (rig.of(Activation)[0].rule, rig.of(Decision)[0].outcome) == ("tell", "fired")


def test_a_notice_is_given_once_per_episode(tmp_path: Path) -> None:
    rig = Rig(tmp_path, on="nothing", more=["{name: tell, on: service.down, notify: {to: ops, text: hi}}"])
    rig.close(rig.open())
    rig.open()
    assert [one.attempt for one in rig.of(Activation)] == [1, 1]
    assert len({one.execution for one in rig.of(Activation)}) == 2


def test_a_notice_that_cannot_be_rendered_is_refused(tmp_path: Path) -> None:
    text = "notify: {to: ops, text: '${{ cause.labels.nothing }}'}"
    rig = Rig(tmp_path, on="nothing", more=[f"{{name: tell, on: service.down, {text}}}"])
    rig.open()
    assert rig.told == [(0, "refused", ["when"])]


def test_a_rule_that_runs_and_notifies_tells_with_its_first_run_only(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {attempts: 2, window: 1h, cooldown: 20s}", "notify: {to: ops, text: hi}")
    rig.open()
    rig.end("not_recovered", run=0)
    rig.harness.advance(30)
    assert [workflow for _, workflow, _, _ in ran(rig)] == ["mend", "notify", "mend"]


def story(rig: Rig, after: Callable[[], None]) -> None:
    """Two faults on two hosts, refusals of several kinds, attempts, a relapse, and rungs up to the notice."""
    steps: list[Callable[[], object]] = [
        lambda: rig.open(valid_until=NOW + 9000),
        lambda: rig.open(host="web-2", valid_until=NOW + 9000),
        lambda: rig.harness.advance(4),
        lambda: rig.end("not_recovered", run=0),
        lambda: rig.harness.advance(25),
        lambda: rig.end("recovered", run=1),
        lambda: rig.harness.advance(25),
        lambda: rig.end("not_recovered"),
        lambda: rig.harness.advance(25),
        lambda: rig.open(name="maintenance"),
        lambda: rig.end("unknown"),
        lambda: rig.harness.advance(4000),
    ]
    for step in steps:
        step()
        after()


@pytest.mark.parametrize("limit", ["", "concurrent: {role: 1}, "])
def test_a_restart_at_any_point_changes_no_decision(tmp_path: Path, limit: str) -> None:
    guard = f"guard: {{{limit}attempts: 2, window: 10m, cooldown: 20s}}"

    def told(after: Callable[[Rig], None]) -> list[bytes]:
        rig = Rig(tmp_path, "when: '!has(facts.maintenance)'", guard, f"escalate: [{MEND}, {TELL}]")
        story(rig, lambda: after(rig))
        return [Codec.encode(message) for message in rig.harness.log]

    plain = told(lambda rig: None)
    assert len(plain) >= 20
    assert plain == told(lambda rig: rig.harness.restart("activator"))


def test_a_restart_late_in_time_does_what_came_due_as_of_when_it_was_due(tmp_path: Path) -> None:
    ids = []
    for slept in (False, True):
        rig = Rig(tmp_path, "guard: {attempts: 2, window: 1h, cooldown: 20s}")
        rig.open(valid_until=NOW + 9000)
        rig.end("not_recovered")
        if slept:
            rig.harness.now += 500
            rig.harness.restart("activator")
        else:
            rig.harness.advance(500)
        ids.append([one.id for one in rig.of(Decision)])
    assert len(ids[0]) == 3
    assert ids[0] == ids[1]


def test_a_notice_beside_a_run_is_given_whatever_the_mode(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "notify: {to: ops, text: hi}", mode="observe")
    rig.open()
    assert [(one.rung, one.outcome) for one in rig.of(Decision)] == [(0, "observed"), (-1, "fired")]
    assert [(one.workflow, one.inputs["text"]) for one in rig.of(Activation)] == [("notify", "hi")]


def test_a_rule_without_a_guard_runs_for_two_faults_at_a_time(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for service in ("a", "b", "c"):
        rig.open(labels={"service": service})
    assert [outcome for _, outcome, _ in rig.told] == ["fired", "fired", "refused"]
    assert rig.told[-1][2] == ["concurrent"]


def test_a_run_that_is_never_heard_of_again_gives_its_slot_back_after_a_day(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {concurrent: 1, cooldown: 0s}")
    rig.open(labels={"service": "a"}, valid_until=NOW + 1e6)
    rig.open(labels={"service": "b"}, valid_until=NOW + 1e6)
    rig.harness.advance(23 * 3600)
    assert rig.told[-1][1] == "refused"
    rig.harness.advance(3600)
    assert rig.told[-1][1] == "fired"


def test_a_fault_that_was_just_found_gone_is_given_a_moment_to_close(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {cooldown: 0s}")
    fact = rig.open()
    rig.end("recovered")
    rig.close(fact)
    rig.harness.advance(5)
    assert [outcome for _, outcome, _ in rig.told] == ["fired"]


def test_one_that_does_not_close_after_it_was_found_gone_is_judged_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {cooldown: 0s, attempts: 2}")
    rig.open()
    rig.end("recovered")
    rig.harness.restart()
    rig.harness.advance(0.9)
    assert len(rig.of(Activation)) == 1
    rig.harness.advance(0.2)
    assert len(rig.of(Activation)) == 2
