"""The emitter of accounting beside the kernel's file and what dump-acct(8) reads there."""

import asyncio
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from emitters.accounting import EMITTER, Accounting, sources
from emitters.exits.switch import Switch, account, end_one, written
from tests.system.host_state import ROOT, alone, as_nobody, observing, run, trues

DUMP = shutil.which("dump-acct", path="/usr/sbin:/usr/bin")
FILES = [Path("/var/log/account/pacct"), Path("/var/account/pacct"), Path("/var/log/pacct")]
root = pytest.mark.skipif(not ROOT, reason="only root turns accounting on: what others are told is another test's")


@pytest.fixture
def off() -> Iterator[Path]:
    """A folder for an accounting file, while accounting is off and nobody else turns it on."""
    folder = Path(tempfile.mkdtemp(prefix="exhaust-", dir="/var/tmp"))
    with alone():
        found = written(FILES)
        account(None)
        try:
            yield folder
        finally:
            account(found)
            shutil.rmtree(folder)


@pytest.fixture
def pacct(off: Path) -> Path:
    """An accounting file to which the kernel writes while the test runs."""
    path = off / "pacct"
    path.touch(mode=0o600)
    account(path)
    return path


def dumped(path: Path) -> list[list[str]]:
    assert DUMP, "dump-acct is missing: apt-get install acct"
    text = subprocess.run([DUMP, str(path)], capture_output=True, text=True, check=True, env={"TZ": "UTC"}).stdout
    return [[column.strip() for column in line.split("|")] for line in text.splitlines()]


def as_dumped(fields: dict[str, Any]) -> list[str]:
    """Return a record's fields in the columns of dump-acct."""
    ticks = [fields[f"{name}_seconds"] * 100 for name in ("user", "system", "elapsed")]
    flags = [("superuser", "S"), ("forked", "F"), ("core_dumped", "D"), ("killed", "X")]
    return [
        fields["command"],
        f"v{fields['version']}",
        *(f"{one:.2f}" for one in ticks),
        str(fields["uid"]),
        str(fields["gid"]),
        f"{fields['memory_bytes'] / 1024:.2f}",
        f"{fields['io_characters']:.2f}",
        str(fields["pid"]),
        str(fields["ppid"]),
        "".join(mark for name, mark in flags if fields[name]),
        str(max(0, fields["exit"])),
        fields.get("tty", "__"),
        time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(fields["began"])),
    ]


def undumped(fields: dict[str, Any]) -> list[int]:
    """Return what dump-acct does not show."""
    return [fields[name] for name in ("io_blocks", "minor_faults", "major_faults", "swaps")]


def raw(path: Path, first: int, number: int) -> Iterator[list[int]]:
    data = path.read_bytes()[first:]
    for at in range(number):
        yield [(one & 0x1FFF) * 8 ** (one >> 13) for one in struct.unpack_from("=4H", data, 64 * at + 40)]


def plain(columns: list[str]) -> list[str]:
    return [*columns[:11], columns[11].replace(" ", ""), *columns[12:]]


