"""The emitter of services where systemd keeps them: a program of ours stands for systemctl, its processes are real.

The machines that run the tests have no systemd; what it would print is written down here, as `systemctl show` does it.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from emitters.keepers.systemd import PROPERTIES, Systemctl, parse, why_not
from emitters.service import STATE, Entry, Services, emit
from exhaust.clock import VirtualClock
from exhaust.errors import UnreachableError
from exhaust.plugins import Record
from exhaust.processes import Process, find

PATIENCE = 20.0
# Prints what lies beside it under each unit's name, as systemctl does: an empty line between.
STAND_IN = """#!/bin/sh
cd "$(dirname "$0")" || exit 9
[ -e broken ] && { cat broken >&2; exit 1; }
echo "$@" >> asked
while [ "$1" != -- ]; do shift; done
shift
first=yes
for unit; do
    [ -n "$first" ] || echo
    first=
    if [ -e "$unit" ]; then cat "$unit"; else echo LoadState=not-found; echo ActiveState=inactive; fi
done
"""
RUNNING = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Result": "success"}
COUNTED = {"NRestarts": 2, "MemoryCurrent": 5_000_000, "TasksCurrent": 3, "ExecMainCode": 0, "ExecMainStatus": 0}


class Units:
    """What the stand-in says of units, and processes to be theirs."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.folder = folder
        self._opened = opened
        (folder / "systemctl").write_text(STAND_IN)
        (folder / "systemctl").chmod(0o755)

    def say(self, unit: str, **said: Any) -> None:
        text = "".join(f"{name}={value}\n" for name, value in said.items())
        draft = self.folder / f"{unit}.new"
        draft.write_text(text)
        draft.replace(self.folder / unit)

    def run(self, unit: str) -> Process:
        """Start a process, and say that it is the unit's."""
        child = self._opened.enter_context(subprocess.Popen(["/usr/bin/sleep", "1000"]))
        self._opened.callback(child.kill)
        process = find(child.pid)
        assert process is not None
        self.say(unit, **RUNNING, **COUNTED, MainPID=child.pid)
        return process

    def break_down(self, error: str) -> None:
        (self.folder / "broken").write_text(error)

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Units]:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with ExitStack() as opened:
        yield Units(tmp_path, opened)


Next = Callable[[], Any]


@asynccontextmanager
async def observed(*names: str, clock: VirtualClock | None = None, **rest: Any) -> AsyncIterator[Next]:
    entries = tuple(Entry(name=name, provider="systemd", **rest) for name in names)
    records = cast("AsyncGenerator[Record]", emit(Services(services=entries), clock or VirtualClock(), {}))

    async def following() -> Record:
        async with asyncio.timeout(PATIENCE):
            record = await anext(records)
        assert set(record.fields) <= set(STATE)
        return record

    async with aclosing(records):
        yield following


async def test_a_unit_that_runs_is_told_with_its_process_and_what_systemd_counts(units: Units) -> None:
    process = units.run("web.service")
    async with observed("web.service") as following:
        record = await following()
    told = record.fields
    assert (told["provider"], told["state"], told["pid"], told["started"]) == (
        "systemd", "running", process.pid, process.started,
    )  # fmt: skip
    assert (told["active_state"], told["sub_state"], told["result"]) == ("active", "running", "success")
    assert (told["unit_restarts"], told["unit_memory_bytes"], told["unit_tasks"]) == (2, 5_000_000, 3)
    assert told["memory_bytes"] > 0


async def test_a_death_is_told_at_once_and_how_it_ended_when_systemd_says_so(units: Units) -> None:
    process, clock = units.run("web"), VirtualClock()
    async with observed("web", clock=clock) as following:
        await following()
        failed = RUNNING | {"ActiveState": "failed", "SubState": "failed", "Result": "signal"}
        units.say("web", **failed, MainPID=0, ExecMainCode=2, ExecMainStatus=9, NRestarts=0)
        os.kill(process.pid, 9)
        death = await following()
        clock.advance(10)
        while (beat := await following()).fields["state"] != "failed":
            clock.advance(10)
    assert (death.fields["state"], death.urgent) == ("gone", True)
    assert (beat.fields["exit"], beat.fields["reason"]) == (-9, "signal")


async def test_another_process_of_the_unit_is_told_as_a_restart(units: Units) -> None:
    process = units.run("web")
    async with observed("web") as following:
        await following()
        other = units.run("web")
        os.kill(process.pid, 9)
        while (record := await following()).fields["state"] != "running":
            pass
    assert (record.fields["pid"], record.fields["restarts"], record.urgent) == (other.pid, 1, True)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"ActiveState": "inactive", "SubState": "dead"}, "stopped"),
        ({"ActiveState": "active", "SubState": "exited"}, "stopped"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}, "failed"),
        ({"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}, "failed"),
        ({"ActiveState": "active", "SubState": "running"}, "running"),
        ({"ActiveState": "active", "SubState": "listening"}, "running"),
    ],
)
async def test_a_unit_without_a_process_is_what_systemd_says(units: Units, said: dict[str, str], state: str) -> None:
    units.say("one", LoadState="loaded", **{"Result": "success"} | said, MainPID=0)
    async with observed("one") as following:
        assert (await following()).fields["state"] == state


async def test_all_units_are_asked_of_at_once_and_one_that_is_not_known_has_a_reason(units: Units) -> None:
    units.say("one", LoadState="loaded", ActiveState="inactive", SubState="dead", Result="success", MainPID=0)
    async with observed("one", "two") as following:
        found = {record.fields["service"]: record.fields for record in (await following(), await following())}
    assert found["one"]["state"] == "stopped"
    assert ("state" in found["two"], found["two"]["reason"]) == (False, "systemd knows no such unit")
    assert units.asked == [f"show --property={','.join(PROPERTIES)} --no-pager -- one two"]


async def test_while_systemctl_fails_a_process_that_lives_is_running_all_the_same(units: Units) -> None:
    clock = VirtualClock()
    units.run("web")
    async with observed("web", clock=clock) as following:
        await following()
        units.break_down("Failed to connect to bus: Host is down")
        clock.advance(10)
        record = await following()
    assert record.fields["state"] == "running"
    assert record.fields["reason"] == "Failed to connect to bus: Host is down"


async def test_without_systemctl_there_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnreachableError, match="systemctl cannot be run: No such file or directory"):
        await Systemctl().infos(["web"])
    assert why_not(tmp_path) == "there is no systemctl"


def test_what_systemd_does_not_count_is_left_out() -> None:
    (shown,) = parse("ActiveState=active\nMainPID=0\nMemoryCurrent=[not set]\nTasksCurrent=18446744073709551615\n")
    assert shown.details == {"active_state": "active"}
