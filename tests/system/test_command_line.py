"""The installed command, as a person types it: what it answers, where, and with which exit code."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exhaust.commands.line import parser

EXHAUST = Path(sys.executable).with_name("exhaust")
COMMANDS = (
    "demo", "init", "check", "schema", "plugins", "up", "run", "broker", "emit", "status", "facts", "predictions",
    "decisions", "executions", "hosts", "explain", "trigger", "halt", "resume", "try", "records", "eval", "test",
)  # fmt: skip
SOUND = "host: here\nemitters: [{use: performance}]\nhttp: {listen: '127.0.0.1:1'}\n"


def exhaust(*words: str, said: str = "", environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    given = {"PATH": "/usr/bin:/bin", **(environment or {})}
    return subprocess.run(
        [str(EXHAUST), *words], input=said, capture_output=True, text=True, check=False, timeout=30, env=given
    )


@pytest.fixture
def sound(tmp_path: Path) -> str:
    (tmp_path / "exhaust.yaml").write_text(SOUND)
    return str(tmp_path)


def test_check_says_nothing_of_what_is_sound(sound: str) -> None:
    done = exhaust("check", sound)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_check_tells_every_fault_with_the_path_as_given(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("hots: x\nrules: [{name: r, on: x, run: w}]\n")
    done = exhaust("check", str(path))
    assert done.returncode == 1
    assert done.stderr == ""
    first, *rest = done.stdout.splitlines()
    assert first.startswith(f"{path}:1:1: unknown key 'hots', did you mean 'hosts'?")
    assert [line for line in rest if "no workflow is called 'w'" in line]


def test_check_of_warnings_alone_is_well(tmp_path: Path) -> None:
    path = tmp_path / "doubtful.yaml"
    path.write_text(
        "workflows: [{name: w, tasks: [{name: t, use: agent, do: service.restart, with: {service: a}}]}]\n"
        "rules: [{name: r, on: nothing.known, run: w}]\n"
    )
    done = exhaust("check", str(path))
    assert done.returncode == 0
    assert done.stdout.startswith(f"{path}:2:23: warning: no analyzer makes the fact 'nothing.known'")


def test_check_of_nothing_is_a_fault(tmp_path: Path) -> None:
    done = exhaust("check", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "none:1:1: cannot be read: No such file or directory" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "out"),
    [
        (["record.cpu > 90", "--vars", '{"record": {"cpu": 95}}'], 0, "true\n"),
        (["a + 'é'", "--vars", '{"a": "é"}'], 0, '"éé"\n'),
        (["record.cpu > 90", "--vars", '{"record": {}}'], 1, "unknown: "),
        (["1 +"], 2, ""),
        (["a", "--vars", "{"], 2, ""),
        (["a", "--vars", "[]"], 2, ""),
        (["a", "--vars", '{"a": 1' + "0" * 400 + "}"], 2, ""),
    ],
)
def test_eval_answers_and_its_exit_code_says_how_well(words: list[str], code: int, out: str) -> None:
    done = exhaust("eval", *words)
    assert done.returncode == code
    assert done.stdout.startswith(out)
    assert len(done.stderr.splitlines()) == (code == 2)


def test_eval_answers_line_by_line() -> None:
    asked = '{"expr": "a + 1", "vars": {"a": 1}}\nno json\n{"expr": "b.c > 1", "vars": {"b": {}}}\n'
    done = exhaust("eval", "-", said=asked)
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first == {"value": 2}
    assert list(second) == ["refused"]
    assert list(third) == ["unknown"]
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words",
    [[], ["nothing"], ["eval"], ["run"], ["run", "nobody"], ["broker"], ["broker", "tear-down"], ["explain"],
     ["facts", "--limit", "many"], ["status", "--filter", "a=b"]],
)  # fmt: skip
def test_wrong_usage_is_exit_2(words: list[str]) -> None:
    done = exhaust(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: exhaust" in done.stderr


def test_what_cannot_be_is_wrong_usage_too(sound: str) -> None:
    for words in (["run", "analyzers"], ["broker", "setup"]):
        done = exhaust(*words, "--config", sound)
        assert done.returncode == 2
        assert "embedded" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["status"], ["facts"], ["decisions"], ["executions", "--json"], ["explain", "x"]])
def test_who_is_not_there_is_exit_3(sound: str, tmp_path: Path, words: list[str]) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    done = exhaust(*words, "--config", sound, "--token-file", str(token))
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == "nobody answers at http://127.0.0.1:1: start the system with 'exhaust up'\n"


def test_the_configuration_may_come_from_the_environment(sound: str, tmp_path: Path) -> None:
    done = exhaust("status", environment={"EXHAUST_CONFIG": sound})
    assert done.returncode == 3
    assert "no token there" in done.stderr
    assert exhaust("status", environment={"EXHAUST_CONFIG": str(tmp_path / "none")}).returncode == 1


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (one.choices for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    assert isinstance(found, dict)
    return found


def test_the_help_lists_every_command() -> None:
    done = exhaust("--help")
    assert done.returncode == 0
    listed = re.findall(r"^    ([a-z-]+)(?: |$)", done.stdout, re.MULTILINE)
    assert set(commands()) == set(listed) >= set(COMMANDS)
