"""A real supervisord for one test: its own configuration and socket, in a folder whose path is short enough for it."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exhaust.errors import UnreachableError
from exhaust.processes import Process, find, identify
from exhaust.supervisord import RUNNING, Info, Supervisord

PATIENCE = 20.0
SLEEP = "/usr/bin/sleep 1000"
CONFIGURATION = """
[unix_http_server]
file={folder}/s
[supervisord]
nodaemon=true
silent=true
logfile={folder}/log
pidfile={folder}/pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM = """
[program:{name}]
stdout_logfile=NONE
stderr_logfile=NONE
"""


class Supervision:
    """A supervisord with the programs of a test; what is not given of a program is: no restart, running at once."""

    def __init__(self, folder: Path, programs: dict[str, dict[str, Any]]) -> None:
        self.folder = folder
        self.socket = str(folder / "s")
        self.asked = Supervisord(self.socket, patience=PATIENCE)
        self._orphans: set[Process] = set()
        self._write(programs)
        self.start()

    def _write(self, programs: dict[str, dict[str, Any]]) -> None:
        text = CONFIGURATION.format(folder=self.folder)
        for name, settings in programs.items():
            usual = {"command": SLEEP, "autorestart": "false", "startsecs": 0}
            text += PROGRAM.format(name=name)
            text += "".join(f"{key}={value}\n" for key, value in (usual | settings).items())
        (self.folder / "conf").write_text(text)

    def start(self) -> None:
        argv = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.folder / "conf")]
        # Its warnings are its own affair: with those of our tests as errors it does not even answer.
        self._process = subprocess.Popen(argv, env={"PATH": os.environ["PATH"]}, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """End it as by an accident: its processes live on, and its socket leads nowhere."""
        self._orphans |= self._children()
        self._process.kill()
        self._process.wait()

    def _children(self) -> set[Process]:
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        parents = {pid: found.parent for pid in pids if (found := identify(pid)) is not None}
        return {process for pid, parent in parents.items() if parent == self.pid and (process := find(pid))}

    @property
    def pid(self) -> int:
        return self._process.pid

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Keep it from doing anything."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def asked_until_answered(self) -> None:
        """Wait until it listens."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(UnreachableError):
                    await self.asked.call("supervisor.getState")
                    return
                await asyncio.sleep(0.02)

    async def info(self, name: str) -> Info:
        return await self.asked.info(name)

    async def running(self, name: str, *, other_than: int = 0) -> Process:
        """Return the process of a program once there is one."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(UnreachableError):
                    info = await self.info(name)
                    process = find(info.pid) if info.state == RUNNING and info.pid != other_than else None
                    if process is not None and self._is_itself(info.pid):
                        return process
                await asyncio.sleep(0.02)

    def _is_itself(self, pid: int) -> bool:
        """Tell whether it runs its own program yet: what is signalled before that is lost on it."""
        found, ours = identify(pid), identify(self.pid)
        return found is not None and ours is not None and found.argv != ours.argv

    def close(self) -> None:
        self.kill()  # told to end it would take a second to notice
        for process in self._orphans:
            if process.alive:
                os.kill(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def supervised(**programs: dict[str, Any]) -> Iterator[Supervision]:
    """Run a supervisord with these programs."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="xs-"))
    supervision = Supervision(folder, programs)
    try:
        yield supervision
    finally:
        supervision.close()
        shutil.rmtree(folder)
