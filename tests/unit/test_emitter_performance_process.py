"""The busiest processes and their ends: children of the test beside what the kernel and psutil say of them."""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from emitters.measures.census import Census
from emitters.measures.processes import PROCESS, Processes
from emitters.measures.told import Told
from emitters.measures.users import Users

# Burns a processor under the name that it is given; `closed` is not for others to look into.
BURN = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.prctl(15, os.fsencode(sys.argv[1]), 0, 0, 0)
if "closed" in sys.argv[2:]:
    libc.prctl(4, 0, 0, 0, 0)
print("ready", flush=True)
while True:
    pass
"""
# At each line that it is given it writes a MiB, and burns enough to be noticed.
WRITE = """
import os, sys, time
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
print("ready", flush=True)
for line in sys.stdin:
    os.write(file, bytes(1 << 20))
    os.fsync(file)
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    print("done", flush=True)
"""
NAME = "a b) S 1 (\n\\x"
ENOUGH = 0.2  # seconds of a processor

Child = subprocess.Popen[bytes]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def run(opened: ExitStack) -> Callable[..., Child]:
    def start(*argv: str) -> Child:
        started = subprocess.Popen([sys.executable, "-c", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child = opened.enter_context(started)
        opened.callback(child.kill)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child

    return start


@pytest.fixture
def burn(run: Callable[..., Child]) -> Callable[..., Child]:
    return partial(run, BURN)


def used(child: Child) -> float:
    times = psutil.Process(child.pid).cpu_times()
    return times.user + times.system


def let_burn(child: Child) -> None:
    before = used(child)
    while used(child) < before + ENOUGH:
        pass


def let_write(child: Child) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"go\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"done\n"


def started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[19])


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()[:-1]


def kill(child: Child, *, reap: bool) -> None:
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | (0 if reap else os.WNOWAIT))


def of(child: Child, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["pid"] == child.pid]


async def test_a_process_that_burns_a_processor_is_told_of_as_the_kernel_does(
    opened: ExitStack, burn: Callable[..., Child]
) -> None:
    child = burn(NAME)
    processes = Processes(500, Told(None), Census(opened), Users())
    outer = used(child)
    first = await processes.look(100.0)
    inner = used(child)
    let_burn(child)
    least = used(child)
    (told,) = of(child, await processes.look(110.0))
    most = used(child)
    assert "cpu_percent" not in {name for record in first for name in record}
    assert least - inner - 0.01 <= told["cpu_percent"] / 100 * 10 <= most - outer + 0.01
    assert (told["pid"], told["started"], told["gone"]) == (child.pid, started(child.pid), False)
    assert told["name"] == NAME == comm(child.pid)
    assert told["user"] == pwd.getpwuid(os.geteuid()).pw_name
    assert (told["state"], told["threads"], told["kernel"]) == ("running", 1, False)
    assert told["memory_bytes"] == pytest.approx(psutil.Process(child.pid).memory_info().rss, rel=0.05)
    assert set(told) <= set(PROCESS)


@pytest.mark.parametrize("reaped", [True, False])
async def test_the_end_of_a_process_is_told_once_reaped_or_not(
    opened: ExitStack, burn: Callable[..., Child], reaped: bool
) -> None:
    child = burn(NAME)
    processes = Processes(500, Told(None), Census(opened), Users())
    await processes.look(100.0)
    let_burn(child)
    (told,) = of(child, await processes.look(110.0))
    kill(child, reap=reaped)
    assert of(child, await processes.look(120.0)) == [
        {"gone": True} | {key: told[key] for key in ("pid", "started", "name", "nice_at_start")}
    ]
    assert of(child, await processes.look(130.0)) == []


async def test_the_nice_value_at_the_start_stays_what_it_was(opened: ExitStack, burn: Callable[..., Child]) -> None:
    child = burn(NAME)
    processes = Processes(500, Told(None), Census(opened), Users())
    await processes.look(100.0)
    before = os.getpriority(os.PRIO_PROCESS, child.pid)
    os.setpriority(os.PRIO_PROCESS, child.pid, before + 3)
    let_burn(child)
    (told,) = of(child, await processes.look(110.0))
    assert (told["nice"], told["nice_at_start"]) == (before + 3, before)


async def test_what_is_written_is_told_by_the_second(
    opened: ExitStack, run: Callable[..., Child], tmp_path: Path
) -> None:
    child = run(WRITE, str(tmp_path / "file"))
    processes, written = Processes(500, Told(None), Census(opened), Users()), []
    for now in (100.0, 110.0, 120.0):
        let_write(child)
        written.append(psutil.Process(child.pid).io_counters().write_bytes)
        told = of(child, await processes.look(now))
    assert told[0]["write_bytes_per_second"] == (written[2] - written[1]) / 10
    assert written[0] == 0 or written[2] - written[1] >= 1 << 20  # nothing where the file lies in memory


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Have no rights that an ordinary user has not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_what_we_may_not_read_is_missing_and_the_rest_is_told(
    opened: ExitStack, burn: Callable[..., Child]
) -> None:
    child = burn(NAME, "closed")
    with as_nobody():
        processes = Processes(500, Told(None), Census(opened), Users())
        await processes.look(100.0)
        let_burn(child)
        await processes.look(110.0)
        (told,) = of(child, await processes.look(120.0))
    assert set(PROCESS) - set(told) == {"read_bytes_per_second", "write_bytes_per_second"}


def test_users_are_read_anew_when_their_file_is_and_numbers_do_without(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text("+::::::\nann:x:1000:1000::/:/bin/sh\nalias:x:1000:1000::/:/bin/sh\n")
    users = Users(path)
    users.refresh()
    assert (users.name(1000), users.name(7)) == ("ann", "7")
    new = tmp_path / "new"
    new.write_text("bob:x:7:7::/:/bin/sh\n")
    new.replace(path)
    users.refresh()
    assert (users.name(1000), users.name(7)) == ("1000", "bob")
