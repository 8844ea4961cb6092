"""How the orchestrator ends a task that cannot be commanded, or whose outcome it cannot take: once, and knowingly."""

from pathlib import Path

import msgspec

from exhaust.messages import Command, ExecutionEvent
from tests.conducting import CAUSE, RESTART, TELL, Rig

STOP = '{name: stop, use: agent, do: service.stop, with: {service: "${{ inputs.service }}"}}'


def test_a_command_that_is_too_long_is_a_task_that_failed_and_no_command(tmp_path: Path) -> None:
    start = '{name: start, use: agent, do: service.start, with: {service: "${{ tasks.stop.output.name }}"}'
    rig = Rig(tmp_path, tasks=f"{STOP}, {start}, retry: {{attempts: 3}}}}")
    rig.activate()
    rig.harness.answer(output={"name": "x" * 60_000})
    assert [command.task for command in rig.of(Command)] == ["stop"]
    ended = [event for event in rig.of(ExecutionEvent) if event.task == "start"][-1]
    assert (ended.state, ended.attempt) == ("failed", 1)
    assert (ended.error or "").endswith("bytes is too long: at most 48640")


def test_the_command_after_one_that_was_too_long_has_the_number_it_would_have_had(tmp_path: Path) -> None:
    long = '{name: long, use: agent, do: service.stop, with: {service: "${{ cause.labels.text }}"}, on_error: continue}'
    rig = Rig(tmp_path, tasks=f"{long}, {RESTART}")
    rig.activate(msgspec.structs.replace(CAUSE, labels={"service": "shop", "text": "x" * 60_000}))
    assert [(command.task, command.seq) for command in rig.of(Command)] == [("restart", 1)]


def test_of_an_adapter_whose_outcome_cannot_be_taken_nobody_knows_the_end_and_it_is_not_asked_again(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, tasks=f"{TELL[:-1]}, retry: {{attempts: 3, delay: 2s}}}}")
    rig.activate()
    rig.harness.finish(TypeError("not plain data"))
    ended = [event for event in rig.of(ExecutionEvent) if event.task == "tell"][-1]
    assert (ended.state, ended.error) == ("indeterminate", "its outcome could not be taken: not plain data")
    rig.harness.restart("orchestrator")
    rig.harness.advance(10)
    assert rig.harness.works == []
