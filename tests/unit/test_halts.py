"""Halts: the newest order that concerns a host counts, whatever comes when, and through restarts."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exhaust.halts import Halts
from exhaust.messages import Activation, Command, Decision, Order
from exhaust.worker import Keep
from tests import conducting, deciding
from tests.harness import HOST, NOW, Harness

NUMBER = itertools.count()


def order(kind: str, target: str | None = None, time: float = NOW, **fields: Any) -> Order:
    about: dict[str, Any] = {"by": "ann", **fields}
    return Order(id=f"order-{next(NUMBER)}", time=time, order=kind, target=target, **about)  # type: ignore[arg-type]


def over(orders: Iterable[Order], host: str | None = "web-1") -> bool:
    halts = Halts()
    for one in orders:
        list(halts.take(one))
    return halts.over(host) is not None


def test_nothing_is_halted_until_somebody_says_so() -> None:
    assert not over([])
    assert over([order("halt")])
    assert over([order("halt")], None)


def test_a_halt_of_a_host_is_of_no_other() -> None:
    assert over([order("halt", "web-1")])
    assert not over([order("halt", "web-1")], "web-2")
    assert not over([order("halt", "web-1")], None)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_newest_order_counts_in_whatever_sequence_they_come(reverse: bool) -> None:
    orders = [order("resume", time=NOW), order("halt", time=NOW + 1)]
    assert over(orders[::-1] if reverse else orders)


def test_an_order_for_all_is_overruled_by_a_newer_one_for_a_host() -> None:
    assert not over([order("halt"), order("resume", "web-1", NOW + 1)])
    assert over([order("halt"), order("resume", "web-1", NOW + 1)], "web-2")
    assert not over([order("halt", "web-1"), order("resume", time=NOW + 1)])


def test_an_older_order_that_is_sent_again_is_not_even_kept() -> None:
    halts = Halts()
    replayed = order("resume", time=NOW)
    assert len(list(halts.take(order("halt", time=NOW + 1)))) == 1
    assert list(halts.take(replayed)) == []


def test_what_stands_is_kept_and_told() -> None:
    halts, again = Halts(), Halts()
    orders = [order("halt"), order("halt", "web-1", NOW + 1), order("halt", "web-2", NOW + 1)]
    orders.append(order("resume", "web-2", NOW + 2))
    kept: list[Keep] = [keep for one in orders for keep in halts.take(one)]
    rows = {keep.key: msgspec.json.encode(keep.value) for keep in kept}
    again.recall(lambda prefix: iter(sorted((key, row) for key, row in rows.items() if key.startswith(prefix))))
    assert again.standing() == halts.standing() == orders[:2]


# What the activator makes of them


def test_a_rule_does_not_fire_while_halted_and_fires_when_resumed(tmp_path: Path) -> None:
    rig = deciding.Rig(tmp_path)
    rig.harness.send(order("halt"))
    rig.open()
    assert rig.told == [(0.0, "refused", ["halt"])]
    rig.harness.restart()
    rig.harness.advance(5)
    rig.harness.send(order("resume", time=NOW + 5))
    assert rig.told[1:] == [(5.0, "fired", [])]


def test_people_are_told_of_a_fault_while_halted(tmp_path: Path) -> None:
    rig = deciding.Rig(tmp_path, "notify: {to: ops, text: hello}")
    rig.harness.send(order("halt", HOST))
    rig.open()
    assert [one.workflow for one in rig.of(Activation)] == ["notify"]


def trigger(rig: deciding.Rig, **fields: Any) -> Decision:
    asked = order("trigger", "mend", rig.harness.now, **({"host": HOST, "inputs": {"service": "shop"}} | fields))
    rig.harness.send(asked)
    return rig.of(Decision)[-1]


def reasons(decision: Decision) -> list[str]:
    return [reason.guard for reason in decision.reasons]


def test_a_person_triggers_a_run_that_no_rule_decided(tmp_path: Path) -> None:
    rig = deciding.Rig(tmp_path)
    decision = trigger(rig)
    (activation,) = rig.of(Activation)
    assert (decision.outcome, decision.rule, decision.execution) == ("fired", "trigger:mend", activation.execution)
    assert (activation.rule, activation.cause, activation.host, activation.mode) == (None, None, HOST, "auto")
    assert activation.inputs == {"service": "shop"}


def test_the_run_of_an_order_is_the_same_after_a_restart(tmp_path: Path) -> None:
    rig = deciding.Rig(tmp_path)
    asked = order("trigger", "mend", host=HOST)
    rig.harness.send(asked)
    rig.harness.restart()
    rig.harness.desks["activator"].seen.clear()
    rig.harness.send(asked)
    first, again = rig.of(Decision)
    assert first.execution == again.execution
    assert reasons(again) == ["concurrent"]


@pytest.mark.parametrize(
    ("fields", "guards"),
    [
        ({"host": "stranger"}, ["host"]),
        ({"time": NOW - 61}, ["stale"]),
        ({"time": NOW + 6}, ["clock"]),
    ],
)
def test_a_trigger_that_would_do_harm_is_refused(tmp_path: Path, fields: dict[str, Any], guards: list[str]) -> None:
    rig = deciding.Rig(tmp_path)
    asked = msgspec.structs.replace(order("trigger", "mend", host=HOST), **fields)
    rig.harness.send(asked)
    (decision,) = rig.of(Decision)
    assert (decision.outcome, reasons(decision), rig.of(Activation)) == ("refused", guards, [])


def test_a_halt_holds_for_people_too(tmp_path: Path) -> None:
    rig = deciding.Rig(tmp_path)
    rig.harness.send(order("halt"))
    assert reasons(trigger(rig)) == ["halt"]


def test_the_same_run_is_not_started_twice_at_a_time_nor_too_many(tmp_path: Path) -> None:
    rig = deciding.Rig(tmp_path)
    assert [reasons(trigger(rig)) for _ in range(2)] == [[], ["concurrent"]]
    assert reasons(trigger(rig, inputs={"service": "b"})) == []
    assert reasons(trigger(rig, inputs={"service": "c"})) == ["concurrent"]


# What the orchestrator makes of them


def test_a_run_waits_while_halted_and_goes_on_when_resumed(tmp_path: Path) -> None:
    rig = conducting.Rig(tmp_path)
    rig.harness.send(order("halt"))
    rig.activate()
    assert rig.states() == [(0.0, "running"), (0.0, "waiting")]
    assert rig.end() == ("waiting", None, "halted")
    rig.harness.restart()
    rig.harness.advance(40)
    assert rig.of(Command) == []
    rig.close("cleared")
    rig.harness.send(order("resume", time=NOW + 40))
    assert rig.end() == ("skipped", "recovered", "before_action")


def test_what_was_begun_is_finished_and_verified_while_halted(tmp_path: Path) -> None:
    rig = conducting.Rig(tmp_path)
    rig.activate()
    rig.harness.send(order("halt"))
    rig.harness.answer()
    rig.harness.advance(1)
    rig.close("cleared")
    assert rig.end()[:2] == ("succeeded", "recovered")


def test_no_second_task_and_no_retry_starts_while_halted(tmp_path: Path) -> None:
    rig = conducting.Rig(tmp_path, tasks=f"{conducting.RESTART}, {conducting.TELL}")
    rig.activate()
    rig.harness.send(order("halt", HOST))
    rig.harness.answer()
    assert (rig.harness.works, rig.end()) == ([], ("waiting", None, "halted"))
    rig.harness.send(order("resume", HOST, NOW + 1))
    assert len(rig.harness.works) == 1


def test_the_deadline_runs_on_while_halted(tmp_path: Path) -> None:
    rig = conducting.Rig(tmp_path, "timeout: 30s")
    rig.harness.send(order("halt"))
    rig.activate()
    rig.harness.advance(31)
    assert rig.end()[0] == "timed_out"


def test_a_notice_goes_out_while_halted(tmp_path: Path) -> None:
    harness = Harness(tmp_path, f"hosts: [{{name: {HOST}}}]\nadapters: [{{name: ops, use: notify, url: 'log:'}}]\n")
    harness.send(order("halt"))
    harness.send(
        Activation(
            id="a", time=NOW, execution="run", workflow="notify", inputs={"to": "ops", "text": "hello"}, rule="r",
            rung=0, attempt=1, cause=None, host=HOST, mode="auto", expires=NOW + 60, epoch=1,
        )
    )  # fmt: skip
    assert [work.adapter for work in harness.works] == ["ops"]


def test_a_halt_of_another_host_holds_the_tasks_that_act_there(tmp_path: Path) -> None:
    elsewhere = conducting.RESTART.replace("use: agent", "use: agent, host: web-2")
    rig = conducting.Rig(tmp_path, tasks=elsewhere)
    rig.harness.send(order("halt", "web-2"))
    rig.activate()
    assert (rig.of(Command), rig.end()) == ([], ("waiting", None, "halted"))
    rig.harness.send(order("resume", "web-2", NOW + 1))
    assert [command.host for command in rig.of(Command)] == ["web-2"]


def test_what_is_no_longer_needed_when_resumed_is_left_out_also_in_the_middle(tmp_path: Path) -> None:
    second = conducting.RESTART.replace("name: restart", "name: again")
    rig = conducting.Rig(tmp_path, tasks=f"{conducting.RESTART}, {second}")
    rig.activate()
    rig.harness.send(order("halt", HOST))
    rig.harness.answer()
    rig.harness.advance(1)
    rig.close("cleared")
    rig.harness.send(order("resume", HOST, NOW + 1))
    assert len(rig.of(Command)) == 1
    assert rig.end()[:2] == ("skipped", "recovered")


def test_an_order_to_run_something_does_not_take_the_place_of_a_halt() -> None:
    halts = Halts()
    list(halts.take(Order(id="1", time=1.0, order="halt", target="web-1", by="ann")))
    assert not list(halts.take(Order(id="2", time=2.0, order="trigger", target="web-1", by="ann")))
    assert halts.over("web-1") is not None
