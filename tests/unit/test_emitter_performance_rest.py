"""Temperatures, control groups, sessions, users, folders and the computer itself: recorded, and on this host."""

import asyncio
import os
import pwd
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from emitters.measures import sessions, temperatures
from emitters.measures.census import Census
from emitters.measures.cgroups import limits
from emitters.measures.computer import COMPUTER, EVERY, Computer, model
from emitters.measures.folders import FOLDER, Count, Folders
from emitters.measures.proc import Proc
from emitters.measures.sessions import Session
from emitters.measures.temperatures import TEMPERATURE
from emitters.measures.usage import USER, Usage
from emitters.measures.users import Users

WITHIN = 10.0


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_sensors_of_chips_are_told_with_their_limits(tmp_path: Path) -> None:
    chip = {"name": "coretemp", "temp1_input": "45500", "temp1_label": "Package id 0", "temp1_max": "80000"}
    chip |= {"temp1_crit": "100000", "temp2_input": "81000", "temp2_max": "80000", "temp3_input": "no"}
    chip |= {"temp4_input": "50000", "temp4_crit_alarm": "1"}
    root = write(tmp_path, {f"hwmon/hwmon0/{name}": text for name, text in chip.items()})
    found = temperatures.read(root)
    assert found[0] == {
        "sensor": "coretemp/Package id 0",
        "celsius": 45.5,
        "high_celsius": 80.0,
        "critical_celsius": 100.0,
        "alarm": "no",
    }
    assert set(found[0]) == set(TEMPERATURE)
    assert [(one["sensor"], one["alarm"]) for one in found[1:]] == [
        ("coretemp/temp2", "high"),
        ("coretemp/temp4", "critical"),
    ]
    assert temperatures.why_not(root) == ""


def test_zones_are_told_where_there_is_no_chip(tmp_path: Path) -> None:
    zone = {"type": "soc", "temp": "99000", "trip_point_0_type": "critical", "trip_point_0_temp": "95000"}
    root = write(tmp_path, {f"thermal/thermal_zone0/{name}": text for name, text in zone.items()})
    (told,) = temperatures.read(root)
    assert told == {"sensor": "thermal_zone0/soc", "celsius": 99.0, "critical_celsius": 95.0, "alarm": "critical"}


def test_a_host_without_sensors_says_so(tmp_path: Path) -> None:
    assert temperatures.read(tmp_path) == []
    assert temperatures.why_not(tmp_path) == "this host shows no sensors"


def test_limits_of_version_2_are_the_tightest_on_the_way_up(tmp_path: Path) -> None:
    write(tmp_path, {"self/cgroup": "0::/a/b", "self/mountinfo": "1 0 0:1 / /cg rw - cgroup2 cgroup2 rw"})
    write(tmp_path, {"cg/a/cpu.max": "150000 100000", "cg/a/b/cpu.max": "max 100000", "cg/a/memory.max": "max"})
    write(tmp_path, {"cg/a/b/memory.max": "1048576"})
    assert limits(tmp_path / "self", tmp_path) == {"version": 2, "cpus": 1.5, "memory": 1048576}


def test_limits_of_version_1_are_found_below_what_a_container_sees(tmp_path: Path) -> None:
    mounts = "1 0 0:1 /docker/x /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    mounts += "2 0 0:2 /docker/x /cg/memory rw - cgroup cgroup rw,memory\n3 0 0:3 / /cg/unified rw - cgroup2 c rw"
    groups = "9:name=systemd:/\n4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n0::/"
    write(tmp_path, {"self/cgroup": groups, "self/mountinfo": mounts})
    write(tmp_path, {"cg/cpu,cpuacct/cpu.cfs_quota_us": "50000", "cg/cpu,cpuacct/cpu.cfs_period_us": "100000"})
    write(tmp_path, {"cg/memory/memory.limit_in_bytes": "9223372036854771712"})
    assert limits(tmp_path / "self", tmp_path) == {"version": 1, "cpus": 0.5}


def test_no_control_groups_have_no_limits(tmp_path: Path) -> None:
    assert limits(tmp_path, tmp_path) == {}


def test_sessions_are_those_that_logind_keeps(tmp_path: Path) -> None:
    mine = "UID=1000\nUSER=ann\nCLASS=user\nSTATE=active\nTTY=pts/0\nREMOTE_HOST=192.0.2.9\nREALTIME=1700000000500000"
    greeter = "UID=100\nUSER=gdm\nCLASS=greeter\nSTATE=active"
    write(tmp_path, {"1": mine, "c1": greeter, "2": mine.replace("active", "closing"), "1.ref": ""})
    assert sessions.sessions(tmp_path, []) == [
        Session("ann", {"terminal": "pts/0", "from": "192.0.2.9", "since": 1700000000.5})
    ]
    assert sessions.sessions(tmp_path / "none", []) is None
    assert sessions.why_not(tmp_path / "none", []) != ""


