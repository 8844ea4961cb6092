"""The host's own policy: what it allows, and that nothing is allowed where it cannot be relied on."""

import os
from pathlib import Path
from typing import Any

import pytest

from agents.command import Catalogued, Run
from agents.policy import PolicyFile, frequency, parse, untrusted
from agents.registry import ACTIONS
from agents.service import Stop

NARROW = "service.restart: {service: [shop, worker], rate: 10/m}\n"
CATALOGUE = """
command.run:
  commands:
    power-cycle: {argv: [/usr/local/sbin/power-cycle], args: {most: 2, one_of: [web-01, web-02]}}
    sync: {argv: [/bin/sync, --data]}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def limits(text: str, action: str) -> Any:
    found, faults = parse(text.encode(), "policy.yaml", ACTIONS)
    assert faults == []
    return found[action]


def test_an_action_that_is_only_named_has_no_limits() -> None:
    assert limits("service.stop: {}", "service.stop").forbids(Stop(service="anything")) is None


def test_a_service_that_is_not_listed_is_forbidden_by_its_parameter() -> None:
    allowed = limits(NARROW, "service.restart")
    assert allowed.forbids(Stop(service="worker")) is None
    assert allowed.forbids(Stop(service="database")) == "service"


@pytest.mark.parametrize(
    ("command", "args", "parameter"),
    [
        ("power-cycle", ("web-01",), None),
        ("power-cycle", ("web-01", "web-01", "web-02"), "args"),
        ("power-cycle", ("db-01",), "args"),
        ("sync", (), None),
        ("sync", ("now",), "args"),
        ("reboot", (), "command"),
    ],
)
def test_a_command_is_held_to_its_entry_in_the_catalogue(command: str, args: tuple[str, ...], parameter: str) -> None:
    assert limits(CATALOGUE, "command.run").forbids(Run(command=command, args=args)) == parameter


def test_a_catalogued_program_needs_an_absolute_path() -> None:
    with pytest.raises(ValueError, match="absolute"):
        Catalogued(argv=("reboot",))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("service.reboot: {}", "unknown action 'service.reboot'"),
        ("service.restart: {servce: [shop]}", "did you mean 'service'?"),
        ("service.restart: {rate: often}", "expected text that matches"),
        ("service.restart: [shop]", "expected a map"),
        ("command.run: {}", "'commands' is needed"),
        ("command.run: {commands: {x: {argv: [reboot]}}}", "absolute path"),
        ("- service.restart", "expected a map"),
        ("a: &x {}", "starts an anchor, which is refused"),
    ],
)
def test_one_fault_anywhere_and_nothing_is_allowed(tmp_path: Path, text: str, what: str) -> None:
    policy = PolicyFile(write(tmp_path / "policy.yaml", f"{text}\n"), ACTIONS).current()
    assert policy.limits == {}
    assert what in policy.fault


def test_nothing_is_allowed_without_a_policy(tmp_path: Path) -> None:
    assert PolicyFile(None, ACTIONS).current().fault.startswith("no host_policy")
    missing = PolicyFile(tmp_path / "none.yaml", ACTIONS).current()
    assert missing.limits == {}
    assert "cannot be read: No such file" in missing.fault


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_policy_that_others_may_write_allows_nothing(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "policy.yaml", NARROW)
    path.chmod(mode)
    policy = PolicyFile(path, ACTIONS).current()
    assert policy.limits == {}
    assert "can be written by others" in policy.fault


def test_a_policy_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    fields = list(write(tmp_path / "policy.yaml", NARROW).stat())
    assert untrusted(os.stat_result(fields)) is None
    fields[4] = os.getuid() + 1
    assert untrusted(os.stat_result(fields)) == f"belongs to uid {os.getuid() + 1}: chown it to root"


def test_a_policy_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "policy.yaml", NARROW)
    policy = PolicyFile(path, ACTIONS)
    first = policy.current()
    assert policy.current() is first
    write(tmp_path / "new.yaml", "service.stop: {}\n").replace(path)
    assert list(policy.current().limits) == ["service.stop"]
    path.unlink()
    assert policy.current().limits == {}
    write(path, NARROW)
    assert list(policy.current().limits) == ["service.restart"]


def test_status_says_why_nothing_is_allowed(tmp_path: Path) -> None:
    path = write(tmp_path / "policy.yaml", "service.reboot: {}\n")
    status = PolicyFile(path, ACTIONS).status()
    assert status["state"] == "faulty"
    assert status["fault"].startswith(f"{path}:1:1: unknown action")


def test_a_rate_is_a_number_of_starts_in_a_unit_of_time() -> None:
    assert frequency("10/m") == (10, 60.0)
    assert frequency("1/d") == (1, 86400.0)
