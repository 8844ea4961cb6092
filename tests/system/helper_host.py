"""A host under test: its keys, its policy, a helper here or in a process of its own, and who signs commands for it."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agents.channel import Reply, frame, read_frame
from agents.helper import Helper
from agents.journal import Answer
from agents.kept import KeptService
from agents.record import Record
from agents.registry import ACTIONS
from agents.roster import AnyService
from exhaust.broker.embedded import Embedded
from exhaust.clock import SystemClock
from exhaust.lifecycle.service import Station, stop_on_signals
from exhaust.messages import Command
from exhaust.plugins import Action, Outcome, Settings, Tools
from exhaust.processes import Process
from exhaust.signing import Keys

PATIENCE = 20.0
ROOT = Path(__file__).parents[2]
SHOP = KeptService("shop", ("/usr/bin/sleep", "1000"))
POLICY = """
service.start: {}
service.stop: {}
service.restart: {service: [shop, gone]}
test.mark: {}
test.fault: {}
test.rare: {rate: 2/h}
"""


class Mark(Settings, frozen=True, kw_only=True):
    """Append a line to `file`; then, if `hang`, wait for ever."""

    file: str
    hang: bool = False


async def mark(params: Mark, tools: Tools) -> Outcome:
    with Path(params.file).open("a") as out:  # noqa: ASYNC230  written before anything else can happen
        out.write("done\n")
    if params.hang:
        await asyncio.Event().wait()
    return Outcome(changed=True, output={"file": params.file})


async def hang(params: Any, tools: Tools) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


async def fail(params: Any, tools: Tools) -> Outcome:
    raise ZeroDivisionError


async def restart_then_hang(params: Any, tools: Tools) -> Outcome:
    await ACTIONS["service.restart"].act(params, tools)
    return await hang(params, tools)


_RESTART = ACTIONS["service.restart"]
USUAL: dict[str, Action[Any]] = {
    **ACTIONS,
    "test.mark": Action("test.mark", Mark, mark),
    "test.fault": Action("test.fault", Mark, fail),
    "test.rare": Action("test.rare", Mark, mark),
}
CRASHING = {
    "": USUAL,
    "before": {
        **USUAL,
        "service.restart": dataclasses.replace(_RESTART, act=hang),
        "process.signal": dataclasses.replace(ACTIONS["process.signal"], act=hang),
    },
    "after": {**USUAL, "service.restart": dataclasses.replace(_RESTART, act=restart_then_hang)},
}


class Host:
    """One host's state directory, with what tests do to it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.keys = Keys(state / "keys")
        self.policy = state / "policy.yaml"
        if not self.policy.exists():
            self.allow(POLICY)
        self.station = Station("web-01", state, SystemClock(), Embedded(), self.keys)
        self._count = 0

    def allow(self, policy: str) -> None:
        fresh = self.state / "policy.new"
        fresh.write_text(policy)
        fresh.chmod(0o600)
        fresh.replace(self.policy)

    def command(self, action: str, params: dict[str, Any], **changes: Any) -> Command:
        self._count += 1
        now = self.station.clock.now()
        given: dict[str, Any] = {
            "id": f"command-{self._count}", "time": now, "execution": "run", "task": "task", "host": "web-01",
            "action": action, "params": params, "audience": self.keys.signer("agent").fingerprint, "epoch": 1,
            "seq": self._count, "expires": now + 60, "key": f"key-{self._count}", "timeout": 30.0,
        }  # fmt: skip
        return Command(**(given | changes))

    def mark(self, **changes: Any) -> Command:
        """Return a command whose effect is a line in `marks`."""
        command = self.command("test.mark", {"file": str(self.state / "marks")})
        return msgspec.structs.replace(command, **changes)

    @property
    def marks(self) -> int:
        path = self.state / "marks"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def seal(self, command: Command) -> bytes:
        return self.keys.signer("orchestrator").seal(command)

    def record(self, name: str = "shop") -> Record:
        return msgspec.json.decode((self.state / "services" / f"{name}.json").read_bytes(), type=Record)

    def running(self, name: str = "shop") -> bool:
        record = self.record(name)
        return record.pid is not None and Process(record.pid, record.started or 0).alive

    @contextlib.asynccontextmanager
    async def helper(self, *services: AnyService) -> AsyncIterator[Helper]:
        """Run a helper in this process."""
        helper, until = Helper(self.station, self.policy, services, actions=USUAL), asyncio.Event()
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            tasks.create_task(helper.run(until))
            try:
                (await self.connect())[1].close()
                yield helper
            finally:
                until.set()

    @contextlib.contextmanager
    def helper_process(
        self, *services: AnyService, crash: str = "", stderr: int | None = None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a helper in a process of its own, which is killed at the end; `crash` is where its act hangs."""
        (self.state / "services.json").write_bytes(msgspec.json.encode(services))
        argv = [sys.executable, "-m", "tests.system.helper_host", str(self.state), crash]
        with subprocess.Popen(argv, cwd=ROOT, stderr=stderr) as process:
            try:
                yield process
            finally:
                process.kill()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(OSError):
                    return await asyncio.open_unix_connection(str(self.station.sockets / "helper.commands"))
                await asyncio.sleep(0.01)

    async def ask_sealed(self, *envelopes: bytes) -> list[Answer]:
        """Send requests over one connection, and return their answers in the order in which they came."""
        reader, writer = await self.connect()
        writer.write(b"".join(frame(envelope) for envelope in envelopes))
        answers = []
        async with asyncio.timeout(PATIENCE):
            for _ in envelopes:
                body = await read_frame(reader)
                assert body is not None, "the helper hung up"
                answers.append(msgspec.json.decode(body, type=Reply).answer)
        writer.close()
        return answers

    async def ask(self, command: Command) -> Answer:
        return (await self.ask_sealed(self.seal(command)))[0]

    @contextlib.contextmanager
    def news(self) -> Iterator[Callable[[], Any]]:
        """Listen as the emitter of services does; what is given returns the next record that is announced."""
        self.station.sockets.mkdir(exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(self.station.sockets / "service.news"))
            listener.setblocking(False)

            async def following() -> Record:
                async with asyncio.timeout(PATIENCE):
                    text = await asyncio.get_running_loop().sock_recv(listener, 65_536)
                return msgspec.json.decode(text, type=Record)

            yield following

    def end_services(self) -> None:
        for path in (self.state / "services").glob("*.json"):
            record = self.record(path.stem)
            if record.pid and self.running(path.stem):
                os.killpg(record.pid, signal.SIGKILL)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what tells no event of its own."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  it is a file of another process
            await asyncio.sleep(0.005)


async def _run_helper(state: Path, crash: str) -> None:
    services: Sequence[AnyService] = msgspec.json.decode(
        (state / "services.json").read_bytes(), type=tuple[AnyService, ...]
    )
    stop = asyncio.Event()
    stop_on_signals(stop)
    host = Host(state)
    await Helper(host.station, host.policy, services, actions=CRASHING[crash]).run(stop)


if __name__ == "__main__":
    asyncio.run(_run_helper(Path(sys.argv[1]), sys.argv[2]))
