"""A whole installation in a folder: `exhaust up` as a child, one kept service, and whatever may be done to both."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp
import psutil

from benchmarks.node import free_port
from exhaust.commands.client import Client
from exhaust.errors import UnreachableError
from exhaust.lifecycle.running import COMPONENTS
from exhaust.processes import Process, ended, find

ROOT = Path(__file__).parents[2]
UP = (sys.executable, "-m", "exhaust.main", "up")
Environment = Mapping[str, str]
PATIENCE = 60.0
SERVICE = "shop"
_LOOK_AGAIN = 0.02
_WITHOUT_NEWS = 0.5
_MOST = 10_000
# A start of the service is a line in the ledger, written before anything else: its pid, and seconds since boot.
_PROGRAM = 'read -r up rest < /proc/uptime; echo \\"$$ $up\\" >> {ledger}; exec sleep 100000'
_CONFIGURATION = """
host: home
state: {state}
broker: {broker}
http: {{listen: "127.0.0.1:{port}"}}
host_policy: {policy}
hosts: [{{name: home}}]
emitters:
  - use: service
    every: 1s
    services: [{{name: {service}, provider: kept, argv: [/bin/sh, -c, "{program}"]}}]
analyzers:
  - {{use: condition, fact: service.down, on: service.state, when: record.state != "running", by: [service]}}
rules:
  - name: restart
    on: service.down
    run: restart
    with: {{service: "${{{{ cause.labels.service }}}}"}}
    mode: auto
    guard: {{cooldown: 0s, attempts: 100000, limit: {{runs: 100000}}}}
workflows:
  - name: restart
    inputs: {{service: string}}
    tasks: [{{name: restart, use: agent, do: service.restart, with: {{service: "${{{{ inputs.service }}}}"}}}}]
    verify: {{closes: cause, within: {within}}}
