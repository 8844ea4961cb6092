"""A whole installation of its own in a folder, for a benchmark: its processes, what they tell and what they use."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import psutil

from benchmarks.command import end_with_parent
from benchmarks.flood import Sluice
from benchmarks.node import Node, free_port
from benchmarks.plugged import plugged
from exhaust.commands.client import Client
from exhaust.lifecycle.running import COMPONENTS

EXHAUST: Final = (sys.executable, "-m", "exhaust.main")
_FLOOD: Final = Path(__file__).parent / "flood.py"
_POINTS: Final = {
    "exhaust.emitters": {"flood": "flood:EMITTER"},
    "exhaust.actions": {"flood.answer": "flood:ACTION"},
}
_SITE: Final = """
host: bench
state: {folder}/state
broker: {broker}
http: {{listen: "127.0.0.1:{port}"}}
host_policy: {folder}/policy.yaml
hosts: [{{name: bench}}]
"""
_LOOK_AGAIN: Final = 0.05
_ASK_AGAIN: Final = 6
_READY_WITHIN: Final = 60.0
_STOP_WITHIN: Final = 15.0


@dataclass(frozen=True)
class Moment:
    """Where a flow is: records handled, those on their way, processor seconds used so far, and idled by all cores."""

    time: float
    handled: int
    waiting: float
    used: Mapping[str, float]
    idle: float

    def shares(self, since: "Moment") -> dict[str, float]:
        """Return how much of a core each has used."""
        return {name: (used - since.used.get(name, 0.0)) / (self.time - since.time) for name, used in self.used.items()}


class Installation:
    """Open with `async with`: its components run then, a process each, and nothing of them once it is left.

    `site` is the configuration but for what every installation has to say, and `policy` what its host allows; in both
    `{folder}` is the folder. `components` are those that are needed; all of them run under `exhaust up`.
    """

    def __init__(
        self, folder: Path, node: Node, site: str, policy: str = "", components: Sequence[str] = COMPONENTS
    ) -> None:
        self.folder = folder
        self._node = node
        self._components = tuple(components)
        self._port = free_port()
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._environment = plugged(folder / "plugged", _FLOOD, _POINTS)
        head = _SITE.format(folder=folder, broker=node.url, port=self._port)
        (folder / "site.yaml").write_text(head + site.replace("{folder}", str(folder)))
        (folder / "policy.yaml").write_text(policy.replace("{folder}", str(folder)))
        (folder / "policy.yaml").chmod(0o600)

    async def __aenter__(self) -> Self:
        self._opened = contextlib.AsyncExitStack()
        self._opened.callback(self._end)
        try:
            self.sluice = self._opened.enter_context(Sluice(self.folder))
            if self._components == COMPONENTS:
                self._start("up", "up")
            for name in self._components if not self._started else ():
                self._start(name, "run", name)
            await self.until(self._is_ready, _READY_WITHIN)
        except BaseException:
            await self._opened.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    def _start(self, name: str, *words: str) -> None:
        argv = [*EXHAUST, *words, "--config", str(self.folder / "site.yaml")]
        with (self.folder / "log").open("ab") as log:
            self._started[name] = subprocess.Popen(
                argv,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=partial(end_with_parent, signal.SIGTERM),
            )

    def _end(self) -> None:
        """Stop it in order; kill what does not."""
        left = list(self.processes().values())
        for process in self._started.values():
            process.terminate()
        psutil.wait_procs(left, timeout=_STOP_WITHIN)
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)
        for process in self._started.values():
            process.wait()

    async def _is_ready(self) -> bool:
        assert all(process.poll() is None for process in self._started.values()), self.story()
        found = [await self.status(name) for name in self._components]
        return all(told and told["state"] == "ready" for told in found)

    def story(self) -> str:
        """Return the end of its log."""
        return (self.folder / "log").read_text()[-4000:]

    async def until(self, holds: Callable[[], Awaitable[bool]], within: float) -> None:
        """Wait for what tells no event of its own."""
        end = time.monotonic() + within
        while not await holds():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {within:g} s\n{self.story()}")
            await asyncio.sleep(_LOOK_AGAIN)

    # What is to be seen

    def processes(self) -> dict[str, psutil.Process]:
        """Return what runs of it by name: the components, and `supervisor` where there is one."""
        found = {}
        for name, process in self._started.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                one = psutil.Process(process.pid)
                found["supervisor" if name == "up" else name] = one
                for child in one.children() if name == "up" else ():
                    words = child.cmdline()
                    if "run" in words:
                        found[words[words.index("run") + 1]] = child
        return found

    def used(self) -> dict[str, float]:
        """Return the processor seconds that each component and the broker have used so far."""
        return {name: _seconds(process) for name, process in self.processes().items()} | {"broker": used_by(self._node)}

    def resident(self) -> dict[str, int]:
        """Return the bytes that each component and the broker hold in memory."""
        own = {name: resident([process]) for name, process in self.processes().items()}
        return own | {"broker": resident(tree(self._node.pid))}

    async def status(self, name: str) -> dict[str, Any] | None:
        """Return what a component says of itself, None where it does not answer."""
        connector = aiohttp.UnixConnector(str(self.folder / "state" / "run" / f"{name}.sock"))
        patience = aiohttp.ClientTimeout(total=5.0)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=patience) as session,
                session.get("http://local/status") as answer,
            ):
                found: dict[str, Any] = await answer.json()
                return found
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    async def handled(self) -> int:
        """Return how many records the analyzers are done with."""
        for _ in range(_ASK_AGAIN):
            if told := await self.status("analyzers"):
                return int(told["services"]["analyzers"]["records"].get("records", 0))
        raise TimeoutError(f"the analyzers do not answer\n{self.story()}")

    # The flow of records

    async def moment(self) -> Moment:
        handled, cores = await self.handled(), psutil.cpu_times()
        waiting = self.sluice.get("emitted") - handled
        return Moment(time.time(), handled, waiting, self.used(), float(cores.idle + cores.iowait))

    @contextlib.asynccontextmanager
    async def flowing(self, ahead: int) -> AsyncIterator[None]:
        """Let the emitter make records, but never be more than `ahead` of what the analyzers have handled."""

        async def let() -> None:
            while True:
                self.sluice.set(allowed=await self.handled() + ahead)
                await asyncio.sleep(_LOOK_AGAIN)

        letting = asyncio.create_task(let(), name="flow")
        try:
            yield
        finally:
            letting.cancel()
            await asyncio.wait([letting])
            self.sluice.set(allowed=0.0)
        if not letting.cancelled():
            letting.result()

    async def level(self, within: float = 60.0) -> None:
        """Wait until every record that was emitted is handled."""

        async def all_handled() -> bool:
            return await self.handled() >= self.sluice.get("emitted") + self.sluice.get("gone")

        await self.until(all_handled, within)

    def client(self) -> Client:
        return Client(f"127.0.0.1:{self._port}", self.folder / "state" / "token")


def tree(pid: int | None) -> list[psutil.Process]:
    """Return a process and all below it."""
    if pid is None:
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []


def resident(processes: Sequence[psutil.Process]) -> int:
    """Return the bytes that processes hold in memory."""
    held = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            held += int(process.memory_info().rss)
    return held


def used_by(node: Node) -> float:
    """Return the processor seconds that a node has used so far."""
    return sum(map(_seconds, tree(node.pid)))


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
