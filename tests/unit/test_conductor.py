"""How the orchestrator gets a workflow's tasks done: order, retries, time-outs, and what is not even begun."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from exhaust.ids import effect_key
from exhaust.messages import Command, ExecutionEvent, Watch
from exhaust.plugins import Done
from tests.conducting import CAUSE, RESTART, TELL, Rig
from tests.harness import HOST, NOW

STOP = '{name: stop, use: agent, do: service.stop, with: {service: "${{ inputs.service }}"}}'
START = '{name: start, use: agent, do: service.start, with: {service: "${{ inputs.service }}"}}'


def with_(task: str, more: str) -> str:
    return f"{task[:-1]}, {more}}}"


RETRIED = with_(RESTART, "retry: {attempts: 3, delay: 2s, backoff: 3, max_delay: 5s}")


def test_a_run_begins_with_a_command_that_says_it_all(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.activate()
    (command,) = rig.of(Command)
    assert (command.host, command.action, command.params) == (HOST, "service.restart", {"service": "shop"})
    assert (command.execution, command.task, command.key) == ("run", "restart", effect_key("run", "restart", 1))
    assert (command.audience, command.epoch, command.expires, command.timeout) == ("agents", 1, NOW + 60, 60)


def test_its_first_event_carries_what_it_was_started_with(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "timeout: 5m", "verify: {closes: cause, settle: 10s, within: 2m, hold: 3s}")
    activation = rig.activate(rung=2, attempt=3)
    first = rig.of(ExecutionEvent)[0]
    assert (first.state, first.host, first.rule, first.rung, first.attempt) == ("running", HOST, "r", 2, 3)
    assert (first.mode, first.cause, first.deadline) == ("auto", "episode", NOW + 300 + 10 + 120 + 3)
    assert first.causes == (activation.id,)


def test_every_event_has_a_cause_and_an_id_of_its_own(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=f"{TELL}, {RETRIED}")
    rig.activate()
    rig.harness.finish()
    rig.harness.answer("failed")
    rig.harness.advance(1000)
    events = rig.of(ExecutionEvent)
    assert all(event.causes for event in events)
    assert len({event.id for event in events}) == len(events)


def test_tasks_run_one_after_the_other(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=f"{STOP}, {START}")
    rig.activate()
    assert [command.task for command in rig.of(Command)] == ["stop"]
    rig.harness.advance(1)
    rig.harness.answer()
    assert [command.task for command in rig.of(Command)] == ["stop", "start"]
    rig.harness.answer()
    assert rig.states() == [(0, "running"), (1, "verifying")]


def test_a_later_task_sees_what_an_earlier_one_gave(tmp_path: Path) -> None:
    start = '{name: start, use: agent, do: service.start, with: {service: "${{ tasks.stop.output.name }}"}}'
    rig = Rig(tmp_path, tasks=f"{STOP}, {start}")
    rig.activate()
    rig.harness.answer(output={"name": "other"})
    assert rig.of(Command)[1].params == {"service": "other"}


def test_parallel_tasks_start_at_once_and_are_waited_for_together(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=f"{{parallel: [{STOP}, {RESTART}]}}, {START}")
    rig.activate()
    assert [command.task for command in rig.of(Command)] == ["stop", "restart"]
    rig.harness.answer(task="restart")
    assert len(rig.of(Command)) == 2
    rig.harness.answer(task="stop")
    assert [command.task for command in rig.of(Command)] == ["stop", "restart", "start"]


def test_of_parallel_tasks_a_failed_one_lets_the_others_finish(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=f"{{parallel: [{STOP}, {RESTART}]}}, {START}")
    rig.activate()
    rig.harness.answer("failed", task="stop")
    assert rig.states()[-1] == (0, "running")
    rig.harness.answer(task="restart")
    assert rig.states()[-1] == (0, "verifying")
    assert len(rig.of(Command)) == 2


def test_a_task_goes_to_the_host_that_it_names(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=with_(RESTART, "host: web-2"))
    rig.activate()
    assert rig.of(Command)[0].host == "web-2"


@pytest.mark.parametrize(
    ("task", "error"),
    [
        (with_(RESTART, "host: stranger"), "host 'stranger' is not in the inventory"),
        (with_(RESTART, 'host: "${{ cause.labels.nothing }}"'), "host: "),
        (RESTART.replace("inputs.service", "cause.labels.nothing"), ""),
    ],
)
def test_a_task_that_cannot_be_put_into_words_fails_at_once_and_for_good(tmp_path: Path, task: str, error: str) -> None:
    rig = Rig(tmp_path, tasks=with_(task, "retry: {attempts: 3}"))
    rig.activate()
    failed = rig.of(ExecutionEvent)[2]
    assert rig.of(Command) == []
    assert (failed.state, failed.attempt, (failed.error or "")[: len(error)]) == ("failed", 1, error)


def test_a_known_failure_is_tried_again_after_a_growing_delay_under_another_key(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=RETRIED)
    rig.activate(msgspec.structs.replace(CAUSE, valid_until=NOW + 900))
    for _ in range(3):
        rig.harness.answer("failed", reason="exit 1")
        rig.harness.advance(5)
    assert [command.time - NOW for command in rig.of(Command)] == [0, 2, 10]
    assert [command.key for command in rig.of(Command)] == [effect_key("run", "restart", n) for n in (1, 2, 3)]
    assert rig.states()[-1] == (10, "verifying")


def test_an_adapter_says_itself_whether_trying_again_may_help(tmp_path: Path) -> None:
    task = with_(TELL, "retry: {attempts: 3, delay: 2s}")
    for retry, attempts in ((True, 2), (False, 1)):
        rig = Rig(tmp_path, tasks=task)
        rig.activate()
        rig.harness.finish(Done(error="busy", retry=retry))
        rig.harness.advance(2)
        assert sum(state == "running" for _, _, state in rig.tasks()) == attempts


@pytest.mark.parametrize("state", ["refused", "indeterminate"])
def test_what_was_refused_or_is_not_known_is_not_tried_again(tmp_path: Path, state: str) -> None:
    rig = Rig(tmp_path, tasks=RETRIED)
    rig.activate()
    rig.harness.answer(state, reason="policy")  # type: ignore[arg-type]
    rig.harness.advance(30)
    assert len(rig.of(Command)) == 1
    assert rig.of(ExecutionEvent)[2].error == f"{state}: policy"
    assert rig.tasks()[-1][2] == ("failed" if state == "refused" else "indeterminate")


def test_a_command_that_nobody_read_fails_and_is_not_tried_under_another_key(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=RETRIED)
    rig.activate(msgspec.structs.replace(CAUSE, valid_until=NOW + 900))
    rig.harness.advance(60)
    rig.harness.expire()
    assert (rig.of(ExecutionEvent)[2].error or "").startswith("no_agent: ")
    rig.harness.advance(900)
    assert [command.key for command in rig.of(Command)] == [effect_key("run", "restart", 1)]


def test_a_command_that_comes_back_before_it_expired_says_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=RETRIED)
    rig.activate()
    rig.harness.send(rig.of(Command)[0])
    rig.harness.advance(59)
    assert [event.state for event in rig.of(ExecutionEvent)] == ["running", "running"]


def test_no_answer_in_time_leaves_it_open_what_happened(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=with_(RETRIED, "timeout: 10s"))
    rig.activate()
    rig.harness.advance(60 + 10 + 5)
    assert rig.tasks()[-1] == (75, "restart", "indeterminate")
    rig.harness.answer()
    assert rig.tasks()[-1] == (75, "restart", "indeterminate")
    rig.harness.advance(60)
    assert rig.end() == ("indeterminate", "unknown", None)


def test_on_error_continue_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=f"{with_(STOP, 'on_error: continue')}, {START}")
    rig.activate()
    rig.harness.answer("failed")
    rig.harness.answer()
    rig.close(at=NOW + 1)
    assert rig.end() == ("succeeded", "recovered", None)


def test_after_a_failure_the_tasks_that_follow_are_not_begun(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=f"{STOP}, {START}")
    rig.activate()
    rig.harness.answer("failed")
    rig.harness.advance(600)
    assert [command.task for command in rig.of(Command)] == ["stop"]
    assert rig.end() == ("failed", "unknown", None)


def test_a_workflow_out_of_time_begins_no_further_task(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "timeout: 30s", tasks=with_(RESTART, "retry: {attempts: 9, delay: 1m}"))
    rig.activate()
    rig.harness.answer("failed")
    rig.harness.advance(29)
    assert rig.states() == [(0, "running")]
    rig.harness.advance(100)
    assert rig.states() == [(0, "running"), (30, "verifying"), (90, "timed_out")]


def test_a_task_under_way_is_given_up_with_its_workflows_time(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "timeout: 30s")
    rig.activate()
    rig.harness.advance(200)
    assert rig.tasks()[-1] == (35, "restart", "indeterminate")
    assert rig.states() == [(0, "running"), (35, "verifying"), (95, "indeterminate")]


def test_an_answer_for_a_task_that_is_not_running_is_ignored(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=RETRIED)
    rig.activate()
    result = rig.harness.answer("failed")
    rig.harness.send(msgspec.structs.replace(result, id="again", state="succeeded"))
    rig.harness.advance(2)
    rig.harness.send(msgspec.structs.replace(result, id="and again", state="succeeded"))
    rig.harness.send(msgspec.structs.replace(result, id="another run's", execution="other"))
    assert [state for _, _, state in rig.tasks()] == ["running", "failed", "running"]


def test_the_same_activation_twice_is_one_run(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for number in range(3):
        rig.activate(id=f"activation-{number}")
    rig.harness.answer()
    rig.close(at=NOW + 1)
    rig.harness.advance(700)
    rig.activate()
    assert len(rig.of(Command)) == 1
    assert rig.states() == [(0, "running"), (0, "verifying"), (0, "succeeded")]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"workflow": "nothing"}, "no workflow is called 'nothing'"),
        ({"inputs": {}}, "input 'service' is needed"),
        ({"inputs": {"service": 7}}, "input 'service' should be of type string, got 7"),
        ({"inputs": {"service": "shop", "more": 1}}, "input 'more' is not one of this workflow's: service"),
        ({"expires": NOW - 1}, "expired"),
    ],
)
def test_what_cannot_be_followed_is_rejected(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    rig = Rig(tmp_path)
    rig.activate(**changed)
    assert rig.states() == [(0, "rejected")]
    assert rig.end() == ("rejected", "unknown", reason)
    assert rig.of(Command) == []


def test_a_notice_goes_to_the_adapter_that_it_names_and_is_tried_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.activate(workflow="notify", inputs={"to": "ops", "text": "hello"})
    work = rig.harness.finish(Done(error="no route", retry=True))
    rig.harness.advance(2)
    again = rig.harness.finish()
    assert (work.adapter, work.task.do, work.task.params) == ("ops", "send", {"text": "hello"})
    assert work.task.key != again.task.key
    assert rig.end() == ("succeeded", "unknown", None)


def test_the_fault_gone_before_the_first_act_makes_it_needless(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=f"{TELL}, {RESTART}")
    rig.activate()
    rig.close()
    rig.harness.finish()
    assert rig.of(Command) == []
    assert rig.end() == ("skipped", "recovered", "before_action")


def test_a_closing_that_came_before_the_activation_counts(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.close()
    rig.activate()
    assert rig.states() == [(0, "running"), (0, "skipped")]
    assert rig.end() == ("skipped", "recovered", "before_action")


def test_a_cause_that_is_not_known_to_be_valid_is_waited_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "timeout: 10m")
    rig.activate(msgspec.structs.replace(CAUSE, valid_until=NOW - 1))
    assert (rig.states()[-1], rig.end()[2]) == ((0, "waiting"), "stale")
    rig.harness.advance(20)
    rig.tell()
    assert rig.states()[-1] == (20, "running")
    assert len(rig.of(Command)) == 1


def test_it_is_waited_for_half_a_minute_from_when_it_was_needed(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=f"{TELL}, {RESTART}")
    rig.activate(msgspec.structs.replace(CAUSE, valid_until=NOW + 10))
    rig.harness.advance(40)
    rig.harness.finish()
    rig.harness.advance(100)
    assert rig.states() == [(0, "running"), (40, "waiting"), (70, "skipped")]
    assert rig.end() == ("skipped", "unknown", "stale")


@pytest.mark.parametrize("reason", ["expired", "gone", "withdrawn"])
def test_a_cause_that_ended_otherwise_is_no_recovery(tmp_path: Path, reason: str) -> None:
    rig = Rig(tmp_path, tasks=f"{TELL}, {RESTART}")
    rig.activate()
    rig.close(reason)  # type: ignore[arg-type]
    rig.harness.finish()
    assert rig.end() == ("skipped", "unknown", "stale")


def test_the_watch_goes_out_before_the_command_and_again_when_it_is_known_what_is_fresh(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "verify: {closes: cause, hold: 2s}")
    rig.activate()
    kinds = [type(message) for message in rig.harness.log]
    assert kinds.index(Watch) < kinds.index(Command)
    rig.harness.advance(1)
    rig.harness.answer(started=NOW + 0.5)
    first, second = rig.of(Watch)
    assert (first.after, first.episode, first.hold) == (None, "episode", 2)
    assert (second.after, second.clock, second.until) == (NOW + 0.5, "time", NOW + 1 + 62 + 5)


def test_a_run_without_cause_or_condition_ends_unverified(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.activate(None)
    rig.harness.answer()
    assert rig.end() == ("succeeded", "unknown", None)


def test_what_an_adapter_cannot_know_is_indeterminate_and_not_tried_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, tasks=TELL.replace("with", "retry: {attempts: 3}, with"))
    rig.activate()
    rig.harness.finish(Done(error="begun before, and its end is unknown", known=False, output={"rc": None}))
    rig.harness.advance(100)
    assert rig.tasks()[-1][1:] == ("tell", "indeterminate")
    assert rig.end()[0] == "indeterminate"
