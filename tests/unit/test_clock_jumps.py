"""A clock that is set while the loop runs: nothing acts twice, nothing is called gone, and it goes on from there."""

from pathlib import Path

import pytest

from exhaust.messages import Command, ExecutionEvent, Fact
from tests.harness import HOST, Harness

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
JUMPS = [-86_400.0, -60.0, 60.0, 86_400.0]


def say(harness: Harness, state: str) -> None:
    harness.batch("service.state", {"service": "shop", "state": state})


def end(harness: Harness) -> tuple[str, str | None]:
    own = [event for event in harness.of(ExecutionEvent) if event.task is None]
    return own[-1].state, own[-1].verdict


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
    say(harness, "failed")
    harness.answer()
    harness.advance(1)
    say(harness, "running")
    assert end(harness) == ("succeeded", "recovered")
    assert [fact.state for fact in harness.of(Fact)] == ["open", "closed"]
    assert harness.of(Fact)[0].host == HOST


def test_a_host_whose_clock_alone_was_set_back_clears_nothing(tmp_path: Path) -> None:
    harness = Harness(tmp_path, SITE)
    say(harness, "failed")
    harness.batch("service.state", {"service": "shop", "state": "running", "time": harness.now - 3600})
    assert [fact.reason for fact in harness.of(Fact)] == ["asserted"]
