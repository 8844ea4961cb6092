"""A rehearsal by itself: who answers at once, what waits, and that the same steps give the same ids."""

from pathlib import Path
from typing import Any

import pytest

from exhaust.configuration import load
from exhaust.main import CATALOGUE, deciders
from exhaust.messages import Batch, Command, ExecutionEvent, Order, Result
from exhaust.plugins import Done
from exhaust.rehearsal.rehearsal import Answers, Rehearsal
from tests.harness import HOST, NOW

YAML = f"""
hosts: [{{name: {HOST}}}]
adapters: [{{name: ops, use: notify, url: "log:"}}]
analyzers:
  - {{use: condition, fact: service.down, on: custom.service, when: record.state != "running", by: [service]}}
rules:
  - {{name: restart, on: service.down, run: mend, with: {{service: "${{{{ cause.labels.service }}}}"}}, mode: auto}}
workflows:
  - name: mend
    inputs: {{service: string}}
    tasks:
      - {{name: restart, use: agent, do: service.restart, with: {{service: "${{{{ inputs.service }}}}"}}}}
      - {{name: tell, use: ops, do: send, with: {{text: "${{{{ inputs.service }}}}"}}}}
"""
DOWN = {"service": "shop", "state": "failed"}


def rehearsed(folder: Path, **answers: Answers) -> Rehearsal:
    path = folder / "exhaust.yaml"
    path.write_text(YAML)
    return Rehearsal(deciders(load(path, CATALOGUE)), NOW, **answers)


def tasks(rehearsal: Rehearsal) -> list[tuple[str | None, str]]:
    return [(event.task, event.state) for event in rehearsal.of(ExecutionEvent) if event.task is not None]


def test_agents_and_adapters_that_are_silent_leave_the_answers_to_whoever_plays_them(tmp_path: Path) -> None:
    rehearsal = rehearsed(tmp_path)
    rehearsal.batch("custom.service", DOWN, host=HOST)
    assert tasks(rehearsal) == [("restart", "running")]
    rehearsal.answer(task="restart", output={"pid": 7})
    assert [work.task.params for work in rehearsal.works] == [{"text": "shop"}]
    rehearsal.finish(Done(error="no route"), task="tell")
    assert tasks(rehearsal)[1:] == [("restart", "succeeded"), ("tell", "running"), ("tell", "failed")]


@pytest.mark.parametrize(("agents", "state"), [("succeed", "succeeded"), ("fail", "failed")])
def test_agents_that_are_told_to_answer_do_so_at_once(tmp_path: Path, agents: Answers, state: str) -> None:
    rehearsal = rehearsed(tmp_path, agents=agents)
    rehearsal.batch("custom.service", DOWN, host=HOST)
    assert tasks(rehearsal)[:2] == [("restart", "running"), ("restart", state)]
    assert rehearsal.commands == {}
    (result,) = rehearsal.of(Result)
    assert (result.state, result.started, result.ended) == (state, NOW, NOW)


@pytest.mark.parametrize(("adapters", "state"), [("succeed", "succeeded"), ("fail", "failed")])
def test_adapters_that_are_told_to_be_done_are_so_at_once(tmp_path: Path, adapters: Answers, state: str) -> None:
    rehearsal = rehearsed(tmp_path, agents="succeed", adapters=adapters)
    rehearsal.batch("custom.service", DOWN, host=HOST)
    assert tasks(rehearsal)[2:] == [("tell", "running"), ("tell", state)]
    assert rehearsal.works == []
    ((place, work),) = rehearsal.asked
    assert (work.adapter, work.task.do) == ("ops", "send")
    assert isinstance(rehearsal.log[place - 1], ExecutionEvent)


def test_a_command_that_nobody_takes_comes_back_when_it_expires(tmp_path: Path) -> None:
    rehearsal = rehearsed(tmp_path)
    rehearsal.batch("custom.service", DOWN, host=HOST)
    (command,) = rehearsal.of(Command)
    rehearsal.expire()
    assert rehearsal.now == command.expires
    (failed,) = (event for event in rehearsal.of(ExecutionEvent) if event.task and event.state == "failed")
    assert failed.error is not None
    assert failed.error.startswith("no_agent")


def test_batches_are_counted_from_0_for_each_host_and_stream(tmp_path: Path) -> None:
    rehearsal = rehearsed(tmp_path)
    for stream, host in [("custom.a", "x"), ("custom.a", "y"), ("custom.b", "x"), ("custom.a", "x"), ("custom.a", "x")]:
        rehearsal.batch(stream, host=host)
    batches = rehearsal.of(Batch)
    assert [batch.seq for batch in batches] == [0, 0, 0, 1, 2]
    assert len({batch.id for batch in batches}) == 5


def test_the_same_steps_give_the_same_messages(tmp_path: Path) -> None:
    def play() -> list[Any]:
        rehearsal = rehearsed(tmp_path, agents="succeed", adapters="fail")
        rehearsal.send(
            Order(id="o", time=NOW, order="trigger", target="mend", by="a", inputs={"service": "x"}, host=HOST)
        )
        rehearsal.batch("custom.service", DOWN, host=HOST)
        rehearsal.advance(900)
        return rehearsal.log

    first = play()
    assert len(first) > 20
    assert play() == first
