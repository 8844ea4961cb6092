"""Processors, memory and disks: from recorded text, and beside what psutil says of this host."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from emitters.measures.disks import DISK, Disks, Totals, parse, rates, told
from emitters.measures.memory import MEMORY, Memory
from emitters.measures.proc import Proc, ProcFile
from emitters.measures.processors import CPU, MODES, Frequencies, Processors, shares
from emitters.measures.processors import parse as times_of
from emitters.measures.system import Population

STAT = b"""cpu  1000 10 300 5000 200 5 45 40 7 0
cpu0 600 5 150 2500 100 5 25 20 7 0
cpu1 400 5 150 2500 100 0 20 20 0 0
intr 427058 0 0 16
"""
LATER = STAT.replace(b"cpu0 600 5 150 2500 100", b"cpu0 640 5 160 2540 99")
CPUINFO = b"processor\t: 0\ncpu MHz\t\t: 2000.5\n\nprocessor\t: 1\ncpu MHz\t\t: 1000.5\n"
DISKSTATS = b"""   7       0 loop0 5 0 5 5 0 0 0 0 0 0 0 0 0 0 0 0 0
   1       0 ram0 5 0 5 5 0 0 0 0 0 0 0
 254       0 vda 100 10 800 50 200 20 1600 150 2 90 300 0 0 0 0 0 0
 254       1 vda1 90 10 700 50 200 20 1600 150 2 90 300 0 0 0 0 0 0
 253       0 zram0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
"""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def proc(opened: ExitStack, tmp_path: Path) -> Proc:
    """A /proc of the test's own; its files are written before they are read."""
    return Proc(opened, tmp_path)


async def test_a_processors_time_is_told_in_ten_shares_and_of_all_together(proc: Proc, tmp_path: Path) -> None:
    processors = Processors(proc, Frequencies(proc, tmp_path))
    (tmp_path / "cpuinfo").write_bytes(CPUINFO)
    (tmp_path / "stat").write_bytes(STAT)
    first = await processors.look(10.0)
    (tmp_path / "stat").write_bytes(LATER)
    second = await processors.look(11.0)
    assert first == [
        {"cpu": "all", "frequency_mhz": 1500.5},
        {"cpu": "0", "frequency_mhz": 2000.5},
        {"cpu": "1", "frequency_mhz": 1000.5},
    ]
    # 90 ticks passed, and one less waiting for a disk, as the kernel says may happen.
    busy = {"user_percent": 44.44, "system_percent": 11.11, "idle_percent": 44.44, "cpu_percent": 55.56}
    assert {name: second[1][name] for name in busy} == busy
    assert second[1]["iowait_percent"] == 0.0
    assert set(second[1]) == set(CPU)


def test_no_time_has_no_shares_and_old_kernels_have_fewer_modes() -> None:
    before = times_of(b"cpu  1 2 3 4 5 6 7 0\n")["all"]
    after = times_of(b"cpu  2 2 3 4 5 6 7 0\n")["all"]
    assert shares(before, before) == {}
    assert len(shares(before, after)) == len(MODES) - 2 + 1


async def test_a_frequency_driver_is_asked_first(proc: Proc, tmp_path: Path) -> None:
    (tmp_path / "cpu1/cpufreq").mkdir(parents=True)
    (tmp_path / "cpu1/cpufreq/scaling_cur_freq").write_text("1800000\n")
    assert Frequencies(proc, tmp_path).now(100.0, ["0", "1"]) == {"1": 1800.0, "all": 1800.0}


async def test_memory_is_what_psutil_says_of_it(opened: ExitStack) -> None:
    memory = Memory(Proc(opened), 4096)
    await memory.look(1.0)
    (record,) = await memory.look(2.0)
    seen, swap = psutil.virtual_memory(), psutil.swap_memory()
    assert (record["total_bytes"], record["swap_total_bytes"]) == (seen.total, swap.total)
    slack = 512 << 20  # others use it meanwhile
    assert record["available_bytes"] == pytest.approx(seen.available, abs=slack)
    assert record["used_bytes"] == record["total_bytes"] - record["available_bytes"]
    cached = record["cached_bytes"] + record["slab_reclaimable_bytes"]
    assert cached == pytest.approx(seen.cached, abs=slack)
    for name in ("free", "active", "inactive", "buffers", "shared", "slab"):
        assert record[f"{name}_bytes"] == pytest.approx(getattr(seen, name), abs=slack)
    assert set(record) == set(MEMORY)


