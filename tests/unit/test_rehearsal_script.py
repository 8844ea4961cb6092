"""`exhaust test`: what passes, how each failure is told, and what a file of tests can get wrong."""

import dataclasses
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exhaust.commands.command import Root
from exhaust.commands.testing import run_tests
from exhaust.errors import UsageError
from exhaust.main import CATALOGUE, deciders, run
from exhaust.messages import Activation, Command, Decision, ExecutionEvent, Fact, Prediction
from exhaust.plugins import Analyzer, Inferring, Judgement, Task
from exhaust.rehearsal.expectations import Expectations

GOLDEN = Path(__file__).parents[1] / "golden" / "rehearsal"
HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "test-rules.md"
CASES = sorted(GOLDEN.glob("*.yaml"))
ROOT = Root(CATALOGUE, run, deciders)


def told(*files: Path, root: Root = ROOT, as_json: bool = False) -> tuple[int, str]:
    out = io.StringIO()
    code = run_tests([str(file) for file in files], root, as_json=as_json, out=out)
    return code, out.getvalue()


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_what_is_told_of_a_file_is_as_written_down(case: Path) -> None:
    code, said = told(case)
    assert said.replace(f"{GOLDEN}/", "") == case.with_suffix(".expected").read_text()
    assert code == (0 if " 0 failed" in said else 1)


def test_the_same_file_is_told_the_same_again() -> None:
    failing = GOLDEN / "failed-task.yaml"
    assert told(failing) == told(failing)


def test_several_files_are_counted_together() -> None:
    code, said = told(GOLDEN / "all-kinds-of-steps.yaml", GOLDEN / "nothing.yaml", GOLDEN / "misspelt.yaml")
    assert code == 1
    assert said.splitlines()[-1] == "9 passed, 2 failed"


def test_as_json_each_test_is_an_object_and_an_unusable_file_one_without_a_name() -> None:
    files = [GOLDEN / f"{name}.yaml" for name in ("all-kinds-of-steps", "nothing", "misspelt")]
    code, said = told(*files, as_json=True)
    lines = [json.loads(line) for line in said.splitlines()]
    assert code == 1
    assert [line["ok"] for line in lines] == [True] * 9 + [False] * 2
    assert lines[0] == {"file": str(files[0]), "name": "a dead service is restarted once", "ok": True, "faults": []}
    (fault,) = lines[9]["faults"]
    assert (lines[9]["name"], fault["line"], fault["column"]) == ("all is quiet", 7, 27)
    assert fault["what"].startswith("test 'all is quiet': expected nothing, got decision of clean-full-disk")
    assert (lines[10]["name"], lines[10]["faults"][0]["what"]) == (
        None,
        "expected a length of at least 1, got a list (at tests)",
    )


@pytest.mark.parametrize("name", ["nowhere.yaml", "site"])
def test_a_file_that_is_not_there_is_wrong_usage_and_nothing_is_played(name: str) -> None:
    out = io.StringIO()
    with pytest.raises(UsageError, match=f"{name}: there is no such file"):
        run_tests([str(GOLDEN / "nothing.yaml"), str(GOLDEN / name)], ROOT, as_json=False, out=out)
    assert out.getvalue() == ""


def test_the_example_of_the_documentation_passes(tmp_path: Path) -> None:
    configuration, tests = re.findall(r"^```yaml\n(.*?)^```", HOWTO.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "tests").mkdir()
    (tmp_path / "exhaust.yaml").write_text(configuration)
    (tmp_path / "tests" / "restart.yaml").write_text(tests)
    assert told(tmp_path / "tests" / "restart.yaml") == (0, "3 passed, 0 failed\n")


def test_the_failure_that_the_documentation_shows_is_what_is_told(tmp_path: Path) -> None:
    text = HOWTO.read_text()
    configuration, tests = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```\n(tests/restart.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "tests").mkdir()
    (tmp_path / "exhaust.yaml").write_text(configuration)
    wrong = tests.replace("none: {commands: [{}]}", "commands: [{action: service.restart}]")
    (tmp_path / "tests" / "restart.yaml").write_text(wrong)
    said = told(tmp_path / "tests" / "restart.yaml")[1].replace(f"{tmp_path}/", "")
    assert said == f"{shown}2 passed, 1 failed\n"


class Moody:
    """An analyzer of somebody's that has a fault."""

    silence: float | None = None

    def judge(self, record: Mapping[str, Any], time: float, host: Mapping[str, Any]) -> Judgement:
        raise LookupError("no such mood")


def test_an_analyzer_that_raises_ends_its_test_and_no_other(tmp_path: Path) -> None:
    plugin = Analyzer("moody", Inferring, lambda settings, lists: Moody())
    catalogue = dataclasses.replace(CATALOGUE, analyzers={**CATALOGUE.analyzers, "moody": plugin})
    (tmp_path / "site.yaml").write_text("analyzers: [{use: moody, fact: mood, on: custom.mood}]")
    (tmp_path / "tests.yaml").write_text(
        "configuration: site.yaml\n"
        "tests:\n"
        "  - {name: bad, steps: [{records: {stream: custom.mood, values: [{}]}}, {expect: {facts: [{}]}}]}\n"
        "  - {name: good, steps: [{expect: {nothing: true}}]}\n"
    )
    code, said = told(tmp_path / "tests.yaml", root=Root(catalogue, run, deciders))
    assert code == 1
    assert said == f"{tmp_path}/tests.yaml:3:25: test 'bad': stopped by LookupError: no such mood\n1 passed, 1 failed\n"


def types(struct: Any) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(struct)}


@pytest.mark.parametrize(
    ("kind", "message", "other"),
    [
        ("facts", Fact, set()),
        ("predictions", Prediction, set()),
        ("decisions", Decision, {"reasons"}),  # by the names of the guards
        ("activations", Activation, set()),
        ("commands", Command, set()),
        ("tasks", ExecutionEvent, set()),
        ("executions", ExecutionEvent, set()),
    ],
)
def test_what_can_be_expected_of_a_message_is_called_and_typed_as_in_the_message(
    kind: str, message: Any, other: set[str]
) -> None:
    (expected,) = types(Expectations)[kind].__args__
    known = types(message)
    for name, type_ in types(expected).items():
        assert name in known or name == "times"
        if name not in {"times"} | other:
            assert type_ in (known[name], known[name] | None)


def test_what_can_be_expected_of_a_call_is_called_as_in_its_task() -> None:
    (expected,) = types(Expectations)["calls"].__args__
    assert set(types(expected)) - {"times", "adapter", "task"} <= {field.name for field in dataclasses.fields(Task)}
