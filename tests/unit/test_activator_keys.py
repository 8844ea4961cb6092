"""What a rule looks at beside its cause, when it may act, and how often: also across a restart at every point."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exhaust.configuration import check
from exhaust.main import CATALOGUE
from exhaust.messages import Activation, Decision
from tests.deciding import Rig
from tests.harness import HOST, NOW

QUICK = "guard: {attempts: 99, cooldown: 0s}"
RESTARTS = pytest.mark.parametrize("restart", [False, True], ids=["", "restarted"])


def outcomes(rig: Rig) -> list[tuple[str, list[str]]]:
    return [(outcome, guards) for _, outcome, guards in rig.told]


def at(hour: int, minute: int = 0, day: int = 0) -> str:
    """Return hours of the day on which the tests' time begins, as a calendar has them."""
    return datetime.fromtimestamp(NOW + 3600 * hour + 60 * minute + 86400 * day, UTC).strftime("%H:%M")


# given and unless


@RESTARTS
def test_a_rule_waits_until_what_is_given_opens(tmp_path: Path, restart: bool) -> None:
    rig = Rig(tmp_path, "given: {idle: {open: service.idle, same: [service]}}", QUICK)
    rig.open()
    rig.open(name="service.idle", labels={"service": "mail"})
    if restart:
        rig.harness.restart()
    assert outcomes(rig) == [("refused", ["given"])]
    rig.open(name="service.idle")
    assert outcomes(rig)[1:] == [("fired", [])]


def test_what_is_given_is_a_variable_of_the_rule(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "given: {change: {open: config.changed}}", "when: cause.since > change.since", QUICK)
    rig.harness.now += 10
    rig.open(name="config.changed", since=NOW + 5)
    rig.open(since=NOW + 4)
    assert outcomes(rig) == [("refused", ["when"])]
    rig.open(since=NOW + 6, labels={"service": "mail"})
    assert outcomes(rig)[1:] == [("fired", [])]


def test_a_condition_on_what_is_given_is_unknown_while_it_is_not_open(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "given: {change: {open: config.changed}}", "when: cause.since > change.since", QUICK)
    rig.open()
    assert outcomes(rig) == [("refused", ["when", "given"])]


@pytest.mark.parametrize(
    ("other", "held"),
    [
        ({"host": HOST}, True),
        ({"host": "web-2"}, False),  # the label is the fact's own: another host's service of that name is another one
        ({"host": None}, True),
        ({"host": HOST, "labels": {"service": "mail"}}, False),
        ({"host": HOST, "labels": {}}, False),
    ],
)
def test_what_must_not_be_open_is_told_by_its_labels_and_its_host(
    tmp_path: Path, other: dict[str, Any], held: bool
) -> None:
    rig = Rig(tmp_path, "unless: [{open: service.flapping, same: [service]}]", QUICK)
    rig.open(name="service.flapping", **other)
    rig.open()
    assert outcomes(rig) == [("refused", ["unless"]) if held else ("fired", [])]


@pytest.mark.parametrize(("host", "held"), [("web-2", True), ("db-1", False)])
def test_a_label_of_hosts_tells_of_all_hosts_that_have_it(tmp_path: Path, host: str, held: bool) -> None:
    rig = Rig(tmp_path, "unless: [{open: host.drained, same: [role]}]", QUICK)
    rig.open(name="host.drained", host=host, labels={})
    rig.open()
    assert outcomes(rig) == [("refused", ["unless"]) if held else ("fired", [])]


def test_a_fact_without_a_host_concerns_all_hosts_with_its_label(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "unless: [{open: rack.silent, same: [role]}]", QUICK)
    rack = rig.open(name="rack.silent", host=None, labels={"role": "web"})
    rig.open()
    rig.close(rack)
    assert outcomes(rig) == [("refused", ["unless"]), ("fired", [])]