async def test_swapping_is_told_in_bytes_by_the_second(proc: Proc, tmp_path: Path) -> None:
    names = (
        "MemTotal MemFree MemAvailable Buffers Cached SwapCached Active Inactive SwapTotal SwapFree Dirty Shmem Slab"
    )
    meminfo = "".join(f"{name}:  {number} kB\n" for number, name in enumerate(names.split(), 1))
    (tmp_path / "meminfo").write_text(f"{meminfo}SReclaimable: 5 kB\n")
    memory = Memory(proc, 4096)
    (tmp_path / "vmstat").write_text("nr_free_pages 1\npswpin 10\npswpout 20\npgmajfault 5\n")
    await memory.look(10.0)
    (tmp_path / "vmstat").write_text("nr_free_pages 1\npswpin 12\npswpout 20\npgmajfault 9\n")
    (record,) = await memory.look(12.0)
    assert record["swap_in_bytes_per_second"] == 4096.0
    assert (record["swap_out_bytes_per_second"], record["major_faults_per_second"]) == (0.0, 2.0)
    assert (record["cached_bytes"], record["swap_free_bytes"], record["dirty_bytes"]) == (5120, 10240, 11264)
    assert "oom_kills" not in record


async def test_whole_disks_are_told_of_that_ever_did_something(proc: Proc, tmp_path: Path) -> None:
    (tmp_path / "diskstats").write_bytes(DISKSTATS)
    disks = Disks(proc, lambda: ["vda", "loop0", "ram0", "zram0"])
    (record,) = await disks.look(1.0)
    assert (record["device"], record["reads"], record["write_bytes"], record["in_flight"]) == ("vda", 100, 819200, 2)
    assert set(record) == {name for name in DISK if not name.endswith(("_per_second", "_percent"))} - {
        "queue",
        "latency_seconds",
    }


def test_rates_of_a_disk_are_by_the_second_and_latency_by_the_request() -> None:
    before = Totals(100, 0, 800, 50, 200, 0, 1600, 150, 0, 90, 300)
    after = Totals(110, 0, 808, 90, 230, 0, 1680, 310, 1, 1090, 800)
    assert rates(before, after, 2.0) == {
        "reads_per_second": 5.0,
        "writes_per_second": 15.0,
        "read_bytes_per_second": 2048.0,
        "write_bytes_per_second": 20480.0,
        "busy_percent": 50.0,
        "queue": 0.25,
        "latency_seconds": 0.005,
    }
    assert rates(after, before, 2.0) == {}
    assert "latency_seconds" not in rates(before, before, 2.0)


async def test_what_disks_did_is_what_psutil_says_of_it(opened: ExitStack) -> None:
    least = psutil.disk_io_counters(perdisk=True)
    records = await Disks(Proc(opened)).look(1.0)
    most = psutil.disk_io_counters(perdisk=True)
    assert records
    assert {record["device"] for record in records} <= set(least)
    for record in records:
        low, high = least[record["device"]], most[record["device"]]
        ours = {
            "read_count": "reads",
            "write_count": "writes",
            "read_bytes": "read_bytes",
            "write_bytes": "write_bytes",
        }
        for theirs, name in ours.items():
            assert getattr(low, theirs) <= record[name] <= getattr(high, theirs)
        assert low.busy_time / 1000 <= record["busy_seconds"] <= high.busy_time / 1000


def test_all_devices_are_told_of_where_there_is_no_sys() -> None:
    assert [name for name, _ in parse(DISKSTATS)] == ["vda", "vda1"]
    assert told(dict(parse(DISKSTATS))["vda1"])["read_seconds"] == 0.05


def test_files_larger_than_a_page_are_read_whole_and_lists_too(opened: ExitStack, tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % number for number in range(5000))
    (tmp_path / "large").write_bytes(text)
    file = ProcFile(str(tmp_path / "large"), opened)
    assert file.read() == file.read() == text
    assert file.lines() == text.splitlines()


def test_processes_are_counted_by_links_or_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    (tmp_path / "fs").mkdir()
    assert Population(tmp_path).count() == 1  # nothing says that all of them are ours
    listed = [len(psutil.pids())]
    found = Population().count()
    listed.append(len(psutil.pids()))
    assert min(listed) - 5 <= found <= max(listed) + 5
