"""Which processes are told of and which ends, on hosts that a test makes up: a directory like /proc."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from emitters.measures.census import Census, parse
from emitters.measures.processes import Processes
from emitters.measures.told import Told
from emitters.measures.users import Users

TICKS = os.sysconf("SC_CLK_TCK")
BEAT = 10.0


class Host:
    """Processes by pid; `work` lets ten seconds pass in which some of them use a share of a processor."""

    def __init__(self, root: Path) -> None:
        self.root = root / "proc"
        self.root.mkdir()
        self.now = 1000.0
        self._ticks: dict[int, int] = {}

    def put(
        self, pid: int, *, started: int = 7, name: str = "one", pages: int = 1, state: str = "S", **rest: int
    ) -> None:
        ticks, nice, threads = self._ticks.setdefault(pid, 0), rest.get("nice", 0), rest.get("threads", 1)
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        flags = rest.get("flags", 0)
        text = (
            f"{pid} ({name}) {state} 1 1 1 0 -1 {flags} 0 0 0 0 {ticks} 0 0 0 20 {nice} {threads} 0 {started} 0 {pages}"
        )
        (folder / "stat").write_text(f"{text} 0 0\n")
        (folder / "statm").write_text(f"9 {pages} 1 1 0 1 0\n")

    def end(self, pid: int) -> None:
        shutil.rmtree(self.root / str(pid))
        self._ticks.pop(pid)

    def work(self, shares: dict[int, float], **rest: Any) -> None:
        self.now += BEAT
        for pid, percent in shares.items():
            self._ticks[pid] = self._ticks.get(pid, 0) + round(percent / 100 * BEAT * TICKS)
            self.put(pid, **rest)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def made(host: Host, opened: ExitStack, most: int = 50, told: Told | None = None) -> Processes:
    census = Census(opened, proc=str(host.root), open_files=0)  # its files do not end with their processes
    return Processes(most, told or Told(None), census, Users())


async def pids(processes: Processes, host: Host) -> list[int]:
    return [record["pid"] for record in await processes.look(host.now)]


async def ends(processes: Processes, host: Host) -> list[tuple[int, int, str]]:
    records = await processes.look(host.now)
    return [(record["pid"], record["started"], record["name"]) for record in records if record["gone"]]


async def test_no_more_are_told_of_than_the_table_holds(host: Host, opened: ExitStack) -> None:
    processes, counts = made(host, opened, 500), []
    host.work(dict.fromkeys(range(1, 651), 0.0))
    await processes.look(host.now)
    for start in (1, 251, 401):
        host.work(dict.fromkeys(range(start, start + 250), 50.0))
        counts.append(len(set(await pids(processes, host))))
    assert counts[0] < counts[1] == counts[2] == 500


async def test_busy_and_big_ones_are_told_of_and_idle_small_ones_are_not(host: Host, opened: ExitStack) -> None:
    host.work(dict.fromkeys(range(1, 101), 0.0))
    host.put(7, pages=5000)
    processes = made(host, opened, 10)
    host.work({3: 90.0, 4: 1.0})
    await processes.look(host.now)
    host.work({3: 90.0, 4: 1.0})
    told = {record["pid"]: record for record in await processes.look(host.now)}
    assert {3, 7} <= set(told)
    assert 4 not in told
    assert told[3]["cpu_percent"] == 90.0
    assert told[7]["cpu_percent"] == 0.0


async def test_one_that_has_calmed_down_is_still_told_of(host: Host, opened: ExitStack) -> None:
    host.work(dict.fromkeys(range(1, 101), 0.0))
    processes = made(host, opened)
    for share in (0.0, 95.0, 95.0):
        host.work({90: share})
        await processes.look(host.now)
    for _ in range(20):
        host.work({90: 0.0})
        told = {record["pid"]: record for record in await processes.look(host.now)}
        assert told[90]["cpu_percent"] == 0.0


async def test_series_do_not_flap_where_many_are_about_as_busy(host: Host, opened: ExitStack) -> None:
    processes = made(host, opened)
    tables = []
    for beat in range(10):
        host.work({pid: 80.0 + (pid * 7 + beat * 13) % 20 for pid in range(1, 61)}, pages=0)
        tables.append(set(await pids(processes, host)))
    assert len(tables[1]) == 25
    assert all(table == tables[1] for table in tables[1:])


async def test_to_leave_the_table_is_no_end_and_the_end_is_told_all_the_same(host: Host, opened: ExitStack) -> None:
    processes = made(host, opened, 10)
    host.work({1: 0.0}, pages=0)
    await processes.look(host.now)
    host.work({1: 60.0}, pages=0)
    assert await pids(processes, host) == [1]
    host.work({1: 0.0}, pages=0)
    for start in range(100, 200, 10):  # each time others are busy, until the first has no place any more
        host.work(dict.fromkeys(range(start, start + 10), 0.0), pages=0)
        assert await ends(processes, host) == []
        host.work(dict.fromkeys(range(start, start + 10), 90.0), pages=0)
        await processes.look(host.now)
    assert 1 not in await pids(processes, host)
    host.end(1)
    assert await ends(processes, host) == [(1, 7, "one")]
    assert await ends(processes, host) == []


async def test_one_that_was_never_told_of_ends_without_a_word(host: Host, opened: ExitStack) -> None:
    processes = made(host, opened)
    host.work({1: 0.0}, pages=0)
    await processes.look(host.now)
    host.end(1)
    assert await processes.look(host.now) == []


async def test_another_process_with_the_same_pid_is_another(host: Host, opened: ExitStack) -> None:
    processes = made(host, opened)
    host.put(1, started=7, nice=3)
    await processes.look(1.0)
    host.put(1, started=8, nice=4)
    gone, told = await processes.look(11.0)
    assert (gone["gone"], gone["started"], gone["nice_at_start"]) == (True, 7, 3)
    assert (told["gone"], told["started"], told["nice_at_start"]) == (False, 8, 4)
    assert "cpu_percent" not in told


async def test_the_end_is_told_by_each_name_that_the_process_had(host: Host, opened: ExitStack) -> None:
    processes = made(host, opened)
    for name in ("sh", "sh", "server"):
        host.put(1, name=name)
        await processes.look(host.now)
    host.end(1)
    assert await ends(processes, host) == [(1, 7, "sh"), (1, 7, "server")]


async def test_a_process_whose_first_thread_has_ended_lives_on(host: Host, opened: ExitStack) -> None:
    processes = made(host, opened)
    host.put(1)
    await processes.look(1.0)
    host.put(1, state="Z", threads=3)
    (told,) = await processes.look(2.0)
    assert (told["state"], told["gone"]) == ("zombie", False)
    host.put(1, state="Z")
    assert [record["gone"] for record in await processes.look(3.0)] == [True]


async def test_one_that_vanishes_while_all_are_looked_at_is_no_error(host: Host, opened: ExitStack) -> None:
    processes = made(host, opened)
    host.work({1: 0.0, 2: 0.0})
    await processes.look(host.now)
    (host.root / "1" / "stat").unlink()  # listed, but not there any more
    (host.root / "2" / "statm").unlink()  # there when it was listed, not when it is told of
    gone, told = sorted(await processes.look(host.now), key=lambda record: record["pid"])
    assert (gone["pid"], gone["gone"]) == (1, True)
    assert (told["pid"], told["gone"]) == (2, False)
    assert "memory_bytes" not in told


async def test_ends_while_nobody_looked_are_told_and_the_first_nice_value_is_kept(
    host: Host, opened: ExitStack, tmp_path: Path
) -> None:
    path = tmp_path / "state" / "processes.json"
    host.work({1: 0.0, 2: 0.0})
    await made(host, opened, told=Told(path)).look(host.now)
    host.end(1)
    host.put(2, nice=10)
    again = made(host, opened, told=Told(path))
    gone, told = await again.look(host.now)
    assert (gone["pid"], gone["started"], gone["name"], gone["gone"]) == (1, 7, "one", True)
    assert (told["pid"], told["nice"], told["nice_at_start"]) == (2, 10, 0)
    assert await ends(again, host) == []


async def test_all_have_ended_that_ran_before_the_machine_was_started_anew(
    host: Host, opened: ExitStack, tmp_path: Path
) -> None:
    path, boot = tmp_path / "processes.json", tmp_path / "boot"
    boot.write_text("this\n")
    host.put(1, nice=1)
    await made(host, opened, told=Told(path, boot)).look(1.0)
    boot.write_text("that\n")
    host.put(1, nice=2)  # another, though pid and start time are the same
    gone, told = await made(host, opened, told=Told(path, boot)).look(2.0)
    assert (gone["gone"], gone["nice_at_start"]) == (True, 1)
    assert (told["gone"], told["nice_at_start"]) == (False, 2)


async def test_only_its_owner_can_read_which_processes_were_told_of(
    host: Host, opened: ExitStack, tmp_path: Path
) -> None:
    path = tmp_path / "processes.json"
    path.with_suffix(".new").touch(mode=0o666)  # left by a crash
    host.put(1)
    await made(host, opened, told=Told(path)).look(1.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_the_first_of_several_uses_takes_over_what_was_kept_for_all(
    host: Host, opened: ExitStack, tmp_path: Path
) -> None:
    former, one, other = (tmp_path / name for name in ("processes.json", "one.json", "other.json"))
    host.work({1: 0.0, 2: 0.0})
    await made(host, opened, told=Told(former)).look(host.now)
    host.end(1)
    assert {known.pid for known in Told(one, former=former).recall()[0]} == {1, 2}
    assert Told(other, former=former).recall() == ([], [])
    assert not former.exists()


@pytest.mark.parametrize("content", ["", "no JSON", '{"boot": 5}'])
async def test_a_file_that_cannot_be_read_or_written_stops_nothing(
    host: Host, opened: ExitStack, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "processes.json"
    path.write_text(content)
    path.with_suffix(".new").mkdir()  # in the way of writing
    host.put(1)
    assert await pids(made(host, opened, told=Told(path)), host) == [1]
    assert [record.message for record in caplog.records] == [
        "which processes were told of cannot be read",
        "which processes were told of cannot be kept",
    ]


@pytest.mark.parametrize(
    ("told", "name"),
    [
        (b"kworker/0:1-events", b"kworker/0:1"),
        (b"kworker/u8:0+flush-254:0", b"kworker/u8:0"),
        (b"kworker/R-ext4-rsv", b"kworker/R-ext4-rsv"),
        (b"kworker/1:2H", b"kworker/1:2H"),
    ],
)
def test_a_worker_of_the_kernel_keeps_its_name_whatever_it_does(told: bytes, name: bytes) -> None:
    text = b"7 (%s) I 2 0 0 0 -1 69238880 0 0 0 0 1 2 0 0 20 0 1 0 30 0 0 18446744073709551615\n"
    stat = parse(text % told)
    assert (stat.name, stat.kernel, stat.ticks) == (name, True, 3)
