"""The gate: only what the orchestrator signed for this host's key is a command at all, and the host has its own say."""

from pathlib import Path
from typing import Any

import pytest

from agents.gate import Admitted, Gate, Refusal, untimely
from agents.registry import ACTIONS
from exhaust.broker.embedded import Embedded
from exhaust.clock import VirtualClock
from exhaust.errors import ForgeryError, MessageError
from exhaust.lifecycle.service import Station
from exhaust.messages import Command, Result
from exhaust.signing import Keys

NOW = 1_800_000_000.0
POLICY = "service.restart: {service: [shop]}\n"


@pytest.fixture
def station(tmp_path: Path) -> Station:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "policy.yaml").chmod(0o600)
    return Station("web-01", tmp_path, VirtualClock(NOW), Embedded(), Keys(tmp_path / "keys"))


@pytest.fixture
def gate(station: Station) -> Gate:
    return Gate(station, station.state / "policy.yaml", ACTIONS)


def command(station: Station, **changes: Any) -> Command:
    given: dict[str, Any] = {
        "id": "command-1", "time": NOW, "execution": "run", "task": "restart", "host": "web-01",
        "action": "service.restart", "params": {"service": "shop"},
        "audience": station.keys.signer("agent").fingerprint, "epoch": 1, "seq": 1,
        "expires": NOW + 60, "key": "key-1", "timeout": 30.0,
    }  # fmt: skip
    return Command(**(given | changes))


def test_a_command_that_the_orchestrator_signed_is_opened(station: Station, gate: Gate) -> None:
    sent = command(station)
    assert gate.open(station.keys.signer("orchestrator").seal(sent)) == sent


@pytest.mark.parametrize("role", ["agent", "activator"])
def test_a_command_of_any_other_signer_is_forged(station: Station, gate: Gate, role: str) -> None:
    with pytest.raises(ForgeryError):
        gate.open(station.keys.signer(role).seal(command(station)))


def test_what_is_no_command_is_refused_though_the_orchestrator_signed_it(station: Station, gate: Gate) -> None:
    result = Result(id="r", time=NOW, command="c", key="k", execution="e", host="web-01", state="failed")
    with pytest.raises(ForgeryError):
        gate.open(station.keys.signer("orchestrator").seal(result))


def test_no_flipped_bit_goes_unnoticed(station: Station, gate: Gate) -> None:
    sent = command(station)
    sealed = station.keys.signer("orchestrator").seal(sent)
    for place in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        try:
            opened = gate.open(bytes(changed))
        except MessageError:
            continue
        assert opened == sent  # only the name of the key, which nobody relies on, was changed


@pytest.mark.parametrize(
    ("changes", "what"), [({"audience": "0" * 64}, "audience"), ({"host": "web-02"}, "host"), ({"audience": ""}, "aud")]
)
def test_a_command_for_another_is_not_ours_to_answer(
    station: Station, gate: Gate, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(ForgeryError, match=what):
        gate.open(station.keys.signer("orchestrator").seal(command(station, **changes)))


def test_what_is_allowed_is_admitted_with_its_typed_parameters(station: Station, gate: Gate) -> None:
    admitted = gate.admit(command(station, params={"service": "shop", "stop_timeout": "2s"}))
    assert isinstance(admitted, Admitted)
    assert (admitted.params.service, admitted.params.stop_timeout) == ("shop", 2.0)


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"action": "service.reboot"}, "unknown_action", "known are"),
        ({"action": "service.stop"}, "policy", "'service.stop' is not in this host's policy"),
        ({"params": {"service": "database"}}, "policy", "'service'"),
        ({"params": {"service": "shop", "shell": "sh"}}, "params", "unknown key 'shell'"),
        ({"params": {}}, "params", "'service' is needed"),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_reason(
    station: Station, gate: Gate, changes: dict[str, Any], reason: str, detail: str
) -> None:
    refusal = gate.admit(command(station, **changes))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason
    assert detail in refusal.detail


def test_the_file_halt_refuses_everything_until_it_is_gone(station: Station, gate: Gate) -> None:
    (station.state / "HALT").touch()
    refusal = gate.admit(command(station))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "halted"
    (station.state / "HALT").unlink()
    assert isinstance(gate.admit(command(station)), Admitted)


def test_time_is_judged_with_five_seconds_of_allowance(station: Station) -> None:
    sent = command(station)
    assert [untimely(sent, NOW + after) is None for after in (-6, -5, 0, 65, 66)] == [False, True, True, True, False]
