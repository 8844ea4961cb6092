"""Each guard's answer by itself, and all of them together in their order."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from activator.facts import Facts
from activator.fleet import Fleet
from activator.guards import GUARDS, Question, ask
from activator.rules import Rule
from activator.run import Run
from activator.runs import Runs
from exhaust.calendars import Calendar, Times
from exhaust.configuration import load
from exhaust.depot import no_rows
from exhaust.main import CATALOGUE
from exhaust.messages import Fact, Order
from tests.harness import HOST, NOW

WORKFLOWS = "workflows: [{name: mend, tasks: [{name: t, use: agent, do: service.restart, with: {service: shop}}]}]\n"
ALWAYS = Times(Calendar(name="lunch", days=["mon-sun"]))
KNOWN = {"name": HOST, "labels": {"role": "web"}, "known": True}
FACT = Fact(
    id="m",
    time=NOW,
    name="service.down",
    host=HOST,
    labels={"service": "shop"},
    episode="e",
    state="open",
    reason="asserted",
    severity="critical",
    since=NOW,
    valid_until=NOW + 90,
)


def rule(folder: Path, *lines: str) -> Rule:
    path = folder / "rule.yaml"
    more = "".join(f"    {line}\n" for line in ("mode: auto", *lines))
    own = "rules:\n  - name: restart\n    on: service.down\n    run: mend\n"
    path.write_text(f"lists: {{few: [shop]}}\ncalendars: [{{name: lunch, days: [mon-sun]}}]\n{WORKFLOWS}{own}{more}")
    found: Rule = load(path, CATALOGUE).rules[0].value
    return found


def question(asked: Rule, *runs: Run, now: float = NOW, **given: Any) -> Question:
    about: dict[str, Any] = {"fact": FACT, "identity": "i", "host": KNOWN, "number": 0, "facts": {}} | given
    about.setdefault("since", about["fact"].since)
    return Question(rule=asked, runs=runs, now=now, lists={"few": ["shop"]}, **about)


def run(ended: float | None = None, **given: Any) -> Run:
    about: dict[str, Any] = {"execution": "x", "rule": "restart", "rung": 0, "identity": "i", "episode": "e"} | given
    about |= {"labels": {"role": "web"}, "started": NOW - 1000, "host": HOST} | given
    if ended is not None:
        about = {"ended": NOW + ended, "verdict": "not_recovered"} | about
    return Run(**about)


def ill_fleet(rule: Rule) -> Fleet:
    """Return three hosts that all have the fact, and are all acted upon."""
    hosts = [HOST, "web-8", "web-9"]
    facts, runs = Facts(no_rows), Runs({rule.name: rule}, no_rows)
    for host in hosts:
        facts.put(msgspec.structs.replace(FACT, host=host, episode=host), None)
        runs.start(run(host=host, execution=host, identity=host))
    return Fleet({host: {"role": "web"} for host in hosts}, facts, runs)


def names(asked: Question) -> list[str]:
    return [refusal.reason.guard for refusal in ask(asked)]


def until(asked: Question) -> float:
    (refusal,) = ask(asked)
    return refusal.until - NOW


def test_nothing_holds_back_a_first_run(tmp_path: Path) -> None:
    assert ask(question(rule(tmp_path))) == []


@pytest.mark.parametrize("host", [None, {"name": HOST, "labels": {}, "known": False}])
def test_an_unknown_host_is_never_acted_upon(tmp_path: Path, host: Any) -> None:
    asked = question(rule(tmp_path), host=host)
    assert (names(asked), until(asked)) == (["host"], math.inf)


def test_a_cause_without_a_host_passes_the_hosts_checks(tmp_path: Path) -> None:
    cause = FACT.__class__(**{name: getattr(FACT, name) for name in FACT.__struct_fields__} | {"host": None})
    assert ask(question(rule(tmp_path), host=None, fact=cause)) == []


@pytest.mark.parametrize(
    ("when", "refused"),
    [
        ('cause.severity == "critical"', False),
        ('host.labels.role == "web" && cause.labels.service in lists.few', False),
        ("has(facts.other)", True),
        ('cause.severity == "info"', True),
        ("cause.value > 3", True),
        ("cause.value", True),
    ],
)
def test_when_refuses_what_is_false_unknown_or_no_condition(tmp_path: Path, when: str, refused: bool) -> None:
    assert names(question(rule(tmp_path, f"when: '{when}'"))) == (["when"] if refused else [])


def test_of_several_conditions_all_must_hold(tmp_path: Path) -> None:
    asked = rule(tmp_path, "when: [cause.severity == 'critical', cause.labels.service == 'mail']")
    assert names(question(asked)) == ["when"]


@pytest.mark.parametrize(("now", "refused"), [(90.0, []), (90.001, ["stale"])])
def test_a_fact_that_is_no_longer_valid_is_stale(tmp_path: Path, now: float, refused: list[str]) -> None:
    assert names(question(rule(tmp_path), now=NOW + now)) == refused


def test_attempts_are_counted_within_the_window(tmp_path: Path) -> None:
    asked = rule(tmp_path, "guard: {attempts: 2, window: 10m, cooldown: 0s}")
    assert names(question(asked, run(-100), run(-601))) == []
    refused = question(asked, run(-100), run(-599))
    assert (names(refused), until(refused)) == (["attempts"], 1)
    assert names(question(asked, run(-100), run(-600))) == []


@pytest.mark.parametrize("other", [{"rule": "other"}, {"identity": "j"}, {"rung": 1}, {"verdict": "recovered"}])
def test_attempts_are_this_rungs_for_this_fault_that_did_not_help(tmp_path: Path, other: dict[str, Any]) -> None:
    asked = rule(tmp_path, "guard: {attempts: 1, cooldown: 0s}")
    assert names(question(asked, run(-100, **other))) == []


@pytest.mark.parametrize("verdict", ["not_recovered", "unknown", "relapsed", None])
def test_every_end_but_recovered_uses_up_an_attempt_whatever_the_episode(tmp_path: Path, verdict: Any) -> None:
    asked = rule(tmp_path, "guard: {attempts: 1, cooldown: 0s}")
    assert names(question(asked, run(-100, verdict=verdict, episode="earlier"))) == ["attempts"]


def test_without_attempts_there_is_one_per_episode(tmp_path: Path) -> None:
    asked = rule(tmp_path, "guard: {cooldown: 0s}")
    assert names(question(asked, run(-100, episode="earlier"))) == []
    refused = question(asked, run(-100_000))
    assert (names(refused), until(refused)) == (["attempts"], math.inf)


def test_the_cooldown_runs_from_the_last_runs_end(tmp_path: Path) -> None:
    asked = rule(tmp_path, "guard: {attempts: 9, cooldown: 20s}")
    assert names(question(asked, run(-20), run(-30))) == []
    refused = question(asked, run(-19), run(-30))
    assert (names(refused), until(refused)) == (["cooldown"], 1)


@pytest.mark.parametrize(("verdict", "wait"), [("recovered", 600), ("unknown", 3600)])
def test_a_cooldown_left_out_is_ten_minutes_or_after_a_failure_an_hour(
    tmp_path: Path, verdict: Any, wait: float
) -> None:
    asked = rule(tmp_path, "guard: {attempts: 9}")
    assert until(question(asked, run(-1.5, verdict=verdict))) == wait - 1.5


@pytest.mark.parametrize("limit", ["{attempts: 9}", "{attempts: 9, concurrent: 5}"])
def test_never_two_runs_for_the_same_fault(tmp_path: Path, limit: str) -> None:
    refused = question(rule(tmp_path, f"guard: {limit}"), run(rung=1))
    assert (names(refused), until(refused)) == (["concurrent"], math.inf)


def test_concurrent_runs_are_counted_per_host(tmp_path: Path) -> None:
    asked = rule(tmp_path, "guard: {concurrent: 2}")
    others = [run(identity=name) for name in "jk"]
    assert names(question(asked, others[0], run(identity="l", host="web-2"))) == []
    assert names(question(asked, others[0], run(-5, identity="l"))) == []
    assert names(question(asked, *others)) == ["concurrent"]


def test_concurrent_runs_are_counted_per_label_of_fact_or_host(tmp_path: Path) -> None:
    asked = rule(tmp_path, "guard: {concurrent: {role: 1, service: 2}}")
    elsewhere = run(identity="j", host="web-2", labels={"role": "web", "service": "mail"})
    assert names(question(asked, elsewhere)) == ["concurrent"]
    assert names(question(asked, run(identity="j", labels={"role": "db", "service": "shop"}))) == []


def test_observe_is_a_refusal_of_its_own(tmp_path: Path) -> None:
    assert names(question(rule(tmp_path, "escalate: [{run: mend, mode: observe}]"), number=1)) == ["mode"]


def test_all_that_refuse_are_told_in_their_order(tmp_path: Path) -> None:
    asked = rule(
        tmp_path,
        "when: cause.severity == 'info'",
        "given: {spare: {open: spare.up}}",
        "for: 10m",
        "unless_during: lunch",
        'guard: {attempts: 1, concurrent: 1, limit: {runs: 1}, fleet: {share: "9%"}, healthy: {role: "99%"}}',
    )
    about: dict[str, Any] = {
        "given": {"spare": None},
        "unless": {"rack.silent": "open"},
        "starts": [NOW],
        "fleet": ill_fleet(asked),
    }
    about |= {"calendars": {"lunch": ALWAYS}, "host": KNOWN | {"known": False}, "now": NOW + 100}
    halt = Order(id="o", time=NOW, causes=(), order="halt", target=None, by="ann")
    told = names(question(msgspec.structs.replace(asked, mode="observe"), run(-1), run(), halt=halt, **about))
    assert list(dict.fromkeys(told)) == [guard.__name__.removeprefix("_") for guard in GUARDS]


def test_a_notice_is_held_back_by_no_guard_of_actions(tmp_path: Path) -> None:
    path = tmp_path / "notice.yaml"
    notice = "notify: {to: ops, text: hello}, guard: {attempts: 1, concurrent: 1}"
    path.write_text(
        f"adapters: [{{name: ops, use: notify, url: 'log:'}}]\nrules: [{{name: restart, on: service.down, {notice}}}]\n"
    )
    asked: Rule = load(path, CATALOGUE).rules[0].value
    assert ask(question(asked, run(-1), run())) == []
