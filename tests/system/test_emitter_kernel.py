"""What the kernel drops of its announcements is counted exactly, and to drop some ends nothing."""

import asyncio
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from emitters.cli import sources
from emitters.kernel import connector
from emitters.kernel.channel import Channel
from emitters.kernel.connector import EXEC
from tests.system.host_state import ROOT, trues

ASKING = """
import time
from emitters.kernel import connector
began = time.monotonic()
for _ in range(100):
    try:
        connector.listen(connector.EXIT)
    except TimeoutError:
        continue
    break
else:
    print(time.monotonic() - began)
"""


def unread(number: int) -> None:
    """Execute a program so often while nobody reads of it."""
    subprocess.run(trues(number), check=True)


@pytest.mark.skipif(bool(sources()["connector"]), reason="this kernel announces executions only to root")
async def test_what_a_small_buffer_has_not_is_counted_and_what_comes_later_is_there() -> None:
    small, wide = connector.listen(EXEC), connector.listen(EXEC)
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    small.setblocking(False)
    wide.setblocking(False)
    unread(500)
    few, all_ = Channel(small, lambda: None), Channel(wide, lambda: None)
    try:
        taken = len(few.take())
        first = len(all_.take())
        assert (few.lost(), all_.lost()) == (0, 0)  # of what came before there was a channel it knows nothing
        assert taken < 20 < 500 <= first
        unread(100)
        told = lost = everything = 0
        async with asyncio.timeout(10):
            while everything < 101 or told + lost != everything:  # others may do something just between two lines
                told, lost, everything = told + len(few.take()), lost + few.lost(), everything + len(all_.take())
                await asyncio.sleep(0)
        assert lost > 0
        print(f"of {everything} executions {told} were told and {lost} counted as lost")
    finally:
        for opened, channel in ((small, few), (wide, all_)):
            connector.ignore(opened)
            channel.close()


@pytest.mark.skipif(not ROOT, reason="only root makes a namespace of pids")
def test_where_the_kernel_never_answers_it_is_waited_for_only_once() -> None:
    unshare = shutil.which("unshare")
    assert unshare, "unshare is missing: apt-get install util-linux"
    argv = [unshare, "--pid", "--fork", sys.executable, "-c", ASKING]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2], timeout=60)
    assert 0.1 <= float(done.stdout) < 5, "100 times would be 10 s"
