"""One round's installation, with everything around it that disturbs it, writes down, and measures."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.node import Node
from exhaust.errors import UnreachableError
from tests.soak import checks
from tests.soak.checks import Sample, Violation
from tests.soak.echo import Echo
from tests.soak.faults import Disk, FakeClock, Means
from tests.soak.ledgers import Ledgers, Stream, count
from tests.soak.listener import Listener
from tests.soak.proxy import Proxy
from tests.soak.soaked import UP, Soaked

GOOD = ("recovered", "relapsed")
_LOOK_AGAIN = 0.1
_SAMPLE_EVERY = 1.0
_MOST = 1000


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():  # noqa: ASYNC110  it is told by files and processes, which have no event
        await asyncio.sleep(_LOOK_AGAIN)


@dataclass
class Arena:
    """What a round goes on in; `deaths` are the processes of the service that were killed."""

    installation: Soaked
    ledgers: Ledgers
    means: Means
    deaths: set[int] = field(default_factory=set)
    largest: dict[tuple[str, str], Sample] = field(default_factory=dict)

    def kill_service(self) -> int | None:
        """Kill the service if it runs; return which process that was."""
        process = self.installation.service
        if process is None:
            return None
        self.deaths.add(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        return process.pid

    async def canary(self) -> None:
        """Wait for the service to run, kill it, and return once the loop has brought it back and says so."""
        dead: list[int] = []

        async def died() -> bool:
            dead.extend(filter(None, [self.kill_service()]))
            return bool(dead)

        await _until(died)
        await _until(lambda: self._recovered(dead[0]))

    async def _recovered(self, dead: int) -> bool:
        self.ledgers.read()
        pids = [start.pid for start in self.ledgers.starts]
        after = pids[pids.index(dead) + 1 :] if dead in pids else []
        if not after or self.installation.service is None:
            return False
        with contextlib.suppress(UnreachableError):
            runs = await self.installation.client.items("executions", {"workflow": "restart"}, _MOST)
            well = [task["output"] for run in runs if run["verdict"] in GOOD for task in run["tasks"]]
            return any(output and output["pid"] in after for output in well)
        return False

    async def kill(self, *names: str) -> dict[str, int]:
        """Kill components as soon as they are all there; return which processes those were."""

        async def there() -> bool:
            return set(names) <= self.installation.pids().keys()

        await _until(there)
        return self.installation.kill(*names)

    async def flow(self) -> None:
        """Return once the analyzers were shown a number of each stream that was yielded after now."""
        self.ledgers.read()
        after = {name: stream.yielded for name, stream in self.ledgers.streams.items()}

        async def shown() -> bool:
            self.ledgers.read()
            return all(self.ledgers.streams[name].witnessed.highest > number for name, number in after.items())

        await _until(shown)

    async def back(self, name: str, pid: int) -> None:
        """Return once another process has taken the place of `pid`, and is ready."""
        await _until(lambda: self.installation.is_back(name, instead_of=pid))

    async def drained(self) -> None:
        """Return once all that was accepted has come."""

        async def arrived() -> bool:
            self.ledgers.read()
            return all(map(checks.arrived, self.ledgers.streams.values()))

        await _until(arrived)

    async def complete(self) -> None:
        """Return once no batch is left out."""

        async def whole() -> bool:
            return not self.left_out()

        await _until(whole)

    def emitter_starts(self) -> int:
        """Return how often the emitter was started, and so told what is safe."""
        self.ledgers.read()
        return self.ledgers.emitter_starts

    async def emitting(self, starts: int) -> None:
        """Return once the emitter was started more often than that."""

        async def more() -> bool:
            return self.emitter_starts() > starts

        await _until(more)

    def standing(self) -> list[Violation]:
        """Return what is wrong and would be so at any moment, by the ledgers as they are."""
        self.ledgers.read()
        starts = [*checks.restarted(self.ledgers.starts, self.deaths), *checks.alone(self.installation.alive())]
        return [*starts, *checks.repeated(self.ledgers.effects), *self._of_streams(checks.unexplained)]

    def lost(self) -> list[Violation]:
        """Return what is wrong where everything ought to have come."""
        self.ledgers.read()
        return self._of_streams(checks.lost)

    def left_out(self) -> list[Violation]:
        """Return which batches have not come, though later ones have."""
        return self._of_streams(checks.left_out)

    def _of_streams(self, check: Callable[[str, Stream], Iterable[Violation]]) -> list[Violation]:
        return [violation for name, stream in self.ledgers.streams.items() for violation in check(name, stream)]

    async def sample(self) -> None:
        """Keep the largest that each process was seen to hold, once a second."""
        while True:
            for one in self.installation.samples():
                for what in ("memory", "files", "tasks"):
                    key = (one.name, what)
                    if key not in self.largest or getattr(one, what) > getattr(self.largest[key], what):
                        self.largest[key] = one
            await asyncio.sleep(_SAMPLE_EVERY)

    @property
    def counts(self) -> Counter[str]:
        """What was counted so far: numbers accepted, numbers that came again, effects."""
        streams = self.ledgers.streams.values()
        return Counter(
            numbers=sum(count(stream.accepted) for stream in streams),
            duplicates=sum(stream.duplicates for stream in streams),
            dropped=sum(sum(stream.dropped.values()) for stream in streams),
            effects=len(self.ledgers.effects),
        )

    @property
    def memory(self) -> int:
        return max((one.memory for one in self.largest.values()), default=0)


@contextlib.asynccontextmanager
async def arena(
    folder: Path, chance: random.Random, *, disk: bool, clock: bool, up: Sequence[str] = UP
) -> AsyncIterator[Arena]:
    """Open all of it in a folder; with `disk` its state lies on a small one, with `clock` its time can be set."""
    async with contextlib.AsyncExitStack() as opened:
        node = Node()
        await asyncio.to_thread(node.start)
        opened.callback(node.close)
        proxy = await opened.enter_async_context(Proxy(node.port, chance))
        ledgers = Ledgers(folder / "ledgers")
        small = Disk(folder / "state", ledgers.folder) if disk else None
        fake = FakeClock(folder / "clock") if clock else None
        if small is not None:
            small.mount()
            opened.callback(small.unmount)
        await opened.enter_async_context(Listener(node.url, ledgers.hear))
        broker = node.url.replace(str(node.port), str(proxy.port))
        extra = fake.environment if fake else {}
        installation = Soaked(folder, broker, ledgers.folder, up=up, extra=extra)
        await opened.enter_async_context(installation)
        await asyncio.to_thread(node.settle)
        found = Arena(installation, ledgers, Means(node, proxy, Echo(node.url, chance), small, fake))
        sampling = asyncio.create_task(found.sample(), name="sampling")
        try:
            yield found
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])


def sweep(folder: Path) -> None:
    """Remove what an earlier run that was killed has left: processes, services that outlive them, a disk, files."""
    service, config = f"EXHAUST_SERVICE={folder}/".encode(), f"{folder}/site.yaml".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            marks = (process / "environ").read_bytes().split(b"\0")
            if config in words or any(mark.startswith(service) for mark in marks):
                os.kill(int(process.name), signal.SIGKILL)
    if (folder / "state").is_mount():
        Disk(folder / "state", folder).unmount()
    shutil.rmtree(folder, ignore_errors=True)
