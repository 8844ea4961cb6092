"""What ansible may be asked for, what is kept of what it tells, and who may begin a run."""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from adapters.ansible import Ansible, Playbook, act
from adapters.ansible_events import Tail, encoded
from adapters.ansible_record import Order, Outcome, Record, prune
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.errors import AdapterError
from exhaust.plugins import Task
from exhaust.settings import INVALID, Context

NOW = 1_700_000_000.0


def task(do: str, host: str | None = None, **params: Any) -> Task:
    return Task("run", "renew", do, params, host, "k", NOW, 10.0)


@pytest.fixture
def settings(tmp_path: Path) -> Ansible:
    playbooks = {"renew": Playbook(file=tmp_path / "none.yml", vars=["certificate"])}
    return Ansible(playbooks=playbooks, modules=["ping"], inventory=tmp_path / "hosts", state=str(tmp_path))


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (task("playbook", playbook="reboot"), "playbook 'reboot' is not in the catalogue: there is renew"),
        (task("playbook", playbook="renew", vars={"x": 1}), "variable of 'renew' 'x' is not in the catalogue: there "),
        (task("playbook", playbook="renew", tags="x"), "'tags' is unknown to 'playbook'"),
        (task("playbook", playbook=5), "'playbook' cannot be done so: Expected `str`, got `int` - at `$.playbook`"),
        (task("playbook", playbook="renew"), "none.yml: there is no such file"),
        (task("playbook", "all", playbook="renew"), "'all' is no name of one host"),
        (task("playbook", "web-*", playbook="renew"), "'web-*' is no name of one host"),
        (task("playbook", "@/etc/hosts", playbook="renew"), "'@/etc/hosts' is no name of one host"),
        (task("playbook", "a,b", playbook="renew"), "'a,b' is no name of one host"),
        (task("module", "web-1", module="shell"), "module 'shell' is not in the catalogue: there is ping"),
        (task("module", module="ping"), "a module needs the host that it is to run on: give the task a 'host'"),
        (task("module", "web-1", module="ping", args={"_raw_params": "x"}), "'_raw_params' is no argument of a module"),
        (task("module", "web-1", module="ping", args={"{{ x }}": 1}), "'{{ x }}' is no argument of a module"),
    ],
)
async def test_what_the_catalogue_does_not_have_is_refused(settings: Ansible, asked: Task, why: str) -> None:
    with pytest.raises(AdapterError) as refused:
        await act(settings, asked)
    assert why in str(refused.value)
    assert not refused.value.retry


async def test_where_ansible_is_missing_the_task_says_what_to_install(
    settings: Ansible, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ansible_runner", None)
    with pytest.raises(AdapterError, match=r"ansible is not installed here: pip install 'exhaust-loop\[ansible\]'"):
        await act(settings, task("playbook", playbook="renew"))


def bound(text: str, faults: list[Any], file: str = "f.yaml") -> Any:
    document, found = compose(text.encode(), file)
    faults += found
    assert document is not None
    return bind(document, Ansible, "", faults, Context())


def test_files_lie_beside_the_configuration_unless_they_are_absolute() -> None:
    faults: list[Any] = []
    text = "playbooks: {a: {file: a.yml, vars: [x]}, b: {file: /srv/b.yml}}\ninventory: hosts"
    settings = bound(text, faults, "/etc/exhaust/site.yaml")
    assert faults == []
    assert [str(playbook.file) for playbook in settings.playbooks.values()] == ["/etc/exhaust/a.yml", "/srv/b.yml"]
    assert settings.inventory == Path("/etc/exhaust/hosts")


@pytest.mark.parametrize(
    "text",
    [
        "playbooks: {a: {file: a.yml, vars: [ansible_connection]}}",
        "playbooks: {a: {file: a.yml, vars: [a-b]}}",
        "playbooks: {a: {file: 5}}",
        "playbooks: {a: {vars: [x]}}",
        "modules: [../ping]",
        "python: python3",
    ],
)
def test_a_catalogue_that_cannot_be_is_refused(text: str) -> None:
    faults: list[Any] = []
    assert bound(text, faults) is INVALID
    assert len(faults) == 1


def told(name: str, result: Any, **more: Any) -> dict[str, Any]:
    data = {"host": "web-1", "task": "write", "res": result, **more}
    return {"event": name, "created": "2023-11-14T22:13:20+00:00", "event_data": data}


def test_an_event_tells_what_came_of_a_task_and_not_what_it_was_given() -> None:
    tail = Tail()
    tail.add(told("runner_on_ok", {"changed": True, "invocation": {"password": "x"}, "_ansible_no_log": False}))
    assert tail.events == [
        {"event": "runner_on_ok", "time": NOW, "host": "web-1", "task": "write", "result": {"changed": True}}
    ]


def test_the_last_events_are_kept_up_to_a_limit() -> None:
    tail = Tail()
    for number in range(200):
        tail.add(told("runner_on_ok", {"number": number, "stdout": "é" * 100_000}))
    tail.add(told("runner_on_ok", {"msg": "large", "items": ["x" * 1000] * 50}))
    assert 30_000 < len(encoded(tail.events)) <= 65_536
    assert [event["result"].get("number") for event in tail.events[-3:]] == [198, 199, None]
    assert tail.events[-1]["result"] == {"msg": "large", "cut": True}


def test_the_reason_is_the_last_failure_that_counts() -> None:
    tail = Tail()
    tail.add({"event": "verbose", "stdout": "[ERROR]: no such playbook"})
    assert tail.reason == "[ERROR]: no such playbook"
    tail.add(told("runner_on_failed", {"msg": "first"}))
    tail.add(told("runner_on_failed", {"msg": "does not matter"}, ignore_errors=True))
    assert tail.reason == "'write' on web-1: first"


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), "\ud800", {1: b"x"}, Path("/x")])
def test_what_ansible_tells_is_json_for_every_reader(value: Any) -> None:
    msgspec.json.decode(encoded({"value": value}))


def record(folder: Path, name: str = "k") -> Record:
    made = Record(folder / "ansible" / name)
    made.prepare(Order({"a": "b"}, NOW, playbook="/p.yml"))
    return made


def test_only_one_process_begins(tmp_path: Path) -> None:
    one = record(tmp_path)
    assert one.look() is None
    assert one.begin()
    assert not one.begin()
    with pytest.raises(AdapterError, match="begun before, and its end is unknown"):
        one.look()  # this process is alive, but does not bear the mark of the run


def test_of_what_has_ended_only_the_outcome_is_kept(tmp_path: Path) -> None:
    one = record(tmp_path)
    one.begin()
    one.run.mkdir()
    one.end(msgspec.json.encode(Outcome("successful", 0)), tidy=True)
    assert one.look() == Outcome("successful", 0)
    assert sorted(file.name for file in one.folder.iterdir()) == ["begun.json", "outcome.json"]


def test_an_outcome_that_cannot_be_read_is_an_unknown_one(tmp_path: Path) -> None:
    one = record(tmp_path)
    one.begin()
    one.end(b'{"status": "succ', tidy=True)
    with pytest.raises(AdapterError, match="its end is unknown"):
        one.look()


def test_records_are_dropped_after_a_day(tmp_path: Path) -> None:
    for name, age in {"new": 23 * 3600, "old": 25 * 3600}.items():
        os.utime(record(tmp_path, name).folder, (NOW - age, NOW - age))
    prune(tmp_path / "ansible", NOW)
    assert [folder.name for folder in (tmp_path / "ansible").iterdir()] == ["new"]
