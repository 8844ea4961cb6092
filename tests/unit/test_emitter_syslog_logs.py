"""What the emitter of syslog reads of logs that are kept: systemd's journal and the kernel's own."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.listening.intake import Intake
from emitters.listening.journal import entry_of
from emitters.listening.kernel_log import KernelLog, line_of
from emitters.syslog import MESSAGE
from exhaust.clock import SystemClock
from exhaust.plugins import Lost, Record
from tests.unit.syslog_hearing import EXAMPLES, hearing

ENTRY = {
    "__CURSOR": "s=1;i=2a;b=3",
    "__REALTIME_TIMESTAMP": "1795354477065833",
    "__MONOTONIC_TIMESTAMP": "123",
    "_BOOT_ID": "3",
    "_HOSTNAME": "web-1",
    "PRIORITY": "3",
    "SYSLOG_FACILITY": "10",
    "SYSLOG_IDENTIFIER": "sshd",
    "SYSLOG_PID": "312",
    "_PID": "313",
    "_UID": "0",
    "_GID": "0",
    "_COMM": "sshd",
    "_SYSTEMD_UNIT": "ssh.service",
    "_TRANSPORT": "syslog",
    "MESSAGE": "Failed password",
}
# As the program prints what it has: all after the cursor (and, as some versions do, that entry again), then it follows.
JOURNALCTL = """#!/bin/sh
echo "$@" >> {folder}/asked
if rm {folder}/broken 2>/dev/null; then echo "Failed to seek to cursor: Invalid argument" >&2; exit 1; fi
cursor=
for word in "$@"; do case "$word" in --after-cursor=*) cursor="${word#--after-cursor=}";; esac; done
if [ -n "$cursor" ]; then grep -F -A 1000 "\\"$cursor\\"" {folder}/entries; else cat {folder}/entries; fi
[ -e {folder}/stays ] && exec sleep 1000
echo "it crashed" >&2
exit 3
"""


class Journalctl:
    """A program of that name that a test puts before the real one, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "journalctl"
        program.write_text(JOURNALCTL.replace("{folder}", str(folder)))
        program.chmod(0o755)
        self.write()

    def write(self, *entries: dict[str, Any] | str) -> None:
        lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
        (self.folder / "new").write_text("".join(f"{line}\n" for line in lines))
        (self.folder / "new").rename(self.folder / "entries")

    def stay(self) -> None:
        (self.folder / "stays").touch()

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journalctl:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Journalctl(tmp_path)


def entry(number: int, **more: Any) -> dict[str, Any]:
    return {**ENTRY, "__CURSOR": f"c{number}", "MESSAGE": f"line {number}", **more}


def test_an_entry_becomes_a_record_with_what_journald_knows_of_the_sender() -> None:
    found = entry_of(json.dumps(ENTRY).encode())
    assert (found.cursor, found.time, found.kernel) == ("s=1;i=2a;b=3", 1795354477.065833, False)
    assert found.fields == {
        "facility": "authpriv",
        "severity": "err",
        "facility_code": 10,
        "severity_code": 3,
        "hostname": "web-1",
        "app_name": "sshd",
        "proc_id": "312",
        "structured_data": {
            "journal": {"_SYSTEMD_UNIT": "ssh.service", "_COMM": "sshd", "_TRANSPORT": "syslog", "_BOOT_ID": "3"}
        },
        "peer_pid": 313,
        "peer_uid": 0,
        "peer_gid": 0,
        "message": "Failed password",
    }


@pytest.mark.parametrize(
    ("message", "text"),
    [([104, 105, 0, 255], "hi\0\\xff"), (["a", [98]], "a\nb"), (None, ""), ("x" * 40000, "x" * 32768), ([], "")],
)
def test_messages_in_all_forms_that_a_journal_has_are_text(message: Any, text: str) -> None:
    found = entry_of(json.dumps({**ENTRY, "MESSAGE": message}).encode())
    assert (found.fields["message"], found.fields.get("cut", False)) == (text, message == "x" * 40000)


VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=20), st.lists(st.integers(-1, 256), max_size=5))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.one_of(st.binary(max_size=100), st.dictionaries(st.sampled_from([*ENTRY]), VALUES)))
def test_an_entry_is_read_or_refused_as_such(given_: bytes | dict[str, Any]) -> None:
    line = given_ if isinstance(given_, bytes) else json.dumps({**ENTRY, **given_}).encode()
    try:
        found = entry_of(line)
    except ValueError:
        return
    assert set(found.fields) <= set(MESSAGE)
    assert found.cursor == json.loads(line)["__CURSOR"]