async def test_what_a_users_processes_use_is_summed_and_logins_are_added(opened: ExitStack) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    there = [Session(me, {"terminal": "pts/0"}), Session("absent", {})]
    usage = Usage(Census(opened), Users(), lambda: there, takes=True)
    first = {record["user"]: record for record in await usage.look(100.0)}
    sum(range(3_000_000))
    second = {record["user"]: record for record in await usage.look(101.0)}
    found = [one.info["uids"] for one in psutil.process_iter(["uids"])]
    mine = sum(uids is not None and uids.effective == os.geteuid() for uids in found)
    assert second[me]["processes"] == pytest.approx(mine, rel=0.5)  # others come and go
    assert second[me]["threads"] >= second[me]["processes"]
    assert second[me]["cpu_percent"] > 0
    assert second[me]["memory_bytes"] > psutil.Process().memory_info().rss / 2
    assert (second[me]["sessions"], second["absent"]) == (1, {"user": "absent", "sessions": 1, "logins": [{}]})
    assert "cpu_percent" not in first[me]
    assert set(second[me]) == set(USER)


async def test_the_computer_is_told_of_at_first_and_every_ten_minutes(opened: ExitStack) -> None:
    computer = Computer(Proc(opened))
    (told,) = await computer.look(1000.0)
    assert await computer.look(1000.0 + EVERY - 1) == []
    assert len(await computer.look(1000.0 + EVERY)) == 1
    assert (told["processors"], told["architecture"]) == (psutil.cpu_count(), os.uname().machine)
    assert told["booted"] == pytest.approx(psutil.boot_time(), abs=2)
    assert told["memory_bytes"] == psutil.virtual_memory().total
    assert told["interfaces"][0]["interface"] == "lo"
    assert {"family": "ipv4", "address": "127.0.0.1", "netmask": "255.0.0.0"} in told["interfaces"][0]["addresses"]
    assert set(told) <= set(COMPUTER)


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC\n", "AMD EPYC"),
        ("processor\t: 0\nCPU part\t: 0xd08\n\nModel\t\t: Raspberry Pi 4\n", "Raspberry Pi 4"),
        ("processor\t: 0\nCPU part\t: 0xd0c\n", "a board"),
    ],
)
def test_a_model_is_found_on_arm_too(cpuinfo: str, name: str, tmp_path: Path) -> None:
    assert model(cpuinfo, write(tmp_path, {"proc/device-tree/model": "a board"})) == name


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = write(tmp_path / "tree", {f"{n % 7}/{n}": "x" * n * 10 for n in range(300)})
    os.link(root / "1" / "1", root / "again")
    (root / "loop").symlink_to(root)
    return root


def du(path: Path) -> int:
    said = subprocess.run(["du", "-s", "-x", "--block-size=1", path], capture_output=True, check=True)
    return int(said.stdout.split()[0])


def test_a_folder_takes_what_du_says(tree: Path) -> None:
    count = Count(str(tree))
    count.run()
    told = count.told()
    assert told["used_bytes"] == du(tree)
    assert (told["files"], told["complete"]) == (1 + 7 + 300 + 1, True)
    assert set(told) == set(FOLDER) - {"error"}


def test_a_folder_that_is_not_there_says_so_and_one_that_is_stopped_is_not_complete(tree: Path) -> None:
    gone, stopped = Count(str(tree / "none")), Count(str(tree))
    stopped.stopped.set()
    for count in (gone, stopped):
        count.run()
    assert gone.told() == {"folder": str(tree / "none"), "complete": False, "error": "ENOENT"}
    assert not stopped.told()["complete"]


class Deleting(threading.Event):
    """Deletes files while a thread that counts them rests."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__()
        self._paths = iter([[], paths])

    def wait(self, timeout: float | None = None) -> bool:
        for path in next(self._paths):
            path.unlink()
        return super().wait(timeout)


def test_files_that_go_away_while_a_folder_is_counted_do_not_hide_the_others(tmp_path: Path) -> None:
    for number in range(150):
        (tmp_path / str(number)).touch()
    later = [Path(entry.path) for entry in os.scandir(tmp_path)][100:]  # as they are come upon
    count = Count(str(tmp_path), stopped=Deleting(later[::2]))
    count.run()
    assert (count.files, count.complete) == (1 + 100 + 25, True)


async def told_of(folders: Folders, now: float) -> list[dict[str, Any]]:
    async with asyncio.timeout(WITHIN):
        while not (records := await folders.look(now)):  # noqa: ASYNC110  a thread has no event
            await asyncio.sleep(0.005)
    return records


async def test_folders_are_counted_one_after_the_other_and_again_when_it_is_time(tree: Path) -> None:
    paths = [str(tree), str(tree / "1")]
    folders = Folders(paths, 3600.0, {})
    found = [*await told_of(folders, 1_000_000.0), *await told_of(folders, 1_000_000.0)]
    assert [record["folder"] for record in found] == paths
    assert await folders.look(1_000_010.0) == []
    assert folders._thread is None
    assert len(await told_of(folders, 1_003_600.0)) == 1
    folders.close()


async def test_folders_that_were_told_of_before_a_restart_are_not_counted_again(tree: Path) -> None:
    folders = Folders([str(tree)], 3600.0, {str(tree): 1_000_000.0})
    assert await folders.look(1_000_100.0) == []
    assert folders._thread is None
