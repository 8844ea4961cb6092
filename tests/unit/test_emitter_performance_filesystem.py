"""How full file systems are: beside statvfs and df, from recorded mounts, and with a mount that hangs."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from emitters.measures.filesystems import FILESYSTEM, Asking, Filesystems
from emitters.measures.mounts import chosen, in_sight, parse
from exhaust.clock import VirtualClock

WITHIN = 10.0
PATIENCE = 1.0

MOUNTINFO = rb"""22 29 0:20 / /proc rw,nosuid - proc proc rw
23 29 0:21 / /sys rw,nosuid - sysfs sysfs rw
24 29 0:5 / /dev rw,nosuid - devtmpfs udev rw,size=8000000k
25 24 0:22 / /dev/shm rw,nosuid - tmpfs tmpfs rw
26 29 0:23 / /run rw,nosuid - tmpfs tmpfs rw,size=1600000k
29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 23 0:24 / /sys/fs/cgroup ro - tmpfs tmpfs ro
31 29 8:2 / /srv/old\040data ro,relatime shared:2 - xfs /dev/sda2 ro,attr2
32 29 8:1 /srv/www /var/www rw,relatime shared:3 - ext4 /dev/sda1 rw,errors=remount-ro
33 29 7:0 / /snap/core/1 ro,nodev shared:4 - squashfs /dev/loop0 ro
34 29 0:40 / /var/lib/docker/overlay2/ab/merged rw shared:5 - overlay overlay rw,lowerdir=/l
35 29 0:41 / /home rw shared:6 - nfs4 server:/home rw,vers=4.2
36 29 8:16 / /mnt/below rw - ext4 /dev/sdb rw
37 29 8:17 / /mnt rw - ext4 /dev/sdc rw
38 37 8:18 / /mnt rw - ext4 /dev/sdd rw
39 26 0:50 / /run/credentials/a.service ro - tmpfs tmpfs ro
"""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A file system of our own with a name that needs care, if we may mount one, else the root."""
    if os.geteuid() != 0:
        yield Path("/")
        return
    path = tmp_path / "a place\nof ours"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M,nr_inodes=500", "ours", path], check=True)
    try:
        for number in range(20):
            (path / str(number)).write_bytes(bytes(150_000))
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def df(path: Path, *columns: str) -> list[str]:
    found = subprocess.run(["df", "-B1", f"--output={','.join(columns)}", path], capture_output=True, check=True)
    return found.stdout.decode().splitlines()[-1].split()


def make_read_only(path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)


def only(path: Path) -> list[str]:
    return [str(path)]


def device(mountpoint: str) -> int:
    return Path(mountpoint).stat().st_dev


async def test_figures_are_those_of_statvfs_and_df(opened: ExitStack, place: Path) -> None:
    filesystems = Filesystems(only(place), Asking(os.statvfs), VirtualClock(), PATIENCE, opened)
    (told,) = await filesystems.look(1.0)
    found, slack = os.statvfs(place), 0 if os.geteuid() == 0 else 1 << 30  # the root is not ours alone
    source, type_, percent, inodes, inode_percent = df(place, "source", "fstype", "pcent", "itotal", "ipcent")
    assert (told["mountpoint"], told["device"], told["type"]) == (str(place), source, type_)
    assert told["total_bytes"] == found.f_blocks * found.f_frsize
    assert told["used_bytes"] == pytest.approx((found.f_blocks - found.f_bfree) * found.f_frsize, abs=slack)
    assert told["available_bytes"] == pytest.approx(found.f_bavail * found.f_frsize, abs=slack)
    assert 0 <= int(percent[:-1]) - told["used_percent"] < (1 if not slack else 2)  # df rounds up
    if found.f_files:
        assert told["inodes_total"] == int(inodes)
        assert abs(int(inode_percent[:-1]) - told["inodes_used_percent"]) < 2
    assert (told["read_only"], told["hung"]) == (bool(found.f_flag & os.ST_RDONLY), False)
    assert set(told) == set(FILESYSTEM) - {"error"}


async def test_what_is_done_to_a_file_system_is_seen_at_the_next_look(opened: ExitStack, place: Path) -> None:
    filesystems = Filesystems(only(place), Asking(os.statvfs), VirtualClock(), PATIENCE, opened)
    (before,) = await filesystems.look(1.0)
    if os.geteuid() == 0:
        (place / "more").write_bytes(bytes(3 << 20))
        make_read_only(place)
    (after,) = await filesystems.look(2.0)
    if os.geteuid() == 0:
        assert after["used_bytes"] == before["used_bytes"] + (3 << 20)
        assert (before["read_only"], after["read_only"]) == (False, True)
    assert after["total_bytes"] == before["total_bytes"]


async def test_by_default_every_real_file_system_is_told_of_once(opened: ExitStack) -> None:
    told = await Filesystems([], Asking(os.statvfs), VirtualClock(), PATIENCE, opened).look(1.0)
    assert "/" in {record["mountpoint"] for record in told}
    assert not {record["type"] for record in told} & {"proc", "sysfs", "cgroup", "cgroup2", "devpts", "squashfs"}
    devices = [device(record["mountpoint"]) for record in told if "error" not in record]
    assert len(devices) == len(set(devices))


