"""A service that is killed again and again: each of its starts writes down its pid and the time at once."""

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

_PROGRAM: Final = """#!/bin/sh
echo "$$ $(date +%s.%N)" >> {folder}/ledger
exec sleep 1000
"""
_START: Final = """#!/bin/sh
setsid {folder}/program </dev/null >/dev/null 2>&1 &
echo $! > {folder}/fresh && mv {folder}/fresh {folder}/pid
"""
_PR_SET_CHILD_SUBREAPER: Final = 36
_LOOK_AGAIN: Final = 0.005
_WITHIN: Final = 30.0


class Start(NamedTuple):
    """One start of the service, as it wrote itself down."""

    pid: int
    time: float


class Victim:
    """`program` is the service, `start` starts it in the background and leaves its number in `pid`."""

    def __init__(self, folder: Path) -> None:
        # What nobody else collects comes to us: who waits for a number to be free again must not wait for init.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        folder.mkdir(parents=True)
        self._ledger = folder / "ledger"
        self.pidfile = folder / "pid"
        self.program = _script(folder / "program", _PROGRAM.format(folder=folder))
        self.start = _script(folder / "start", _START.format(folder=folder))

    def starts(self) -> list[Start]:
        lines = self._ledger.read_text().split("\n")[:-1] if self._ledger.exists() else []
        return [Start(int(pid), float(at)) for pid, at in map(str.split, lines)]

    async def started(self, count: int) -> Start:
        """Wait for the start of that number, counted from 1, and return it."""
        async with asyncio.timeout(_WITHIN):
            while len(starts := self.starts()) < count:  # noqa: ASYNC110  another process's file has no event
                await asyncio.sleep(_LOOK_AGAIN)
        return starts[count - 1]

    async def killed(self, times: int, pause: Callable[[int], float]) -> list[float]:
        """Kill it so often, each time after a pause; return the milliseconds from each death to the next start."""
        await self.started(1)
        known, found = len(self.starts()), []
        for number in range(times):
            await asyncio.sleep(pause(number))
            death = self.kill()
            found.append(1000 * ((await self.started(known + number + 1)).time - death))
        return found

    async def begin(self) -> None:
        """Start it, in the background."""
        await (await asyncio.create_subprocess_exec(str(self.start))).wait()

    @property
    def lives(self) -> bool:
        """Whether the one started last runs; one that has ended and is not yet collected does not."""
        return bool(_command(self.starts()[-1].pid))

    def kill(self) -> float:
        """Kill what was started last; return when."""
        death, pid = time.time(), self.starts()[-1].pid
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # it is another's to collect
            os.waitpid(pid, 0)
        return death

    def close(self) -> None:
        """Kill what is left."""
        for start in self.starts():
            if _command(start.pid) == b"sleep\x001000\x00":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(start.pid, signal.SIGKILL)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path
