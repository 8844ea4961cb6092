"""Opening the spool: one at a time, whatever is in it, with what an earlier version left, and quickly however much."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from emitters.spool.opening import opened_log
from emitters.spool.segments import Log
from emitters.spool.spool import Spool
from exhaust.clock import VirtualClock
from exhaust.errors import LockedError, StoreError
from exhaust.messages import Batch
from exhaust.store import Store
from exhaust.wire import pack
from tests.unit.test_emitter_spool import Gate, eventually

MOST = 16 << 20
LARGE = 256 << 20
# Prints how long it took to open, and how much memory that took at most, in KiB.
OPEN = """
import re, sys, time
from pathlib import Path
from emitters.spool.opening import opened_log

def peak():
    return int(re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[0])

before, began = peak(), time.monotonic()
with opened_log(Path(sys.argv[1])) as log:
    print([time.monotonic() - began, peak() - before, log.book.batches])
"""


def test_only_one_has_it_at_a_time(tmp_path: Path) -> None:
    again = opened_log(tmp_path / "spool", most=MOST)
    with opened_log(tmp_path / "spool", most=MOST), pytest.raises(LockedError, match="in use by another process"):
        again.__enter__()
    with opened_log(tmp_path / "spool", most=MOST):
        pass


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/spool cannot be opened: .*Not a directory"):
        opened_log(tmp_path / "file" / "spool").__enter__()


def former(path: Path, count: int) -> list[str]:
    """Leave what an earlier version would."""
    batches = [
        Batch(
            id=f"id-{n}", time=1.7e9, host="h", emitter="e", stream="s", epoch=3, seq=n, records=[{"time": 1.0, "n": n}]
        )
        for n in range(count)
    ]
    with Store(path) as store:
        for batch in batches:
            store.commit(send=[pack(batch)])
    return [batch.id for batch in batches]


async def test_what_an_earlier_version_has_not_sent_is_taken_over_once(tmp_path: Path) -> None:
    ids = former(tmp_path / "emitters.db", 150)
    for _ in range(2):
        with opened_log(tmp_path / "spool", most=MOST, former=tmp_path / "emitters.db") as log:
            assert log.book.batches == 150
    assert not list(tmp_path.glob("emitters*"))  # noqa: ASYNC240  nobody else waits here
    broker = Gate()
    with opened_log(tmp_path / "spool", most=MOST) as log:
        spool = Spool(log, broker, "h", VirtualClock())
        sending = asyncio.create_task(spool.run())
        await eventually(lambda: spool.status()["unsent"] == 0)
        sending.cancel()
        await asyncio.wait([sending])
        spool.close()
    assert [batch.id for _, batch in broker.taken] == ids


def test_a_former_spool_that_is_no_database_is_said_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "emitters.db").write_text("no database" * 1000)
    with opened_log(tmp_path / "spool", most=MOST, former=tmp_path / "emitters.db") as log:
        assert log.book.batches == 0
    assert "the former spool cannot be taken over" in caplog.text
    assert (tmp_path / "emitters.db").exists()


def fill(log: Log, size: int, text: bytes) -> int:
    """Write batches of this text, until there are so many bytes; return how many batches that are."""
    count = 0
    group = log.group()
    while log.book.unsent.size < size:
        if group.batch(log.book.reached, text, 5.0, 1, {}) is None or len(group.batches) % 1000 == 0:
            count += len(group.batches)
            log.write(group, sync=group.opens)
            log.accept(group)
            group = log.group(roll=not group.fits(len(text)))
    return count


@pytest.mark.parametrize("damaged", [False, True])
def test_a_backlog_of_256_mib_is_there_within_10_seconds_and_not_in_memory(tmp_path: Path, damaged: bool) -> None:
    text = msgspec.json.encode({"text": "x" * 245})
    size = LARGE if not damaged else LARGE // 4
    with opened_log(tmp_path) as log:
        count = fill(log, size - (16 << 20), text)
    if damaged:
        for path in tmp_path.glob("*.log"):
            with path.open("r+b") as file:
                file.seek(60)
                file.write(b"\0")
    done = subprocess.run([sys.executable, "-c", OPEN, str(tmp_path)], check=True, capture_output=True, text=True)
    seconds, kib, batches = json.loads(done.stdout)
    assert seconds < 10
    assert kib < 64 << 10
    assert batches > 0.99 * count