def test_pseudo_file_systems_images_duplicates_and_what_is_covered_are_left_out() -> None:
    found = chosen(in_sight(list(parse(MOUNTINFO.splitlines()))), [])
    assert [mount.mountpoint for mount in found] == ["/dev/shm", "/run", "/", "/srv/old data", "/home", "/mnt"]
    by_path = {mount.mountpoint: mount for mount in found}
    assert (by_path["/"].device, by_path["/mnt"].device) == (b"/dev/sda1", b"/dev/sdd")
    assert [path for path, mount in by_path.items() if mount.read_only] == ["/srv/old data"]


def test_an_overlay_is_real_where_it_is_the_root_of_a_container() -> None:
    lines = b"600 599 0:60 / / rw - overlay overlay rw\n601 600 8:1 /x/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
    found = chosen(in_sight(list(parse(lines.splitlines()))), [])
    assert [mount.mountpoint for mount in found] == ["/", "/etc/hosts"]


def test_a_mount_that_is_named_is_told_of_whatever_it_is() -> None:
    found = chosen(in_sight(list(parse(MOUNTINFO.splitlines()))), ["/snap/*", "/var/www"])
    assert [mount.mountpoint for mount in found] == ["/var/www", "/snap/core/1"]


async def test_a_file_system_that_refuses_to_answer_says_why_and_one_just_gone_says_nothing(opened: ExitStack) -> None:
    def statvfs(path: bytes) -> os.statvfs_result:
        raise {b"/": PermissionError(13, "no"), b"/proc": FileNotFoundError(2, "gone")}[path]

    (told,) = await Filesystems(["/", "/proc"], Asking(statvfs), VirtualClock(), PATIENCE, opened).look(1.0)
    assert (told["mountpoint"], told["hung"], told["error"]) == ("/", False, "EACCES")
    assert "total_bytes" not in told


class Hanging:
    """A statvfs that hangs on /proc until it is let go; it counts its calls."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.calls: list[bytes] = []
        self.called = threading.Event()

    def __call__(self, path: bytes) -> os.statvfs_result:
        self.calls.append(path)
        self.called.set()
        if path == b"/proc" and not self.let_go.wait(WITHIN):
            raise TimeoutError(path)
        return os.statvfs(path)


async def looked(asking: Asking, opened: ExitStack) -> dict[str, dict[str, Any]]:
    """Look at the root and /proc, and let the time pass once the root has answered; return records by mountpoint."""
    clock = VirtualClock()
    looking = asyncio.create_task(Filesystems(["/", "/proc"], asking, clock, PATIENCE, opened).look(1.0))
    async with asyncio.timeout(WITHIN):
        while not looking.done():
            await asyncio.sleep(0.001)
            if b"/" not in asking._calls:
                clock.advance(PATIENCE)
    return {record["mountpoint"]: record for record in looking.result()}


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "statvfs /proc"]


async def test_a_hung_mount_holds_up_nothing_is_asked_once_and_told_of_again_when_it_answers(opened: ExitStack) -> None:
    hanging = Hanging()
    asking = Asking(hanging)
    try:
        for _ in range(3):  # an emitter that is started anew leaves it alone as well
            told = await looked(asking, opened)
            names = ("device", "type", "read_only", "hung")
            assert [told["/proc"][name] for name in names] == ["proc", "proc", False, True]
            assert not told["/proc"].keys() - {"mountpoint", "options", *names}
            assert (told["/"]["hung"], told["/"]["total_bytes"] > 0) == (False, True)
        assert (hanging.calls.count(b"/"), hanging.calls.count(b"/proc")) == (3, 1)
        (thread,) = threads()
        assert thread.daemon
    finally:
        hanging.let_go.set()
    thread.join(WITHIN)
    told = await looked(asking, opened)
    assert (told["/proc"]["hung"], hanging.calls.count(b"/proc")) == (False, 2)


async def test_an_emitter_can_be_closed_while_it_waits_for_a_mount(opened: ExitStack) -> None:
    hanging, clock = Hanging(), VirtualClock()
    looking = asyncio.create_task(Filesystems(["/proc"], Asking(hanging), clock, PATIENCE, opened).look(1.0))
    assert await asyncio.to_thread(hanging.called.wait, WITHIN)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    (thread,) = threads()
    hanging.let_go.set()
    thread.join(WITHIN)  # its answer is nobody's any more
    assert not thread.is_alive()


def test_a_call_that_hangs_outlives_the_event_loop_without_a_word() -> None:
    hanging = Hanging()

    async def look() -> None:
        with ExitStack() as opened:
            assert (await looked(Asking(hanging), opened))["/proc"]["hung"]

    asyncio.run(look())
    (thread,) = threads()
    hanging.let_go.set()
    thread.join(WITHIN)
    assert not thread.is_alive()
