"""What `exhaust check` says of a whole configuration: each way to be wrong is told once, in one line, at its place."""

import io
import json
import sys
from pathlib import Path

import pytest

from exhaust.commands.command import Root
from exhaust.commands.line import parser
from exhaust.main import CATALOGUE, deciders, run

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted((GOLDEN / "configuration").glob("*.yaml"), key=lambda path: path.stem)
WITHOUT_ONE_FAULT = {"sound": 0, "several-faults-at-once": 4}
DOUBTFUL = "rules:\n  - {name: r, on: nothing.known, notify: {to: oncall, text: x}}\n"
ONCALL = 'adapters: [{name: oncall, use: notify, url: "log:"}]\n'


@pytest.fixture(autouse=True)
def among_the_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are told as they are given: here relative to the cases."""
    monkeypatch.chdir(GOLDEN / "configuration")


def checked(*words: str) -> int:
    """Run the command as the command line does; return its exit code."""
    options = parser().parse_args(["check", *words])
    code = options.run(options, Root(CATALOGUE, run, deciders))
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_what_an_operator_gets_wrong_is_told_exactly(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = checked(case.name)
    said = capsys.readouterr().out
    assert said == case.with_suffix(".expected").read_text()
    assert code == any(": warning: " not in line for line in said.splitlines())


def test_every_case_has_one_fault_and_no_other_is_told() -> None:
    expected = {path.stem: path.read_text() for path in (GOLDEN / "configuration").glob("*.expected")}
    assert expected.keys() == {path.stem for path in CASES}
    counts = {name: len(text.splitlines()) for name, text in expected.items()}
    assert {name: count for name, count in counts.items() if count != 1} == WITHOUT_ONE_FAULT


def test_twenty_faults_in_several_files_are_all_told_by_file_and_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(GOLDEN / "twenty-faults")
    assert checked("conf") == 1
    said = capsys.readouterr().out
    assert said == Path("expected").read_text()
    places = [(file, int(line)) for file, line, _ in (fault.split(":", 2) for fault in said.splitlines())]
    assert len(places) == 20
    assert places == sorted(places)


def test_a_file_that_cannot_be_read_is_no_reason_to_miss_what_it_defines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text("rules: [{name: r, on: down, run: w, with: {x: 1}}]\n")
    (tmp_path / "b.yaml").write_text('workflows: [{name: w, tasks: "}\n')
    assert checked(str(tmp_path)) == 1
    assert capsys.readouterr().out == f"{tmp_path}/b.yaml:1:30: the quote that begins here is never closed\n"


@pytest.mark.parametrize(
    "text", ["workflow: [{name: w, tasks: []}]", "workflows: {w: []}", "workflows: [!w {name: w}]"]
)
def test_a_section_that_cannot_be_read_is_no_reason_to_miss_what_it_defines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "a.yaml").write_text(f"rules: [{{name: r, on: clock.skew, run: w}}]\n{text}\n")
    checked(str(tmp_path))
    (fault,) = capsys.readouterr().out.splitlines()
    assert "a.yaml:2:" in fault


@pytest.mark.parametrize("by", ["path", "option", "environment"])
def test_what_is_checked_is_given_as_a_path_or_as_for_other_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    monkeypatch.setenv("EXHAUST_CONFIG", "http-misspelt-key.yaml" if by == "environment" else "/nowhere")
    words = {"path": ["http-misspelt-key.yaml"], "option": ["--config", "http-misspelt-key.yaml"], "environment": []}
    assert checked(*words[by]) == 1
    assert capsys.readouterr().out == Path("http-misspelt-key.expected").read_text()


def test_as_json_there_is_one_object_per_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(DOUBTFUL)
    assert checked(str(path), "--json") == 1
    doubt, error = map(json.loads, capsys.readouterr().out.splitlines())
    assert doubt == {
        "file": str(path), "line": 2, "column": 19, "severity": "warning", "path": "rules[0].on",
        "what": "no analyzer makes the fact 'nothing.known'",
    }  # fmt: skip
    assert (error["severity"], error["path"]) == ("error", "rules[0].notify.to")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("host: h\n", "ok: 1 host"),
        ("hosts: [{name: 'w[1:3]'}]\nworkflows: [{name: w, tasks: []}]\n", "ok: 3 hosts, 1 workflow"),
        (DOUBTFUL + ONCALL, "ok, 1 warning: 1 host, 1 rule"),
        (DOUBTFUL, "1 fault, 1 warning"),
        ("hots: []\nhttp: {lissen: x}\n", "2 faults"),
    ],
)
def test_at_a_terminal_a_last_line_says_how_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    checked(str(path))
    assert terminal.getvalue() == f"{path}: {said}\n"


def test_elsewhere_what_is_sound_is_not_worth_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked("sound.yaml") == 0
    assert capsys.readouterr() == ("", "")
