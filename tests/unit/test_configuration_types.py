"""What is right is not refused: fields of any stream, values that fit, evidence that comes in time."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exhaust.clock import Clock
from exhaust.configuration import check
from exhaust.main import CATALOGUE
from exhaust.plugins import Adapter, Emitter, Record, Settings, Task
from exhaust.settings import Duration

ANALYZER = "analyzers: [{use: condition, fact: f, on: %s, when: '%s', %s}]\n"
TASK = "{name: %s, use: agent, do: service.restart, with: {service: a, %s}}"
WORKFLOW = "workflows: [{name: w, inputs: {%s}, tasks: [%s]%s}]\n"
RULE = "rules: [{name: r, on: f, run: w, with: {x: %s}}]\n"


class Probe(Settings, frozen=True, kw_only=True):
    every: Duration = 10.0


class Needy(Settings, frozen=True, kw_only=True):
    url: str


class Probes(Settings, frozen=True, kw_only=True):
    every: Duration = 1.0
    probes: list[Probe] = []


async def none(settings: Probes, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
    return
    yield


async def nothing(settings: Settings, task: Task) -> None:
    return


PROBES = Emitter("probes", Probes, none, streams={"probe": {"outcome": "string: how it went"}, "raw": {}})


def faults_of(folder: Path, text: str) -> list[str]:
    (folder / "site.yaml").write_text(text)
    catalogue = replace(CATALOGUE, emitters={**CATALOGUE.emitters, "probes": PROBES})
    return [str(fault) for fault in check(folder / "site.yaml", catalogue)[1]]


@pytest.mark.parametrize(
    ("on", "when", "more"),
    [
        ("custom.traffic", "record.requests > 5 && record.url.startsWith(\"/x\")", "by: [page]"),
        ("probes.raw", "record.anything == 1", "by: [something]"),
        ("service.state", "record.time < 5.0 && time > timestamp(record.since)", "by: {a: host.labels.role}"),
        ("'p*.*'", "record.outcome == \"x\" || record.load1 > 1", "keep: 1s"),
        ("'*'", "record.outcome == \"x\" || record.wanted", "keep: 1s"),
    ],
)  # fmt: skip
def test_fields_that_a_record_may_have_are_known(tmp_path: Path, on: str, when: str, more: str) -> None:
    assert faults_of(tmp_path, ANALYZER % (on, when, more)) == []


def test_what_a_pattern_extracts_is_a_field(tmp_path: Path) -> None:
    more = "extract: {from: record.service, pattern: '^(?P<address>[0-9.]+)$'}, by: {address: record.address}"
    assert not [fault for fault in faults_of(tmp_path, ANALYZER % ("service.state", "true", more)) if "field" in fault]


@pytest.mark.parametrize(
    ("inputs", "parameter"),
    [
        ("x: duration", "stop_timeout: '${{ inputs.x }}'"),
        ("x: double", "stop_timeout: '${{ inputs.x }}'"),
        ("x: int", "stop_timeout: '${{ inputs.x }}s'"),
        ("x: bool", "kill: '${{ inputs.x && true }}'"),
        ("x: map", "kill: '${{ inputs.x.kill }}'"),
        ("x: string", "kill: '${{ cause.value }}'"),
        ("x: string", "stop_timeout: 10s, kill: false"),
    ],
)
def test_a_value_that_may_fit_is_not_refused(tmp_path: Path, inputs: str, parameter: str) -> None:
    assert faults_of(tmp_path, WORKFLOW % (inputs, TASK % ("t", parameter), "")) == []


@pytest.mark.parametrize(
    ("type_", "given"),
    [
        ("string", "a"),
        ("int", "'5'"),
        ("int", "'${{ cause.labels.n }}'"),
        ("duration", "30s"),
        ("duration", "'${{ now - cause.since }}'"),
        ("timestamp", "'${{ cause.since }}'"),
        ("bool", "true"),
        ("list", "[a, '${{ cause.name }}']"),
        ("map", "{a: 5}"),
        ("{type: int, one_of: [1, 2]}", "2"),
        ("{type: ip, default: 127.0.0.1}", ""),
    ],
)
def test_an_input_that_its_type_can_parse_is_not_refused(tmp_path: Path, type_: str, given: str) -> None:
    text = ANALYZER % ("service.state", "true", "by: {n: record.service}") + RULE % given
    assert faults_of(tmp_path, text + WORKFLOW % (f"x: {type_}", TASK % ("t", "kill: false"), "")) == []


@pytest.mark.parametrize(
    ("tasks", "after"),
    [
        ("%a, %b", ""),
        ("{parallel: [%a, {name: c, use: agent, do: service.start, with: {service: c}}]}, %b", ""),
        ("%a", ", on_failure: [%b]"),
    ],
)
def test_a_task_can_read_of_those_before_it(tmp_path: Path, tasks: str, after: str) -> None:
    parts = {"%a": TASK % ("a", "kill: true"), "%b": TASK % ("b", "kill: '${{ tasks.a.output.changed }}'")}
    for mark, part in parts.items():
        tasks, after = tasks.replace(mark, part), after.replace(mark, part)
    assert faults_of(tmp_path, WORKFLOW % ("", tasks, after)) == []


@pytest.mark.parametrize(
    ("every", "within", "samples", "fault"),
    [
        ("every: 10s", "30s", 3, None),
        ("every: 10s", "29s", 3, "29s is too short: 3 samples of 'probes.probe' take up to 30s, one every 10s"),
        ("every: 1h, probes: [{every: 10s}, {every: 20s}]", "10s", 1, None),
        (
            "probes: [{every: 10s}, {every: 20s}]",
            "9s",
            1,
            "9s is too short: a sample of 'probes.probe' takes up to 10s",
        ),
    ],
)
def test_evidence_comes_as_often_as_the_quickest_source_gives_it(
    tmp_path: Path, every: str, within: str, samples: int, fault: str | None
) -> None:
    verify = f', verify: {{on: probes.probe, when: record.outcome == "ok", within: {within}, samples: {samples}}}'
    said = faults_of(tmp_path, f"emitters: [{{use: probes, {every}}}]\n" + WORKFLOW % ("", "", verify))
    assert [line.split(": ", 1)[1].partition(" (at")[0] for line in said] == ([fault] if fault else [])


@pytest.mark.parametrize(("keep", "hold", "sound"), [("10s", "20s", True), ("10s", "21s", False), ("31s", "0s", False)])
@pytest.mark.parametrize("on", ["f", "'*'", "[other, 'f*']"])
def test_a_fact_is_given_the_time_that_it_takes_to_close(
    tmp_path: Path, keep: str, hold: str, sound: bool, on: str
) -> None:
    verify = f", verify: {{closes: cause, within: 30s, hold: {hold}}}"
    text = ANALYZER % ("service.state", "true", f"keep: {keep}") + f"rules: [{{name: r, on: {on}, run: w}}]\n"
    said = faults_of(tmp_path, text + WORKFLOW % ("", "", verify))
    assert ([line for line in said if "too short" in line] == []) == sound


def test_an_adapter_that_needs_no_settings_needs_no_entry(tmp_path: Path) -> None:
    adapters: dict[str, Adapter[Any]] = {
        "ready": Adapter("ready", Probe, {"go": Settings}, mutates=False, act=nothing),
        "needy": Adapter("needy", Needy, {"go": Settings}, mutates=False, act=nothing),
    }
    (tmp_path / "site.yaml").write_text(
        WORKFLOW % ("", "{name: a, use: ready, do: go}, {name: b, use: needy, do: go}", "")
    )
    configuration, faults = check(tmp_path, replace(CATALOGUE, adapters=adapters))
    assert configuration is None
    assert [fault.what for fault in faults] == ["no adapter is called 'needy', did you mean 'ready'?"]
