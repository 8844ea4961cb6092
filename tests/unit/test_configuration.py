"""The configuration as a whole: several files, paths, and what is not built yet."""

from pathlib import Path
from typing import Any

import pytest

from activator.rules import Guard, Notice, Rule
from analyzers.condition import ConditionSettings
from exhaust.broker.url import BrokerUrl
from exhaust.configuration import Configuration, Http, check, load, reach
from exhaust.errors import ConfigurationError
from exhaust.inventory import expand
from exhaust.main import CATALOGUE
from exhaust.sections import PLANNED
from orchestrator.inputs import Input
from orchestrator.workflows import TaskSpec, Verify, Workflow

GOLDEN = Path(__file__).parent.parent / "golden" / "configuration"

ANALYZER = "{use: condition, fact: down, on: service.state, when: record.wanted, %s}"
RULE = "{name: r, on: down, run: w, %s}"
WORKFLOW = "{name: w, %s, tasks: []}"
TASK = "{name: w, tasks: [{name: t, use: agent, do: service.restart, with: {service: a}, %s}]}"


def told(path: Path) -> str:
    return "".join(
        f"{fault.severity}: {str(fault).removeprefix(str(path)).removeprefix('/')}\n"
        for fault in check(path, CATALOGUE)[1]
    )


def written(folder: Path, *texts: str) -> Path:
    for number, text in enumerate(texts):
        (folder / f"{number}.yaml").write_text(text)
    return folder


def loaded(folder: Path, *texts: str) -> Configuration:
    return load(written(folder, *texts), CATALOGUE)


def test_what_is_sound_loads(tmp_path: Path) -> None:
    sound = loaded(tmp_path, (GOLDEN / "sound.yaml").read_text())
    assert sound.embedded
    assert [rule.value.name for rule in sound.rules] == ["restart-dead-service"]
    assert {"agent", "oncall"} <= set(sound.adapters)
    assert len(sound.inventory.hosts) == 5


def test_what_has_an_error_does_not_load_and_tells_errors_alone(tmp_path: Path) -> None:
    broken = "rules: [{name: r, on: nothing, run: nothing}]"
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, broken)
    assert [fault.what for fault in caught.value.faults] == ["no workflow is called 'nothing'"]  # type: ignore[attr-defined]


def test_several_files_are_one_configuration(tmp_path: Path) -> None:
    one = "host: here\nlists: {a: [1]}\nhosts: [{name: here}]"
    other = "lists: {b: [2]}\nhosts: [{name: there, labels: {role: web}}]"
    both = loaded(tmp_path, one, other)
    assert both.host == "here"
    assert both.lists == {"a": [1], "b": [2]}
    assert both.inventory.hosts == {"here": {}, "there": {"role": "web"}}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("host: a", "'host' is given a second time"),
        ("lists: {a: [1]}", "list 'a' is given a second time"),
        ("hosts: [{name: h-02}]", "host 'h-02' is given a second time"),
        ("workflows: [{name: w, tasks: []}]", "'w' is defined twice"),
        ("adapters: [{name: oncall, use: notify, url: 'log:'}]", "'oncall' is defined twice"),
        ("analyzers: [" + ANALYZER % "severity: error" + "]", "'condition/down' is defined twice"),
    ],
)
def test_what_two_files_both_say_is_a_fault_of_the_second(tmp_path: Path, text: str, fault: str) -> None:
    first = (
        "host: a\nlists: {a: [1]}\nhosts: [{name: 'h-[01:03]'}]\nworkflows: [{name: w, tasks: []}]\n"
        "adapters: [{name: oncall, use: notify, url: 'log:'}]\nanalyzers: [" + ANALYZER % "keep: 1s" + "]\n"
    )
    assert "error: 1.yaml:1:" in told(written(tmp_path, first, text))
    assert fault in told(tmp_path)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("web", ["web"]),
        ("web-[01:03]", ["web-01", "web-02", "web-03"]),
        ("[8:10]", ["8", "9", "10"]),
        ("r[1:2]-[1:2].x", ["r1-1.x", "r1-2.x", "r2-1.x", "r2-2.x"]),
        ("web-[1:1]", ["web-1"]),
        ("web-[a:b]", ["web-[a:b]"]),
    ],
)
def test_a_range_stands_for_its_hosts(name: str, names: list[str]) -> None:
    assert list(expand(name)) == names


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("''", "a length of at least 1"),
        ("'w[5:1]'", "[5:1] ends before it begins"),
        ("'w[1:10001]'", "stands for 10001 hosts"),
        ("'w[1:200][1:200]'", "stands for 40000 hosts"),
        ("'w[0:999999999][0:999999999]'", "hosts, there can be 10000"),
    ],
)
def test_a_range_that_stands_for_no_hosts_or_too_many_is_a_fault(tmp_path: Path, name: str, fault: str) -> None:
    assert fault in told(written(tmp_path, f"hosts: [{{name: {name}}}]"))


def test_there_are_only_so_many_hosts_in_all(tmp_path: Path) -> None:
    text = "hosts: [{name: 'a[1:6000]'}, {name: 'b[1:6000]'}]"
    assert "there can be 10000 hosts, not more (at hosts[1].name)" in told(written(tmp_path, text))


def test_without_an_inventory_this_host_alone_is_known(tmp_path: Path) -> None:
    inventory = loaded(tmp_path, "host: here").inventory
    assert inventory.variable("here") == {"name": "here", "labels": {}, "known": True}
    assert inventory.variable("there") == {"name": "there", "labels": {}, "known": False}