def test_where_it_cannot_be_known_what_is_open_nothing_is_done(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "unless: [{open: rack.silent, same: [rack]}]", QUICK)
    rig.open()
    (decision,) = rig.of(Decision)
    assert [(reason.guard, reason.have) for reason in decision.reasons] == [("unless", "the cause has no label 'rack'")]


def test_a_fact_is_not_its_own_neighbour(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "unless: [{open: service.down}]", QUICK)
    rig.open()
    rig.open(labels={"service": "mail"})
    assert outcomes(rig)[0] == ("fired", [])
    assert outcomes(rig)[1] == ("refused", ["unless"])


# for, during


@RESTARTS
def test_a_fact_must_have_been_open_for_so_long(tmp_path: Path, restart: bool) -> None:
    rig = Rig(tmp_path, "for: 2m", QUICK)
    fact = rig.open(since=NOW - 30)
    if restart:
        rig.harness.restart()
    rig.harness.advance(60)
    rig.reassert(fact)
    rig.harness.advance(29)
    assert rig.told == [(0, "pending", ["for"])]
    rig.harness.advance(1)
    assert rig.told[1:] == [(90, "fired", [])]


def test_what_closes_in_time_is_not_answered(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "for: 2m", QUICK)
    fact = rig.open()
    rig.harness.advance(60)
    rig.close(fact)
    rig.harness.advance(600)
    assert not rig.of(Activation)


@RESTARTS
def test_a_clock_set_back_makes_nobody_wait_longer_than_said(tmp_path: Path, restart: bool) -> None:
    rig = Rig(tmp_path, "for: 2m", QUICK)
    rig.open(valid_until=NOW + 86_400)
    rig.harness.set_clock(-86_400, restart=restart)
    rig.harness.advance(119)
    assert rig.told[-1][1] == "pending"
    rig.harness.advance(1)
    assert rig.told[-1][1] == "fired"


@RESTARTS
def test_outside_its_calendar_a_rule_waits_for_it(tmp_path: Path, restart: bool) -> None:
    night = f"calendars: [{{name: night, hours: ['{at(1)}-{at(2)}']}}]\n"
    rig = Rig(tmp_path, "during: night", QUICK, above=night)
    rig.open(valid_until=NOW + 86_400)
    if restart:
        rig.harness.restart()
    rig.harness.advance(3600)
    assert rig.told == [(0, "pending", ["during"]), (3600, "fired", [])]


def test_in_a_freeze_a_rule_waits_for_its_end(tmp_path: Path) -> None:
    freeze = f"calendars: [{{name: freeze, hours: ['{at(-1)}-{at(1)}']}}]\n"
    rig = Rig(tmp_path, "unless_during: freeze", QUICK, above=freeze)
    rig.open(valid_until=NOW + 86_400)
    assert outcomes(rig) == [("pending", ["during"])]
    rig.harness.advance(3660)
    assert outcomes(rig)[1:] == [("fired", [])]


# limit and key


@RESTARTS
def test_a_rule_as_a_whole_runs_so_often_and_goes_on_by_itself(tmp_path: Path, restart: bool) -> None:
    rig = Rig(tmp_path, "guard: {limit: {runs: 2, window: 10m}, cooldown: 0s, concurrent: 9}")
    for number in range(4):
        rig.open(labels={"service": f"s{number}"}, valid_until=NOW + 86_400)
        rig.harness.advance(60)
    if restart:
        rig.harness.restart()
    assert [one.time - NOW for one in rig.of(Activation)] == [0, 60]
    assert outcomes(rig)[2:] == [("refused", ["limit"])] * 2
    rig.harness.advance(360)
    assert [one.time - NOW for one in rig.of(Activation)] == [0, 60, 600]
    rig.harness.advance(60)
    assert [one.time - NOW for one in rig.of(Activation)] == [0, 60, 600, 660]


