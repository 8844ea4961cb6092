"""How each fault begins and how it is healed: what is done to the broker, to the way there, to disk and clock."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.node import Node
from tests.soak.echo import Echo
from tests.soak.plugin import HEAVY
from tests.soak.proxy import Proxy
from tests.soak.schedule import Step

_MORE_THAN_THERE_IS = "1000000GB"
_ENOUGH = "50MB"
_DISK = "96m"
# Debian's and Fedora's places.
_FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
)


class Disk:
    """A small disk of its own, which can be filled. Only root can mount one."""

    def __init__(self, folder: Path, ledgers: Path) -> None:
        self._folder = folder
        self._filler = folder / "filler"
        self._heavy = ledgers / HEAVY

    def mount(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=0700", "tmpfs", str(self._folder)]
        subprocess.run(command, check=True)

    def unmount(self) -> None:
        """Leave what is on it in the folder that it was mounted on."""
        with tempfile.TemporaryDirectory(dir=self._folder.parent) as kept:
            shutil.copytree(self._folder, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run"))
            subprocess.run(["umount", "-l", str(self._folder)], check=True)
            shutil.copytree(kept, self._folder, dirs_exist_ok=True)

    def fill(self) -> None:
        """Take all the room that there is, and make what has room of its own need more."""
        self._heavy.touch()
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 16)):
                pass

    def clear(self) -> None:
        self._heavy.unlink(missing_ok=True)
        self._filler.unlink(missing_ok=True)


class FakeClock:
    """The wall clock of whoever runs in `environment`: ours, and off by what it was set to since. Only that clock."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0.0
        self.jump(0.0)

    @staticmethod
    def library() -> str | None:
        """Return where libfaketime is, None where it is not installed."""
        return next((path for path in _FAKETIME if Path(path).exists()), None)

    @property
    def environment(self) -> dict[str, str]:
        library = self.library()
        assert library is not None
        return {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, seconds: float) -> None:
        self._offset += seconds
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{self._offset:+.0f}\n")
        fresh.replace(self._file)


class Means(NamedTuple):
    """What faults are made with; without `disk` or `clock` there are none of those."""

    node: Node
    proxy: Proxy
    echo: Echo
    disk: Disk | None
    clock: FakeClock | None


def lacking() -> dict[str, str]:
    """Return which faults cannot be had here, and why."""
    found = {}
    if os.geteuid() != 0:
        found["full-disk"] = "only root can mount a small disk to fill"
    if FakeClock.library() is None:
        found["clock-jump"] = "libfaketime is not installed: apt-get install libfaketime"
    return found


Deed = Callable[[Means, Step], Awaitable[None]]


async def _nothing(means: Means, step: Step) -> None:
    """Whatever is done is done by somebody else."""


async def _kill_broker(means: Means, step: Step) -> None:
    await asyncio.to_thread(means.node.kill)


async def _start_broker(means: Means, step: Step) -> None:
    await asyncio.to_thread(means.node.start)


async def _stop_broker(means: Means, step: Step) -> None:
    await asyncio.to_thread(means.node.suspend)


async def _continue_broker(means: Means, step: Step) -> None:
    means.node.resume()


async def _alarm(means: Means, step: Step) -> None:
    await asyncio.to_thread(means.node.rabbitmqctl, "set_disk_free_limit", _MORE_THAN_THERE_IS)


async def _calm(means: Means, step: Step) -> None:
    await asyncio.to_thread(means.node.rabbitmqctl, "set_disk_free_limit", _ENOUGH)


async def _cut(means: Means, step: Step) -> None:
    await means.proxy.cut()


async def _swallow(means: Means, step: Step) -> None:
    means.proxy.swallow()


async def _slow(means: Means, step: Step) -> None:
    latency = step.how["latency"]
    means.proxy.slow((latency / 2, latency), int(step.how["piece"]))


async def _break_off(means: Means, step: Step) -> None:
    await means.proxy.break_off()


async def _heal(means: Means, step: Step) -> None:
    await means.proxy.heal(forget=bool(step.how.get("forget")))


async def _repeat(means: Means, step: Step) -> None:
    await means.echo.repeat(step.seconds)


async def _fill(means: Means, step: Step) -> None:
    assert means.disk is not None
    await asyncio.to_thread(means.disk.fill)


async def _clear(means: Means, step: Step) -> None:
    assert means.disk is not None
    means.disk.clear()


async def _jump(means: Means, step: Step) -> None:
    assert means.clock is not None
    means.clock.jump(step.how["jump"])


FAULTS: dict[str, tuple[Deed, Deed]] = {
    "broker-kill": (_kill_broker, _start_broker),
    "broker-stop": (_stop_broker, _continue_broker),
    "disk-alarm": (_alarm, _calm),
    "cut": (_cut, _heal),
    "half-open": (_swallow, _heal),
    "slow": (_slow, _heal),
    "reset": (_break_off, _nothing),
    "replay": (_repeat, _nothing),
    "full-disk": (_fill, _clear),
    "clock-jump": (_jump, _nothing),
    "kill": (_nothing, _nothing),
}