@pytest.mark.parametrize("as_file", [False, True])
def test_paths_are_relative_to_the_configuration(tmp_path: Path, as_file: bool) -> None:
    text = "state: here\nhost_policy: policy.yaml\nbroker: {url: 'amqp://u@h/', password_file: secret}"
    (tmp_path / "secret").write_text("pass\n")
    written(tmp_path, text)
    found = load(tmp_path / "0.yaml" if as_file else tmp_path, CATALOGUE)
    assert found.state == tmp_path / "here"
    assert found.host_policy == tmp_path / "policy.yaml"
    assert found.broker == "amqp://u:pass@h/"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    found = loaded(tmp_path, "state: /srv/exhaust\nhost_policy: /etc/policy.yaml")
    assert (found.state, found.host_policy) == (Path("/srv/exhaust"), Path("/etc/policy.yaml"))
    assert loaded(tmp_path, "host: h").state == Path("/var/lib/exhaust")


@pytest.mark.parametrize(
    ("url", "password", "whole"),
    [
        ("amqp://u@h:5672/v", "hunter2", "amqp://u:hunter2@h:5672/v"),
        ("amqps://u:old@h/v", "new", "amqps://u:new@h/v"),
        ("amqp://u@h/", "a/b@c:d%\\1 é", "amqp://u:a%2Fb%40c%3Ad%25%5C1%20%C3%A9@h/"),
    ],
)
def test_the_password_of_the_broker_comes_from_its_file(tmp_path: Path, url: str, password: str, whole: str) -> None:
    (tmp_path / "secret").write_text(f"{password}\n")
    found = loaded(tmp_path, f"broker: {{url: '{url}', password_file: secret}}")
    assert found.broker == whole
    assert password not in repr(found)


def test_check_opens_no_secrets_and_load_says_which_it_cannot(tmp_path: Path) -> None:
    text = "broker: {url: 'amqp://u@h/', password_file: secret}"
    assert told(written(tmp_path, text)) == ""
    with pytest.raises(ConfigurationError, match="secret: the broker's password cannot be read: No such file"):
        load(tmp_path, CATALOGUE)


@pytest.mark.parametrize("broker", ["embeded", "http://h", "amqp://", "'amqp://u:hunter2@h x'", "5", "{url: embedd}"])
def test_a_broker_that_is_none_is_refused_without_repeating_its_password(tmp_path: Path, broker: str) -> None:
    said = told(written(tmp_path, f"broker: {broker}"))
    assert "expected embedded, or a URL such as amqp://user@host" in said
    assert "hunter2" not in said


def test_a_password_needs_its_user(tmp_path: Path) -> None:
    said = told(written(tmp_path, "broker: {url: 'amqp://h/', password_file: secret}"))
    assert "'password_file' needs a user in 'url'" in said


def planned() -> list[str]:
    """Write a file for each key that a type of settings says is to come."""
    places: dict[Any, str] = {
        ConditionSettings: f"analyzers: [{ANALYZER}]",
        Rule: f"rules: [{RULE}]",
        Guard: f"rules: [{RULE % 'guard: {%s}'}]",
        Notice: f"rules: [{RULE % 'notify: {to: a, text: b, %s}'}]",
        Workflow: f"workflows: [{WORKFLOW}]",
        Input: f"workflows: [{WORKFLOW % 'inputs: {i: {type: int, %s}}'}]",
        TaskSpec: f"workflows: [{TASK}]",
        Verify: f"workflows: [{WORKFLOW % 'verify: {closes: cause, %s}'}]",
        Http: "http: {%s}",
        BrokerUrl: "broker: {url: embedded, %s}",
    }
    inner = [text % f"{key}: x" for type_, text in places.items() for key in sorted(type_.planned)]
    return [f"{key}: x" for key in sorted(PLANNED)] + inner


@pytest.mark.parametrize("text", planned())
def test_what_the_language_has_and_this_version_has_not_is_said_to_be_not_built_yet(tmp_path: Path, text: str) -> None:
    faults = check(written(tmp_path, text), CATALOGUE)[1]
    assert [fault.what for fault in faults if "is not built yet" in fault.what], faults
    assert not [fault for fault in faults if "unknown key" in fault.what]


def test_an_analyzer_without_a_name_is_called_after_its_fact(tmp_path: Path) -> None:
    two = f"analyzers: [{ANALYZER % 'name: a'}, {ANALYZER % 'name: b'}]"
    assert told(written(tmp_path, two)) == ""


def test_who_wants_to_halt_a_running_system_is_not_hindered_by_faults_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("state: here\nhttp: {listen: '127.0.0.1:7777'}\n")
    (tmp_path / "rules.yaml").write_text("rules: [{name: a, on: b, run: c}\n  'no YAML\n")
    assert reach(tmp_path) == (tmp_path / "here", "127.0.0.1:7777")


def test_where_the_system_is_cannot_be_guessed_from_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("state: here\nhttp: {listen: 'everywhere\n")
    with pytest.raises(ConfigurationError, match=r"site.yaml"):
        reach(tmp_path)


@pytest.mark.parametrize("listen", ["0.0.0.0:8640", "10.0.0.1:80", "8640", "web:80", "127.0.0.1:x", "127.0.0.1:70000"])
def test_only_addresses_of_this_very_host_are_listened_on(tmp_path: Path, listen: str) -> None:
    (tmp_path / "site.yaml").write_text(f"http: {{listen: '{listen}'}}\n")
    with pytest.raises(ConfigurationError, match="expected an address of this very host"):
        load(tmp_path, CATALOGUE)


def test_where_to_listen_is_an_address_and_a_port() -> None:
    listens = ("127.0.0.1:8640", "localhost:1", "[::1]:0")
    assert [Http(listen=one).address for one in listens] == [("127.0.0.1", 8640), ("127.0.0.1", 1), ("::1", 0)]