def test_what_waited_for_the_limit_and_is_gone_by_then_is_not_done(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {limit: {runs: 1, window: 10m}, cooldown: 0s, concurrent: 9}")
    rig.open(valid_until=NOW + 86_400)
    other = rig.open(labels={"service": "mail"}, valid_until=NOW + 86_400)
    rig.harness.advance(300)
    rig.close(other)
    rig.harness.advance(3600)
    assert len(rig.of(Activation)) == 1


def test_ten_runs_in_ten_minutes_are_the_limit_where_none_is_given(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "guard: {concurrent: 99}")
    for number in range(12):
        rig.open(labels={"service": f"s{number}"})
    assert len(rig.of(Activation)) == 10


@RESTARTS
def test_rules_with_the_same_key_share_their_cooldown_and_run_one_after_the_other(
    tmp_path: Path, restart: bool
) -> None:
    key = 'key: "scale/${{ cause.labels.service }}"'
    other = (
        'name: other, on: load.low, run: mend, mode: auto, with: {service: "${{ cause.labels.service }}"}, '
        f"guard: {{{key}, cooldown: 30m}}"
    )
    rig = Rig(tmp_path, f"guard: {{{key}, cooldown: 10m}}", more=[f"{{{other}}}"])
    first = rig.open(valid_until=NOW + 86_400)
    rig.open(name="load.low", valid_until=NOW + 86_400)
    rig.open(name="load.low", labels={"service": "mail"}, valid_until=NOW + 86_400)
    assert outcomes(rig) == [("fired", []), ("refused", ["concurrent"]), ("fired", [])]
    rig.close(first)
    rig.end("recovered", run=0)
    if restart:
        rig.harness.restart()
    rig.harness.advance(1799)
    assert len(rig.of(Activation)) == 2
    assert outcomes(rig)[-1] == ("refused", ["cooldown"])
    rig.harness.advance(1)
    assert len(rig.of(Activation)) == 3


# What is found before anything runs


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("during: nihgt", "no calendar is called 'nihgt', did you mean 'night'?"),
        ("given: {Idle: {open: service.down}}", "'given' cannot call a fact 'Idle'"),
        ("given: {cause: {open: service.down}}", "'given' cannot call a fact 'cause'"),
        ("when: idle.since < now", "unknown variable 'idle'"),
        ("guard: {limit: {runs: 0}}", "expected at least 1"),
        ("for: long", "expected a duration"),
    ],
)
def test_what_cannot_be_right_is_found_by_check(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "calendars: [{name: night, hours: ['23:00-05:00']}]\nadapters: [{name: ops, use: notify, url: 'log:'}]\n"
        f"rules:\n  - name: tell\n    on: service.down\n    notify: {{to: ops, text: hello}}\n    {line}\n"
    )
    _, faults = check(path, CATALOGUE)
    assert any(what in str(fault) for fault in faults), faults


def test_a_field_that_no_fact_has_is_found_in_what_is_given_too(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "analyzers: [{use: condition, fact: service.idle, on: service.state, when: record.wanted, by: [service]}]\n"
        "adapters: [{name: ops, use: notify, url: 'log:'}]\n"
        "rules:\n  - name: tell\n    on: service.idle\n    given: {idle: {open: service.idle}}\n"
        "    when: idle.labels.sevrice == 'x'\n    notify: {to: ops, text: hello}\n"
    )
    _, faults = check(path, CATALOGUE)
    assert [str(fault) for fault in faults if "sevrice" in str(fault)]


# The fleet


def fired(rig: Rig) -> list[str | None]:
    return [one.host for one in rig.of(Activation)]


@RESTARTS
def test_a_rule_acts_on_no_more_than_its_share_of_a_group_at_once(tmp_path: Path, restart: bool) -> None:
    many = 'hosts: [{name: "app-[01:20]", labels: {rack: r1}}, {name: "app-[21:30]", labels: {rack: r2}}]\n'
    rig = Rig(tmp_path, 'guard: {fleet: {share: "10%", of: rack}, concurrent: 99, cooldown: 0s}', hosts=many)
    for host in ("app-01", "app-02", "app-03", "app-21", "app-22"):
        rig.open(host=host)
    assert fired(rig) == ["app-01", "app-02", "app-21"]
    if restart:
        rig.harness.restart()
    rig.end("not_recovered", run=0)
    assert fired(rig)[3:] == ["app-03"]