@root
async def test_records_are_those_of_dump_acct_in_every_field_and_across_a_restart(pacct: Path) -> None:
    settings = Accounting(file=str(pacct), every=0.1)
    found: list[Any] = []
    end_one()
    async with observing(EMITTER, settings, {}) as told:
        await run("/bin/sh", "-c", "kill -9 $$")
        await told.until(lambda: told.of(exit=-9))
        found += told.records
    safe = found[len(found) // 2]  # what came after this one was not safe yet
    found = found[: found.index(safe) + 1]
    pids = [await run("/bin/sh", "-c", "(:); exit 3")]
    pids += [await run("/usr/bin/env", "sh", "-c", "head -c 50000000 /dev/zero | sha256sum >/dev/null")]
    async with observing(EMITTER, settings, dict([safe.position])) as told:
        last = await run("/bin/true")
        await told.until(lambda: told.of(pid=last))
        found += told.records
        account(None)
    first = found[0].position[1].offset - 64  # it began at the file's end
    rows = dumped(pacct)[first // 64 :]
    assert [as_dumped(one.fields) for one in found] == [plain(row) for row in rows[: len(found)]]
    ours = [one.fields["pid"] for one in found if one.fields["pid"] in {*pids, last}]
    assert ours == [*pids, last]
    assert [undumped(one.fields) for one in found] == list(raw(pacct, first, len(found)))


@root
async def test_all_of_a_thousand_ends_are_told_each_once_and_with_what_the_statistics_add(pacct: Path) -> None:
    async with observing(EMITTER, Accounting(file=str(pacct), every=0.2)) as told:
        began = time.process_time()
        shell = await run(*trues(1000))
        last = await run("/bin/true")
        await told.until(lambda: told.of(pid=last))
        used = time.process_time() - began
    found = told.of(ppid=shell, command="true")
    joined = sum("resident_peak_bytes" in one for one in found)
    print(f"1000 ends: {len(found)} told, {joined} with statistics, {1e6 * used / len(told.records):.0f} us each")
    assert len(found) == len({one["pid"] for one in found}) == 1000
    assert told.lost == 0
    assert joined >= 990


@root
async def test_rotation_loses_nothing_and_repeats_nothing_while_we_look_and_while_we_do_not(pacct: Path) -> None:
    """By rename as savelog(8) does it, thrice while nobody looks, and by a copy with truncation."""
    settings = Accounting(file=str(pacct), every=0.05, statistics=False)
    pids: list[int] = []

    async def some() -> None:
        pids.extend([await run("/bin/true") for _ in range(20)])

    def rotate() -> None:
        for number in (2, 1, 0):
            with suppress(FileNotFoundError):
                pacct.with_name(f"pacct.{number}").rename(pacct.with_name(f"pacct.{number + 1}"))
        pacct.rename(pacct.with_name("pacct.0"))
        pacct.touch()
        account(pacct)

    found: list[int] = []
    async with observing(EMITTER, settings) as told:
        await some()
        rotate()
        await some()
        await told.until(lambda: told.of(pid=pids[-1]))
        shutil.copy2(pacct, pacct.with_name("pacct.copy"))
        os.truncate(pacct, 0)
        await some()
        await told.until(lambda: told.of(pid=pids[-1]))
        found += [one.fields["pid"] for one in told.records]
        position = told.records[-1].position
    assert position is not None
    for _ in range(3):
        await some()
        rotate()
    await some()
    async with observing(EMITTER, settings, dict([position])) as told:
        await told.until(lambda: told.of(pid=pids[-1]))
        found += [one.fields["pid"] for one in told.records]
    assert [pid for pid in found if pid in set(pids)] == pids


@root
async def test_accounting_is_turned_on_where_it_was_off_and_off_again(off: Path) -> None:
    path = off / "deep" / "pacct"
    async with observing(EMITTER, Accounting(file=str(path), turn_on=True, every=0.1)) as told:
        assert written([path]) == path
        pid = await run("/bin/true")
        await told.until(lambda: told.of(pid=pid, source="pacct"))
    assert written([path]) is None


@root
def test_what_was_left_on_by_one_of_us_that_was_killed_is_turned_off_by_the_next(off: Path) -> None:
    path = off / "pacct"
    Switch(path).turn_on([])
    after = Switch(path)
    after.turn_on([])
    assert written([path]) == path
    after.turn_off()
    assert written([path]) is None


@root
async def test_what_is_on_is_left_on(pacct: Path) -> None:
    async with observing(EMITTER, Accounting(file=str(pacct), turn_on=True, every=0.1)) as told:
        pid = await run("/bin/true")
        await told.until(lambda: told.of(pid=pid, source="pacct"))
    assert written([pacct]) == pacct


@root
async def test_the_statistics_tell_while_the_file_is_not_written_and_the_file_once_it_is(pacct: Path) -> None:
    account(None)
    async with observing(EMITTER, Accounting(file=str(pacct), every=0.1)) as told:
        shell = await run("/bin/sh", "-c", "head -c 2000000 /dev/zero | cat >/dev/null; (exit 3)")
        await told.until(lambda: told.of(pid=shell))
        (head,) = told.of(ppid=shell, command="head")
        assert (head["source"], head["user"], head["exit"]) == ("taskstats", "root", 0)
        assert head["write_characters"] == 2_000_000 // 1024 * 1024
        account(pacct)
        pid = await run("/bin/true")
        await told.until(lambda: told.of(pid=pid, source="pacct"))
    assert [one["source"] for one in told.of(pid=pid)][-1] == "pacct"


async def test_an_ordinary_user_is_told_by_the_connector_where_the_kernel_does_so() -> None:
    found = as_nobody(
        """
import asyncio
from emitters.accounting import EMITTER, Accounting, sources
from tests.system.host_state import observing, run, trues
async def main():
    drop()
    why = sources()
    told_of, named, own = 0, 0, []
    if not why["connector"]:
        async with observing(EMITTER, Accounting(every=0.1, file="/nonexistent")) as told:
            shell = await run(*trues(300))
            await told.until(lambda: told.of(pid=shell))
            own = told.of(pid=shell)
            told_of, named = len(told.records), len(told.of(command="true"))
            assert not told.lost
    print(json.dumps({"why": why, "ends": told_of, "named": named, "own": own}))
asyncio.run(main())
"""
    )
    print(f"an ordinary user, 300 x /bin/true: {found['ends']} ends, {found['named']} with their name; {found['why']}")
    assert found["why"]["taskstats"] != ""
    if found["why"]["connector"] == "":
        assert found["ends"] >= 301
        assert found["named"] > 0
        assert found["own"][0]["exit"] == 0


def test_each_source_is_tried() -> None:
    with alone() if ROOT else nullcontext():
        found = sources()
        on = written(FILES) is not None
    assert list(found) == ["pacct", "taskstats", "connector"]
    if ROOT:
        assert (found["taskstats"], found["connector"]) == ("", "")
        assert bool(found["pacct"]) is not on


async def test_without_any_source_it_waits(tmp_path: Path) -> None:
    async with observing(EMITTER, Accounting(file=str(tmp_path / "none"), statistics=False)) as told:
        await asyncio.sleep(0.1)
    assert told.lost == 0
