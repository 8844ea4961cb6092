"""What check asks of the host it runs on, and of names that may yet come to be: doubts, told as warnings."""

from dataclasses import replace
from pathlib import Path

import pytest

from exhaust.configuration import Catalogue, check
from exhaust.main import CATALOGUE

SERVICE = "host: web-1\nemitters: [{use: service, services: [{name: a, provider: %s}]}]\n"
WORKFLOW = "workflows: [{name: w, tasks: [{name: t, use: agent, do: service.restart, with: {service: a}%s}]}]\n"
RULE = "rules: [{name: r, on: clock.skew, run: w}]\n"
POLICED = "host: web-1\nhost_policy: policy.yml\n"


def told(path: Path, catalogue: Catalogue = CATALOGUE, own: str = "web-1") -> list[str]:
    """Return what is said, each after its severity, less the name of the directory."""
    faults = check(path, catalogue, own)[1]
    return [f"{fault.severity}: {fault}".replace(f"{path}/", "") for fault in faults]


def written(folder: Path, text: str, policy: str = "") -> Path:
    (folder / "site.yaml").write_text(text)
    if policy:
        (folder / "policy.yml").write_text(policy)
        (folder / "policy.yml").chmod(0o600)
    return folder


def test_a_program_that_is_not_here_is_told_where_here_is_meant(tmp_path: Path) -> None:
    path = written(tmp_path, SERVICE % "kept, argv: [/no/such/program]")
    place = "site.yaml:2:71: service 'a': there is no '/no/such/program' on this host"
    assert told(path) == [f"warning: {place} (at emitters[0].services[0].argv[0])"]
    assert told(path, own="web-2") == []


@pytest.mark.parametrize("service", ["kept, argv: [/bin/sh, -c, /no/such/program]", "pidfile, pidfile: /no/such/file"])
def test_what_may_come_to_be_here_is_not_missed(tmp_path: Path, service: str) -> None:
    assert told(written(tmp_path, SERVICE % service)) == []


def test_a_plug_in_that_does_not_work_here_is_told(tmp_path: Path) -> None:
    emitter = replace(CATALOGUE.emitters["performance"], missing=lambda: "there is no /proc")
    catalogue = replace(CATALOGUE, emitters={"performance": emitter})
    path = written(tmp_path, "host: web-1\nemitters: [{use: performance}]\n")
    place = "site.yaml:2:18: 'performance' does not work on this host: there is no /proc (at emitters[0].use)"
    assert told(path, catalogue) == [f"warning: {place}"]
    assert told(path, catalogue, own="web-2") == []


def test_a_plug_in_that_is_broken_says_why_it_is_not_there(tmp_path: Path) -> None:
    catalogue = replace(CATALOGUE, broken={"emitters/folder": "folder:EMITTER cannot be loaded"})
    said = told(written(tmp_path, "emitters: [{use: folder}]\n"), catalogue)
    assert said == ["error: site.yaml:1:18: folder:EMITTER cannot be loaded (at emitters[0].use)"]


@pytest.mark.parametrize(("section", "kinds"), [("emitters", CATALOGUE.emitters), ("adapters", CATALOGUE.adapters)])
def test_who_says_no_kind_is_told_all_there_are(tmp_path: Path, section: str, kinds: dict[str, object]) -> None:
    (fault,) = told(written(tmp_path, f"{section}: [{{name: a}}]\n"))
    assert f"'use' is needed: one of {', '.join(sorted(kinds))} (at {section}[0])" in fault
    fault, *_ = told(written(tmp_path, f"{section}: [{{use: qqq}}]\n"))
    assert f"nothing is called 'qqq' here; there are {', '.join(sorted(kinds))}" in fault


# The policy of this host


def test_what_rules_would_do_and_the_policy_does_not_allow_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, POLICED + RULE + WORKFLOW % "", policy="service.start: {}\n")
    place = "site.yaml:4:57: this host's policy does not allow 'service.restart'"
    assert told(path) == [f"warning: {place} (at workflows[0].tasks[0].do)"]


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        (POLICED + RULE + WORKFLOW % "", "service.restart: {}\n"),
        (POLICED + WORKFLOW % "", "service.start: {}\n"),
        (POLICED + RULE + WORKFLOW % ", host: web-2", "service.start: {}\n"),
        (POLICED + RULE + WORKFLOW % "" + "hosts: [{name: web-2}]\n", "service.start: {}\n"),
    ],
    ids=["allowed", "in no rule", "on another host", "of a host without an agent"],
)
def test_what_the_policy_need_not_allow_is_not_told(tmp_path: Path, text: str, policy: str) -> None:
    assert told(written(tmp_path, text, policy)) == []


def test_a_task_that_names_this_host_is_held_to_its_policy(tmp_path: Path) -> None:
    text = POLICED + RULE + WORKFLOW % ", host: web-1"
    assert len(told(written(tmp_path, text, policy="service.start: {}\n"))) == 1


def test_faults_of_the_policy_are_told_among_the_others_by_the_path_that_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "conf").mkdir()
    written(tmp_path / "conf", POLICED + "hots: []\n", policy="service.restart: {rates: 5/m}\n")
    monkeypatch.chdir(tmp_path)
    places = [str(fault).split(": ")[0] for fault in check("./conf", CATALOGUE)[1]]
    assert places == ["./conf/policy.yml:1:19", "./conf/site.yaml:3:1"]


def test_a_policy_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    path = written(tmp_path, POLICED) / "site.yaml"
    (fault,) = check(path, CATALOGUE)[1]
    assert (fault.file, fault.what) == (f"{tmp_path}/policy.yml", "cannot be read: No such file or directory")


# Names that are mentioned only


@pytest.mark.parametrize(
    ("mention", "doubt"),
    [
        ("on: [clock.skew, service.up]", "no analyzer makes the fact 'service.up' (at rules[0].on[1])"),
        ("on: clock.skew, unless: [{open: service.up}]", "'service.up' (at rules[0].unless[0].open)"),
        ("on: clock.skew, given: {other: {open: service.up}}", "'service.up' (at rules[0].given.other.open)"),
        ("on: clock.skew, quarantine: {rules: [other]}", "no rule is called 'other' (at rules[0].quarantine.rules[0])"),
    ],
)
def test_a_name_that_nobody_defines_is_doubtful(tmp_path: Path, mention: str, doubt: str) -> None:
    said = told(written(tmp_path, f"rules: [{{name: r, run: w, {mention}}}]\n" + WORKFLOW % ""))
    (warning,) = (line for line in said if line.startswith("warning: "))
    assert warning.endswith(doubt)


@pytest.mark.parametrize("name", ["emitter.silent", "host.silent", "telemetry.gap", "telemetry.lag", "clock.skew", "*"])
def test_the_facts_of_the_ledger_are_known_and_globs_name_nobody(tmp_path: Path, name: str) -> None:
    assert told(written(tmp_path, f"rules: [{{name: r, on: '{name}', run: w}}]\n" + WORKFLOW % "")) == []
