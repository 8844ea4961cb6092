"""The runs that guards are shown are those that count: every guard answers as if it saw all of them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activator.guards import Question, ask
from activator.rules import Rule
from activator.run import Run
from activator.runs import Runs
from exhaust.language import define
from tests.harness import NOW
from tests.standing import Disk, fact

DAY = 86_400.0
HOSTS = st.sampled_from(["web-1", "web-2", None])
ROLES = st.sampled_from([{}, {"role": "web"}, {"role": "db"}])
ENDS = st.none() | st.tuples(st.floats(0, 100), st.sampled_from(["recovered", "not_recovered", "unknown", None]))
STARTS = st.tuples(st.sampled_from(["mend", "other"]), st.integers(0, 1), st.sampled_from("ijk"), HOSTS, ROLES, ENDS)
LIMITS = [None, 1, 2, {"role": 1}, {"role": 2, "service": 1}]


def run(number: int, *given: Any, ended: float | None = None) -> Run:
    rule, rung, fault, host, role = given
    labels = {"service": "a", **role}
    return Run(f"x{number}", rule, rung, fault, f"e{number % 3}", host, labels, NOW - 1000 + number, ended)


def rule(limit: Any) -> Rule:
    guard = {"attempts": 2, "window": "50s", "cooldown": "20s"} | ({} if limit is None else {"concurrent": limit})
    found: Rule = define(Rule, {"name": "mend", "on": "a", "run": "mend", "mode": "auto", "guard": guard}).value
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(STARTS, max_size=12), st.sampled_from(LIMITS), HOSTS, ROLES)
def test_guards_need_no_other_runs(starts: list[Any], limit: Any, host: str | None, role: dict[str, str]) -> None:
    asked, disk = rule(limit), Disk()
    runs = Runs({"mend": asked}, disk.rows)
    every = []
    for number, (*begun, end) in enumerate(starts):
        every.append(run(number, *begun))
        disk.write(runs.start(every[-1]))
        if end is not None:
            disk.write(runs.end(every[-1], NOW - end[0], end[1], None))
    here = {"name": host, "labels": role, "known": True}

    def answers(seen: Any) -> Any:
        about: dict[str, Any] = {
            "fact": fact(host=host, episode="e1"),
            "identity": "i",
            "facts": {},
            "lists": {},
            "since": NOW,
        }
        return ask(Question(rule=asked, number=0, host=here, runs=seen, now=NOW, **about))

    for one in (runs, Runs({"mend": asked}, disk.rows)):
        assert answers(one.concerning("mend", "i", host, {**role, "service": "a"})) == answers(every)
        assert len(one) == sum(each.ended is None for each in every)


def test_a_run_that_is_over_is_found_again_and_its_verdict_may_change() -> None:
    disk = Disk()
    runs = Runs({}, disk.rows)
    disk.write(runs.start(run(1, "mend", 0, "i", "web-1", {})))
    for verdict, back in (("recovered", None), ("relapsed", "e2")):
        found = runs.get("x1")
        assert found is not None
        disk.write(runs.end(found, NOW + len(verdict), verdict, back))  # type: ignore[arg-type]
    for one in (runs, Runs({}, disk.rows)):
        (past,) = one.of_fault("i")
        assert (past.ended, past.verdict, past.back, past.episode) == (NOW + 9, "relapsed", "e2", "e1")


def test_one_never_heard_of_again_is_given_up_after_a_day_and_its_slot_is_free() -> None:
    runs = Runs({}, Disk().rows)
    runs.start(run(1, "mend", 0, "i", "web-1", {}))
    assert runs.due == NOW - 999 + DAY
    assert list(runs.lost(runs.due - 0.001)) == []
    ((due, lost),) = runs.lost(runs.due)
    assert (due, lost.execution) == (NOW - 999 + DAY, "x1")
    runs.end(lost, due, "unknown", None)
    assert (runs.of_rule("mend"), len(runs), list(runs.lost(due + DAY))) == ((), 0, [])


@pytest.mark.parametrize("again", [False, True])
def test_those_that_ended_before_are_forgotten(again: bool) -> None:
    disk = Disk()
    runs = Runs({}, disk.rows)
    for number in range(3):
        started = run(number, "mend", 0, "i", "web-1", {})
        disk.write(runs.start(started), runs.end(started, NOW + number, "unknown", None))
    runs = Runs({}, disk.rows) if again else runs
    assert [row.key for row in runs.forget(NOW + 2)] == ["run/x0", "run/x1"]
    assert [one.execution for one in runs.of_fault("i")] == ["x2"]
    assert (runs.get("x0"), list(runs.forget(NOW + 2))) == (None, [])
