"""The whole loop in virtual time: recorded exhaust gives the same facts, decisions and activations to the byte."""

import random
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest

from exhaust.messages import Activation, Decision, ExecutionEvent, Fact
from tests.harness import Harness

YAML = """
hosts: [{name: "web-[1:4]", labels: {role: web}}]
adapters: [{name: ops, use: notify, url: "log:"}]
analyzers:
  - use: condition
    fact: service.down
    on: service.state
    when: record.state != "running"
    keep: 5s
    by: [service]
    severity: critical
    summary: "${{ record.service }} is ${{ record.state }}"
  - {use: condition, fact: disk.full, on: custom.disk, when: record.used > 90, until: record.used < 70, for: 10s}
  - {use: condition, fact: login.failed, on: custom.disk, when: record.failed > 8, expires: 40s}
rules:
  - name: restart
    on: service.down
    when: '!has(facts.disk) && cause.severity == "critical"'
    run: mend
    with: {service: "${{ cause.labels.service }}"}
    mode: auto
    guard: {attempts: 2, window: 10m, cooldown: 20s, concurrent: {role: 2}}
    escalate: [{notify: {to: ops, text: "${{ cause.summary }} on ${{ host.name }}"}}]
  - {name: clean, on: disk.*, run: clean, mode: auto, guard: {attempts: 3, window: 10m, cooldown: 15s}}
  - {name: tell, on: login.failed, notify: {to: ops, text: "${{ cause.name }} on ${{ host.name }}"}}
  - {name: look, on: "*", run: clean}
workflows:
  - name: mend
    inputs: {service: string}
    tasks: [{name: restart, use: agent, do: service.restart, with: {service: "${{ inputs.service }}"}}]
    verify: {closes: cause, hold: 5s, within: 30s}
  - name: clean
    tasks: [{name: stop, use: agent, do: service.stop, with: {service: cache}, retry: {attempts: 2, delay: 5s}}]
    verify: {on: custom.disk, when: record.used < 80, samples: 2, within: 60s}
"""
EVERY = 5.0
Round = list[tuple[str, str, list[dict[str, Any]]]]


def recorded(rounds: int, seed: int) -> list[Round]:
    """Return batches of four hosts, of two streams each, some of them only a sign of life."""
    chance = random.Random(seed)
    found: list[Round] = []
    down: dict[tuple[str, str], int] = {}
    used = dict.fromkeys((f"web-{number}" for number in range(1, 5)), 60.0)
    for _ in range(rounds):
        found.append([])
        for host in used:
            states = []
            for service in ("shop", "mail"):
                left = down.get((host, service), 0) or (chance.random() < 0.05) * chance.randint(1, 12)
                down[host, service] = max(0, left - 1)
                states.append({"service": service, "state": "exited" if left else "running"})
            used[host] = min(100.0, max(20.0, used[host] + chance.uniform(-20, 22)))
            disk = {"used": used[host], "failed": chance.randint(0, 9)}
            found[-1].append((host, "service.state", states if chance.random() < 0.9 else []))
            found[-1].append((host, "custom.disk", [disk] if chance.random() < 0.9 else []))
    return found


def play(folder: Path, rounds: list[Round], crashes: Container[int] = ()) -> Harness:
    """Feed what was recorded; agents answer at once, and every fourth act of theirs fails."""
    harness = Harness(folder, YAML)
    harness.crashes = crashes
    for batches in rounds:
        harness.advance(EVERY)
        for host, stream, records in batches:
            harness.batch(stream, *records, host=host)
            while harness.commands:
                key = next(iter(harness.commands))
                harness.answer("failed" if int(key[:4], 16) % 4 == 0 else "succeeded")
            while harness.works:
                harness.finish()
    harness.crashes = ()
    harness.advance(600)
    return harness


def test_the_same_batches_fed_twice_give_the_same_bytes(tmp_path: Path) -> None:
    rounds = recorded(60, seed=1)
    assert sum(map(len, rounds)) >= 200
    first, second = play(tmp_path, rounds), play(tmp_path, rounds)
    assert len(first.of(Fact)) > 100
    assert {one.outcome for one in first.of(Decision)} == {"fired", "observed", "refused"}
    assert {one.workflow for one in first.of(Activation)} == {"mend", "clean", "notify"}
    assert first.digest() == second.digest()
    assert [repr(message) for message in first.log] == [repr(message) for message in second.log]


@pytest.mark.parametrize("beat", [2, 7, 50])
def test_killed_again_and_again_in_between_they_give_the_same_bytes(tmp_path: Path, beat: int) -> None:
    rounds = recorded(30, seed=2)
    assert play(tmp_path, rounds).digest() == play(tmp_path, rounds, range(0, 100_000, beat)).digest()


@pytest.mark.parametrize("seed", range(3, 6))
def test_every_run_comes_to_one_end_and_every_fact_too(tmp_path: Path, seed: int) -> None:
    harness = play(tmp_path, recorded(40, seed))
    harness.advance(900)
    started = {one.execution for one in harness.of(Activation)}
    ended = [one for one in harness.of(ExecutionEvent) if one.task is None and one.verdict not in (None, "relapsed")]
    assert sorted(one.execution for one in ended if one.reason != "on_failure") == sorted(started)
    newest = {one.episode: one.state for one in harness.of(Fact)}
    assert set(newest.values()) == {"closed"}