"""


class Start(NamedTuple):
    """One start of the service, as the service itself wrote it down."""

    pid: int
    uptime: float


class Installation:
    """Open with `async with`: when that is left, nothing runs any more that was started here, before it or inside.

    `within` is how long a run of the workflow waits for the evidence that the service is back; `up` is the command
    that keeps all of it running, in the environment `env`.
    """

    def __init__(
        self, folder: Path, broker: str, *, within: str = "30s", up: Sequence[str] = UP, env: Environment = os.environ
    ) -> None:
        self._command, self._environment = up, env
        self.state = folder / "state"
        self.ledger = folder / "ledger"
        self.log = folder / "up.log"
        self.embedded = broker == "embedded"
        self.names = ("all",) if self.embedded else COMPONENTS
        self.port = port = free_port()
        self._listen = f"127.0.0.1:{port}"
        self.config = folder / "site.yaml"
        self._up: subprocess.Popen[bytes] | None = None
        self._following: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        policy = folder / "policy.yaml"
        policy.write_text(f"service.restart: {{service: [{SERVICE}]}}\n")
        policy.chmod(0o600)
        program = _PROGRAM.format(ledger=self.ledger)
        given = {"state": self.state, "broker": broker, "port": port, "policy": policy, "within": within}
        self.config.write_text(_CONFIGURATION.format(**given, service=SERVICE, program=program))

    async def __aenter__(self) -> Self:
        self._opened = contextlib.AsyncExitStack()
        self._opened.callback(self.end)
        try:
            if self._up is None:
                await self.start()
            client = Client(self._listen, self.state / "token")
            self.client = await self._opened.enter_async_context(client)
            await self.until(self.is_ready)
            self._following = [asyncio.create_task(self._follow(kind)) for kind in ("fact", "execution")]
        except BaseException:
            await self._opened.aclose()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._following:
            task.cancel()
        await asyncio.wait(self._following)
        await self._opened.aclose()

    # What is done to it

    async def start(self) -> None:
        """Run `exhaust up`, and return when its key is there to ask with."""
        with self.log.open("ab") as log:
            argv = [*self._command, "--config", str(self.config)]
            self._up = subprocess.Popen(  # noqa: ASYNC220
                argv, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        await self.until(self._has_token)

    async def stop(self) -> float:
        """Tell `exhaust up` to stop; return after how many seconds all that it had started has ended."""
        assert self._up is not None
        began, left = time.monotonic(), [find(pid) for pid in (self._up.pid, *self.pids().values())]
        self._up.terminate()
        await asyncio.gather(*(end_of(process) for process in left if process))
        self._up.wait()
        self._up = None
        return time.monotonic() - began

    def kill(self, *names: str) -> dict[str, int]:
        """SIGKILL components; return what were their pids."""
        pids = self.pids()
        return {name: _kill(pids[name]) for name in names}

    def kill_service(self, *names: str, after: float = 0.0) -> tuple[float, dict[str, int]]:
        """SIGKILL the service, and components exactly `after` seconds later; return the time and their pids."""
        process, pids = self.service, self.pids()
        assert process is not None, self.story()
        now, began = time.time(), time.monotonic()
        _kill(process.pid)
        if names:
            time.sleep(max(0.0, after - (time.monotonic() - began)))
        return now, {name: _kill(pids[name]) for name in names}

    def hang(self, name: str) -> int:
        """SIGSTOP a component: it stays and does nothing any more; return its pid."""
        pid = self.pids()[name]
        os.kill(pid, signal.SIGSTOP)
        return pid

    def reload(self) -> None:
        """Tell `exhaust up` to read its configuration again."""
        assert self._up is not None
        self._up.send_signal(signal.SIGHUP)

    # What is to be seen

    @property
    def service(self) -> Process | None:
        """The service's process while it runs."""
        try:
            record = json.loads((self.state / "services" / f"{SERVICE}.json").read_text())
        except FileNotFoundError:
            return None
        process = Process(record["pid"] or 0, record["started"] or 0)
        return process if process.alive else None

    def starts(self) -> list[Start]:
        """Return every start of the service so far."""
        lines = self.ledger.read_text().split("\n")[:-1] if self.ledger.exists() else []
        return [Start(int(pid), float(uptime)) for pid, uptime in map(str.split, lines)]

    def alive(self) -> list[int]:
        """Return the pids of all starts that run still."""
        return [start.pid for start in self.starts() if self._is_ours(start.pid)]

    def pids(self) -> dict[str, int]:
        """Return the processes that `exhaust up` keeps, by the name of their socket."""
        assert self._up is not None
        found = {}
        for child in psutil.Process(self._up.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                words = child.cmdline()
                if "run" in words and child.status() != psutil.STATUS_ZOMBIE:
                    names = words[words.index("run") + 1 : words.index("--config")]
                    found["all" if len(names) > 1 else names[0]] = child.pid
        return found

    async def status(self, name: str) -> dict[str, Any] | None:
        """Return what a process says of itself, None where it does not answer."""
        connector = aiohttp.UnixConnector(str(self.state / "run" / f"{name}.sock"))
        patience = aiohttp.ClientTimeout(total=5.0)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=patience) as session,
                session.get("http://local/status") as answer,
            ):
                found: dict[str, Any] = await answer.json()
                return found
        except (aiohttp.ClientError, OSError):
            return None

    async def is_back(self, name: str, *, instead_of: int = 0) -> bool:
        """Tell whether a process other than `instead_of` runs, with its broker, and its store where it has one."""
        pid = self.pids().get(name, 0)
        told = await self.status(name) if pid != instead_of else None
        if told is None or told["pid"] != pid or told["state"] != "ready":
            return False
        return all(row.get("state") != "standby" for row in told["services"].values())

    async def is_ready(self) -> bool:
        """Tell whether all of it runs, the service too, and the service has written down its start."""
        service, starts = self.service, self.starts()
        if service is None or not starts or starts[-1].pid != service.pid:
            return False
        return all(await asyncio.gather(*map(self.is_back, self.names))) and await self._answers()

    async def is_watched(self) -> bool:
        """Tell whether the supervisor has heard each child say that it is well, so that a hang is one from now on."""
        told = await self.status("supervisor")
        return told is not None and all(row["state"] == "running" for row in told["children"].values())

    async def items(self, kind: str, **filters: str) -> list[dict[str, Any]]:
        """Return all of a kind, the newest first; nothing while nobody answers."""
        return await self.client.items(kind, filters, _MOST)

    async def is_at_rest(self, since: float) -> bool:
        """Tell whether a run begun after `since` has ended, none goes on, nothing is wrong, and the service runs."""
        try:
            runs = await self.items("executions")
            facts = await self.items("facts", state="open")
        except UnreachableError:
            return False
        over = all(run["ended"] is not None for run in runs)
        well = [run for run in runs if run["time"] >= since and run["verdict"] in ("recovered", "relapsed")]
        service, starts = self.service, self.starts()
        return bool(over and well and not facts and service and starts[-1].pid == service.pid)

    def unsent(self) -> dict[str, int]:
        """Return how many publications lie in each component's store."""
        found = {}
        for path in self.state.glob("*.db"):
            with (
                contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store,
                contextlib.suppress(sqlite3.OperationalError),  # it has only just been made
            ):
                found[path.stem] = int(store.execute("SELECT count(*) FROM outbox").fetchone()[0])
        return found

    def errors(self) -> list[str]:
        """Return what was logged as an error, but for what a killed process is the reason of."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if " error " in line and "child ended, starting it again" not in line]

    def story(self) -> str:
        """Return what helps to see why something did not come."""
        seen = f"alive {self.alive()}, starts {self.starts()[-3:]}, unsent {self.unsent()}"
        return f"{seen}\n{self.log.read_text()[-6000:]}"

    # Waiting

    async def until(self, holds: Callable[[], Awaitable[bool]], within: float = PATIENCE) -> float:
        """Wait for what tells no event of its own; return after how many seconds it was so."""
        began = time.monotonic()
        while not await holds():
            if time.monotonic() - began > within:
                raise TimeoutError(f"not within {within:g} s\n{self.story()}")
            await asyncio.sleep(_LOOK_AGAIN)
        return time.monotonic() - began

    async def until_back(self, name: str, pid: int, within: float) -> float:
        """Wait until another process has taken the place of `pid`; return after how many seconds it had."""

        async def back() -> bool:
            return await self.is_back(name, instead_of=pid)

        return await self.until(back, within)

    async def rest(self, since: float, within: float = PATIENCE) -> None:
        """Wait until the loop is at rest after what was done at `since`; it is asked whenever there is news."""
        end = time.monotonic() + within
        while True:
            self._news.clear()
            if await self.is_at_rest(since):
                return
            if time.monotonic() > end:
                runs = await self.items("executions")
                raise TimeoutError(f"no rest within {within:g} s: {runs[:3]}\n{self.story()}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _WITHOUT_NEWS)

    async def _follow(self, kind: str) -> None:
        while True:
            with contextlib.suppress(UnreachableError):
                async for _ in self.client.events(kind):
                    self._news.set()
            await asyncio.sleep(_LOOK_AGAIN)

    async def _has_token(self) -> bool:
        assert self._up is not None
        assert self._up.poll() is None, self.story()
        return (self.state / "token").exists()

    async def _answers(self) -> bool:
        with contextlib.suppress(UnreachableError):
            return bool(await self.client.get("/readyz"))
        return False

    # The end

    def _is_ours(self, pid: int) -> bool:
        mark = f"EXHAUST_SERVICE={self.state}/services/{SERVICE}.json".encode()
        with contextlib.suppress(OSError):
            return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False

    def end(self) -> None:
        """Kill what is left: the supervisor first, lest it start anew what is killed next."""
        if self._up is not None:
            left = self.pids()
            self._up.kill()
            self._up.wait()
            for pid in left.values():
                _kill(pid)
            self._up = None
        for pid in self.alive():
            _kill(pid)


def _kill(pid: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return pid


async def end_of(process: Process) -> None:
    """Wait until a process has ended."""
    pidfd = process.open()
    if pidfd is not None:
        try:
            await ended(pidfd)
        finally:
            os.close(pidfd)
