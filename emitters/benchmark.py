"""What this host can do, measured now and then: a machine that becomes slower shows, whatever the reason is."""

import asyncio
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from emitters.trials import program
from emitters.trials.peer import Peer
from exhaust.clock import Clock
from exhaust.plugins import Emitter, Fields, Record, Settings
from exhaust.settings import Duration

log = logging.getLogger(__name__)

RESULT: Fields = {
    "test": "string: cpu, sqlite, disk or network",
    "name": "string: what was measured: cpu.integer (a loop of additions and multiplications), cpu.sha256, "
    "sqlite.transactions, disk.write (until it is safe on disk), disk.read, network.connect, network.up, network.down; "
    "of a test that was skipped the test's name",
    "value": "double: the result; more is better, but for network.connect",
    "unit": "string: loops/s, bytes/s, transactions/s, or s",
    "seconds": "double: for how long it was measured: the processor's time for cpu, else time that passed",
    "skipped": "bool: whether it was not measured; then there is no value",
    "reason": "string: why not",
}

_PATIENCE = 60.0
_PREFIX = "exhaust-benchmark-"
_ADDRESS = r"^.+:[0-9]{1,5}$"
Address = Annotated[str, msgspec.Meta(pattern=_ADDRESS)]


class Benchmark(Settings, frozen=True, kw_only=True):
    """How often to measure what: some tenths of a second each time, in a process of its own that gives way to others.

    `folder` is where files are written, on the disk to be measured: it is `state`, the installation's state directory,
    if not given. Nothing is measured while the load of each processor is more than `skip_above_load`, mean over one
    minute. `network` needs a `peer`: where another host's benchmark has that address as its `listen`; it is asked for
    half a MiB each time.
    """

    every: Annotated[Duration, msgspec.Meta(ge=1)] = 3600.0
    tests: Annotated[tuple[Literal["cpu", "sqlite", "disk", "network"], ...], msgspec.Meta(min_length=1)] = (
        "cpu",
        "sqlite",
        "disk",
    )
    folder: str = ""
    skip_above_load: Annotated[float, msgspec.Meta(gt=0)] = 0.7
    peer: Address | None = None
    listen: Address | None = None
    state: str = ""

    def __post_init__(self) -> None:
        if "network" in self.tests and self.peer is None:
            raise ValueError("test 'network' needs 'peer', the host and port where another host's benchmark listens")
        for key in ("peer", "listen"):
            address = getattr(self, key)
            if address is not None and not (re.match(_ADDRESS, address) and 0 < _port(address) < 1 << 16):
                raise ValueError(f"{key!r} is to be a host and a port, such as web-2:8650")


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def too_busy(settings: Benchmark, load: float, processors: int) -> str:
    """Say that others need the host now; empty where they do not."""
    share = load / processors
    return f"load is {share:.2f} for each processor" if share > settings.skip_above_load else ""


async def measured(settings: Benchmark) -> list[dict[str, Any]]:
    """Return the results, of a process that is killed where it takes too long."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=settings.folder or settings.state or None) as at:
        _sweep(Path(at))
        given = {"tests": settings.tests, "folder": at, "peer": settings.peer}
        argv = [sys.executable, "-I", "-S", str(Path(program.__file__)), msgspec.json.encode(given).decode()]
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                said, _ = await process.communicate()
        except TimeoutError:
            return _skipped(settings, f"it took longer than {_PATIENCE:g} s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode:
        return _skipped(settings, f"its process ended with {process.returncode}")
    return [msgspec.json.decode(line) for line in said.splitlines()]


def _sweep(folder: Path) -> None:
    """Remove what those of us have left beside a folder that were killed: our own, older than any that is in use."""
    latest = folder.stat().st_mtime - 2 * _PATIENCE
    for other in folder.parent.glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError):
            status = other.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and status.st_mtime < latest:
                shutil.rmtree(other, ignore_errors=True)


def _skipped(settings: Benchmark, reason: str) -> list[dict[str, Any]]:
    return [{"test": test, "name": test, "skipped": True, "reason": reason} for test in settings.tests]


async def _results(settings: Benchmark) -> list[dict[str, Any]]:
    if why := too_busy(settings, os.getloadavg()[0], os.cpu_count() or 1):
        return _skipped(settings, why)
    try:
        return await measured(settings)
    except OSError as exc:
        return _skipped(settings, f"{exc.filename or 'its process'}: {exc.strerror}")


async def _listening(address: str | None, clock: Clock, opened: AsyncExitStack) -> bool:
    """Answer other hosts, if that is asked for; where the address cannot be had now, that is tried again later."""
    if address is None:
        return True
    try:
        await opened.enter_async_context(Peer(address.rpartition(":")[0].strip("[]"), _port(address), clock))
    except OSError as exc:
        log.warning("cannot listen for other hosts' benchmarks", extra={"address": address, "error": str(exc)})
        return False
    return True


async def emit(settings: Benchmark, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
    async with AsyncExitStack() as opened:
        listening = await _listening(settings.listen, clock, opened)
        last = positions.get("last")
        if last is not None and 0 <= clock.now() - last < settings.every:  # who starts anew does not measure anew
            await clock.until(last + settings.every)
        async for now in clock.every(settings.every):
            listening = listening or await _listening(settings.listen, clock, opened)
            for fields in await _results(settings):
                yield Record(now, fields, position=("last", now))


EMITTER = Emitter("benchmark", Benchmark, emit, {"result": RESULT})