def test_of_a_small_group_one_may_be_acted_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 'guard: {fleet: {share: "10%", of: role}, cooldown: 0s}')
    rig.open()
    rig.open(host="web-2")
    assert (fired(rig), outcomes(rig)[-1]) == ([HOST], ("refused", ["fleet"]))


def test_so_many_must_be_left_well_while_one_more_is_acted_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 'guard: {healthy: {role: "60%"}, cooldown: 0s}')
    other = rig.open(name="disk.failed", host="web-2", severity="error")
    rig.open(host="web-3", labels={"service": "mail"})
    assert outcomes(rig) == [("refused", ["healthy"])]
    rig.close(other)
    rig.harness.advance(15)
    assert fired(rig) == ["web-3"]


def test_a_warning_makes_no_host_unwell(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 'guard: {healthy: {role: "60%"}, cooldown: 0s}')
    rig.open(name="disk.slow", host="web-2", severity="warning")
    rig.open(host="web-3")
    assert fired(rig) == ["web-3"]


def test_what_many_have_at_once_is_not_answered_host_by_host(tmp_path: Path) -> None:
    tell = 'name: tell, on: service.down, notify: {to: ops, text: "${{ cause.host }}"}'
    rig = Rig(tmp_path, "for: 1m", QUICK, more=[f"{{{tell}}}"])
    facts = [rig.open(host=host, valid_until=NOW + 9999) for host in ("web-1", "web-2", "web-3")]
    rig.harness.advance(61)
    assert {one.workflow for one in rig.of(Activation)} == {"notify"}
    assert [reason.guard for reason in rig.of(Decision)[-1].reasons] == ["correlated"]
    for fact in facts[:2]:
        rig.close(fact)
    rig.harness.advance(15)
    assert [one.host for one in rig.of(Activation) if one.workflow == "mend"] == ["web-3"]


def test_what_is_too_much_at_once_a_rule_may_say_itself(tmp_path: Path) -> None:
    own = 'guard: {correlated: {share: "80%", least: 4}, concurrent: 9, cooldown: 0s}'
    rig = Rig(tmp_path, own)
    for host in ("web-1", "web-2", "web-3", "db-1"):
        rig.open(host=host)
    assert fired(rig) == ["web-1", "web-2", "web-3"]


# Runs that nobody hears of again


@RESTARTS
def test_a_slot_that_is_given_up_goes_to_who_waits_and_its_own_fault_to_the_next_rung(
    tmp_path: Path, restart: bool
) -> None:
    rig = Rig(tmp_path, "guard: {concurrent: 1}", "escalate: [{notify: {to: ops, text: gone}}]")
    rig.open(valid_until=NOW + 1e6)
    rig.open(labels={"service": "mail"}, valid_until=NOW + 1e6)
    if restart:
        rig.harness.restart()
    rig.harness.advance(86_399)
    assert outcomes(rig) == [("fired", []), ("refused", ["concurrent"])]
    rig.harness.advance(1)
    assert sorted(one.workflow for one in rig.of(Activation)) == ["mend", "mend", "notify"]


def test_those_who_waited_for_the_same_are_judged_in_the_order_of_their_rules(tmp_path: Path) -> None:
    """Not in that of a set, which is another one in each process: the same input gives the same answers."""
    given = (
        'given: {ready: {open: service.ready}}, mode: auto, run: mend, with: {service: "${{ cause.labels.service }}"}'
    )
    names = [f"r{number}" for number in (7, 3, 9, 1, 5, 8)]
    rig = Rig(tmp_path, on="never", more=[f"{{name: {name}, on: service.down, {given}}}" for name in names])
    rig.open()
    rig.open(name="service.ready")
    assert [one.rule for one in rig.of(Activation)] == names