async def test_a_journalctl_that_dies_is_asked_again_after_the_last_cursor(journalctl: Journalctl) -> None:
    journalctl.write(entry(1), entry(2))
    async with hearing(journal=True) as heard:
        await heard.until(lambda: len(heard.records) == 2)
        assert heard.records[1].position == ("journal", "c2")
        journalctl.write(entry(1), entry(2), entry(3))
        await heard.until(lambda: len(heard.records) == 3)
    assert [record.fields["message"] for record in heard.records] == ["line 1", "line 2", "line 3"]
    assert {record.fields["transport"] for record in heard.records} == {"journal"}
    assert "--since=@" in journalctl.asked[0]
    assert journalctl.asked[-1].endswith("--after-cursor=c2")


async def test_it_goes_on_from_the_position_that_is_safe(journalctl: Journalctl) -> None:
    journalctl.stay()
    journalctl.write(entry(1), entry(2), entry(3))
    async with hearing({"journal": "c2"}, journal=True) as heard:
        (found,) = await heard.fields()
    assert found["message"] == "line 3"


async def test_what_cannot_be_read_of_a_journal_is_counted(journalctl: Journalctl) -> None:
    journalctl.stay()
    journalctl.write("{", json.dumps(entry(1, MESSAGE="x" * (1 << 20))), entry(2))
    async with hearing(journal=True) as heard:
        (found,) = await heard.fields()
    assert found["message"] == "line 2"
    assert heard.lost == [Lost("unusable", 1), Lost("too_big", 1)]


async def test_a_cursor_that_is_of_no_use_is_given_up(journalctl: Journalctl) -> None:
    (journalctl.folder / "broken").touch()  # once
    journalctl.stay()
    journalctl.write(entry(1))
    async with hearing({"journal": "gone"}, journal=True) as heard:
        assert (await heard.fields())[0]["message"] == "line 1"
    assert "--since=@" in journalctl.asked[1]


def test_a_record_of_the_kernel_is_read_with_its_device() -> None:
    found = line_of(b"6,339,5140900,-;NET: Registered\\x1b family\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0\n")
    assert (found.number, found.uptime) == (339, 5.1409)
    assert found.fields == {
        "facility": "kern",
        "severity": "info",
        "facility_code": 0,
        "severity_code": 6,
        "app_name": "kernel",
        "message": "NET: Registered\\x1b family",
        "structured_data": {"kernel": {"SUBSYSTEM": "pci", "DEVICE": "+pci:0000:00:01.0"}},
    }


def test_what_a_program_wrote_to_the_kernels_log_is_told_as_the_programs() -> None:
    found = line_of(b"30,340,1,-,caller=T1;systemd[1]: Started; all is well\n").fields
    assert (found["app_name"], found["proc_id"], found["facility"]) == ("systemd", "1", "daemon")
    assert found["message"] == "Started; all is well"


@pytest.mark.parametrize("data", [b"", b"x;y", b"6,339;z", b"6,a,1,-;z", b"\xff"])
def test_what_is_no_record_of_the_kernel_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        line_of(data)


class Reading:
    """A reader of the kernel's log that a test gives records to."""

    def __init__(self, position: Any, boot: str = "b1") -> None:
        self.intake = Intake()
        positions = {} if position is None else {"kmsg": position}
        self.log = KernelLog(positions, self.intake, SystemClock(), path="/dev/null", boot=boot)

    def takes(self, *numbers: int) -> list[Any]:
        for number in numbers:
            self.log._take(b"6,%d,1000000,-;line %d\n" % (number, number))
        found = []
        while (item := self.intake.take()) is not None:
            found.append(item.position if isinstance(item, Record) else item)
        return found


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (None, [("kmsg", ["b1", 7]), ("kmsg", ["b1", 8])]),
        (["b1", 7], [("kmsg", ["b1", 8])]),
        (["b1", 4], [Lost("kernel", 2), ("kmsg", ["b1", 7]), ("kmsg", ["b1", 8])]),
        (["b0", 900], [Lost("kernel", 7), ("kmsg", ["b1", 7]), ("kmsg", ["b1", 8])]),
    ],
)
async def test_the_kernels_log_is_read_on_and_what_it_has_overwritten_is_counted(
    position: Any, expected: list[Any]
) -> None:
    assert Reading(position).takes(7, 8) == expected
