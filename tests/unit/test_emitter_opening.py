"""Opening the spool: one at a time, whatever is in it, and quickly however much."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from emitters.spool.opening import opened_log
from emitters.spool.segments import Log
from exhaust.errors import LockedError, StoreError

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
