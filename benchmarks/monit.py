"""The same fault under monit, where it is installed: milliseconds from a process's death to its restart."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

_CONFIGURATION = """set daemon 1
set log {folder}/log
set pidfile {folder}/monit.pid
set statefile {folder}/state
set idfile {folder}/id
check process victim with pidfile {folder}/victim.pid
  start program = "{folder}/start"
"""
_START = """#!/bin/sh
/bin/sleep 100000 </dev/null >/dev/null 2>&1 &
echo $! > {folder}/fresh && mv {folder}/fresh {folder}/victim.pid
"""
_WITHIN = 15.0


def installed() -> bool:
    return shutil.which("monit") is not None


async def measure(folder: Path, kills: int) -> list[float]:
    """Kill a process that monit keeps, checking every second; return the milliseconds until another runs."""
    (folder / "start").write_text(_START.format(folder=folder))
    (folder / "start").chmod(0o755)
    (folder / "monitrc").write_text(_CONFIGURATION.format(folder=folder))
    (folder / "monitrc").chmod(0o600)
    async with _running(folder):
        pid = await _pid_other_than(folder, 0)
        found = []
        for number in range(kills):
            await asyncio.sleep(1.5 + 0.37 * (number % 3))  # kills fall at other moments of monit's cycle each time
            death = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            pid = await _pid_other_than(folder, pid)
            found.append(1000 * (time.monotonic() - death))
    return found


@contextlib.asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[None]:
    quiet = asyncio.subprocess.DEVNULL
    monit = await asyncio.create_subprocess_exec(
        "monit", "-I", "-c", str(folder / "monitrc"), stdout=quiet, stderr=quiet
    )
    try:
        yield
    finally:
        monit.terminate()
        await monit.wait()
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((folder / "victim.pid").read_text()), signal.SIGKILL)


async def _pid_other_than(folder: Path, old: int) -> int:
    async with asyncio.timeout(_WITHIN):
        while True:
            with contextlib.suppress(OSError, ValueError):
                pid = int((folder / "victim.pid").read_text())
                if pid != old:
                    return pid
            await asyncio.sleep(0.005)
