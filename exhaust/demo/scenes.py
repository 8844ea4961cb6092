"""The two scenes: a service that dies and comes back, and one that cannot."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from exhaust.broker import scratch
from exhaust.broker.interface import Queue
from exhaust.commands.client import Client
from exhaust.errors import ExhaustError, UnreachableError, UsageError
from exhaust.lifecycle.supervisor import SUPERVISOR
from exhaust.processes import find, send
from exhaust.routing import EXCHANGES, QUEUES, agent_queue, control_queue

HOST = "demo"
_READY_WITHIN = 60.0
_SCENE_WITHIN = 30.0
_STOP_WITHIN = 15.0
_PAUSE = 0.25
_FILES = ("site.yaml", "policy.yml", "shop.py", "worker.py")


@dataclass(frozen=True)
class Step:
    """One line of a time-line: `ms` since the death."""

    scene: int
    step: str
    ms: float
    id: str
    more: dict[str, Any] = field(default_factory=dict)


Tell = Callable[[Step], None]


class Stage:
    """A scratch installation, run by `exhaust up` as a child of ours."""

    def __init__(self, folder: Path, broker: str, borrowed: list[Queue]) -> None:
        self.folder = folder
        self._borrowed = borrowed
        self._broker = broker
        self._port = _free_port()
        places = {"BROKER": broker, "PORT": str(self._port), "PYTHON": sys.executable, "FOLDER": str(folder)}
        for name in _FILES:
            text = resources.files("exhaust.demo").joinpath(name).read_text()
            for place, value in places.items():
                text = text.replace(f"@{place}@", value)
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        (folder / "worker.ok").touch()

    @contextlib.asynccontextmanager
    async def set(self) -> AsyncIterator[Client]:
        """Start everything, wait until the loop sees both services; stop everything at the end."""
        log = (self.folder / "up.log").open("wb")
        argv = (sys.executable, "-m", "exhaust.main", "up", "--config", str(self.folder / "site.yaml"))
        own = find(os.getpid())
        env = {**os.environ, SUPERVISOR: f"{own.pid}@{own.started}"} if own else dict(os.environ)
        child = await asyncio.create_subprocess_exec(*argv, stdout=log, stderr=log, env=env, start_new_session=True)
        try:
            await self._ready(child, (self.state / "token").exists)
            async with Client(f"127.0.0.1:{self._port}", self.state / "token") as client:
                await self._ready(child, partial(self._seen, client))
                yield client
        finally:
            await self._strike(child)
            log.close()

    @property
    def state(self) -> Path:
        return self.folder / "state"

    async def _ready(self, child: asyncio.subprocess.Process, asked: Callable[[], Any]) -> None:
        """Ask until the answer is yes."""
        try:
            async with asyncio.timeout(_READY_WITHIN):
                while not (answer := asked()) or (isinstance(answer, Coroutine) and not await answer):
                    self._alive(child)
                    await asyncio.sleep(0.05)
        except TimeoutError as exc:
            raise ExhaustError(f"the loop did not start within {_READY_WITHIN:g} s: see {self.folder}/up.log") from exc

    def _alive(self, child: asyncio.subprocess.Process) -> None:
        if child.returncode is not None:
            last = (self.folder / "up.log").read_text().strip().splitlines()[-1:]
            raise ExhaustError(f"the loop could not start: {last[0] if last else 'it said nothing'}")

    async def _seen(self, client: Client) -> bool:
        """Whether every component is ready and both services' state has arrived."""
        try:
            status = await client.get("/status")
        except UnreachableError:
            return False
        heard = {row["emitter"] for row in status["ledger"] if row["records"] >= 2}
        ready = all(one["state"] in ("ready", "leading") for one in status["components"].values())
        return ready and len(status["components"]) >= 7 and "service" in heard and self.pid("worker") > 0

    async def _strike(self, child: asyncio.subprocess.Process) -> None:
        if child.returncode is None:
            child.terminate()
            try:
                await asyncio.wait_for(child.wait(), _STOP_WITHIN)
            except TimeoutError:
                child.kill()
                await child.wait()
        for name in ("shop", "worker"):
            end(self.pid(name))
        if self._broker != "embedded":
            await scratch.remove(self._broker, EXCHANGES, self._borrowed)

    def pid(self, service: str) -> int:
        """Return the service's pid by the helper's record; 0 where there is none."""
        try:
            return int(msgspec.json.decode((self.state / "services" / f"{service}.json").read_bytes())["pid"] or 0)
        except (OSError, msgspec.MsgspecError):
            return 0


def queues() -> list[Queue]:
    """Return every queue that the demo uses on a broker."""
    own = [agent_queue(HOST), control_queue(HOST)]
    return [queue for component in QUEUES.values() for queue in component] + own


def end(pid: int) -> None:
    """Kill one of our own services, if it runs."""
    process = find(pid) if pid else None
    pidfd = process.open() if process else None
    if pidfd is not None:
        send(pidfd, signal.SIGKILL)
        os.close(pidfd)


class Play:
    """Kills a service and follows what the loop does about it, message by message."""

    def __init__(self, stage: Stage, client: Client, tell: Tell) -> None:
        self._stage = stage
        self._client = client
        self._tell = tell

    async def scene(self, number: int, service: str) -> Iterator[Step]:
        """Kill the service; return the steps once its end is known: a verdict, or a notice after the last one."""
        steps: list[Step] = []
        messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            kinds = ("fact", "decision", "execution")
            followers = [group.create_task(self._follow(kind, messages)) for kind in kinds]
            await self._following(messages, len(kinds))
            death = time.time()
            end(self._stage.pid(service))
            reader = Reader(number, service, death)
            steps.append(Step(number, "death", 0.0, ""))
            deadline = asyncio.get_running_loop().time() + _SCENE_WITHIN
            with contextlib.suppress(TimeoutError):
                while not reader.over:
                    told = len(steps)
                    async for message in _together(messages, deadline):
                        steps.extend(reader.read(message))
                    steps[told:] = sorted(steps[told:], key=lambda step: step.ms)
                    for step in steps[told if told > 1 else 0 :]:
                        self._tell(step)
            for follower in followers:
                follower.cancel()
        return iter(steps)

    async def _follow(self, kind: str, messages: asyncio.Queue[dict[str, Any]]) -> None:
        messages.put_nowait({"kind": "following"})
        async for message in self._client.events(kind):
            messages.put_nowait(message)

    async def _following(self, messages: asyncio.Queue[dict[str, Any]], count: int) -> None:
        """Wait until every stream of events is open: what came before is not missed by one that came late."""
        for _ in range(count):
            await messages.get()
        await self._client.get("/status")


async def _together(messages: asyncio.Queue[dict[str, Any]], deadline: float) -> AsyncIterator[dict[str, Any]]:
    """Yield messages until there is a pause: they come by several queues, and are told in the order of their times.

    Raises TimeoutError where nothing comes before the deadline.
    """
    async with asyncio.timeout_at(deadline):
        first = await messages.get()
    yield first
    with contextlib.suppress(TimeoutError):
        while True:
            yield await asyncio.wait_for(messages.get(), _PAUSE)


class Reader:
    """Turns messages about one service's fault into steps."""

    def __init__(self, scene: int, service: str, death: float) -> None:
        self._scene = scene
        self._service = service
        self._death = death
        self._ours: set[str] = set()
        self._notices: set[str] = set()
        self._early: list[dict[str, Any]] = []
        self._runs = 0
        self._pids: set[int] = set()
        self.over = False

    def read(self, message: dict[str, Any]) -> Iterator[Step]:
        """Return the steps that a message shows, and those of earlier ones that nobody could place until now."""
        early, self._early = self._early, []
        for one in (message, *early):
            yield from self._one(one)

    def _one(self, message: dict[str, Any]) -> Iterator[Step]:
        match message:
            case {"kind": "fact/1", "name": name} if name == f"{self._service}.down":
                yield from self._fact(message)
            case {"kind": "decision/1", "cause": cause} if cause in self._ours:
                yield from self._decision(message)
            case {"kind": "execution/1", "execution": execution} if execution in self._ours:
                yield from self._execution(message)
            case {"kind": "decision/1" | "execution/1"}:
                self._early.append(message)

    def _step(self, name: str, time: float, id_: str, **more: Any) -> Step:
        return Step(self._scene, name, round(1000 * (time - self._death), 1), id_, more)

    def _fact(self, fact: dict[str, Any]) -> Iterator[Step]:
        record = fact["evidence"][-1]
        if fact["state"] == "open" and fact["episode"] not in self._ours:
            self._ours.add(fact["episode"])
            yield self._step("noticed", record["time"], record["id"], state=record["state"])
            yield self._step("fact_opened", fact["time"], fact["id"], summary=fact["summary"])
        elif fact["state"] == "closed":
            yield from self._restarted(record["time"], record["id"], record["pid"])
            yield self._step("fact_closed", fact["time"], fact["id"], reason=fact["reason"])

    def _restarted(self, time: float, id_: str, pid: int) -> Iterator[Step]:
        """Told by the agent's result and by the record that closes the fact, whichever comes first."""
        if pid not in self._pids:
            self._pids.add(pid)
            yield self._step("restarted", time, id_, pid=pid)

    def _decision(self, decision: dict[str, Any]) -> Iterator[Step]:
        if decision.get("execution"):
            self._ours.add(decision["execution"])
        if decision["rung"] and decision["outcome"] == "fired":
            self._notices.add(decision["execution"])
        reasons = [reason["guard"] for reason in decision["reasons"]]
        outcome: dict[str, Any] = {"outcome": decision["outcome"]}
        if reasons:
            outcome["by"] = reasons
        if decision["rung"]:
            outcome["rung"] = decision["rung"]
        yield self._step("decision", decision["time"], decision["id"], **outcome)

    def _execution(self, event: dict[str, Any]) -> Iterator[Step]:
        notice = event["execution"] in self._notices
        if event.get("task"):
            if event["state"] == "running" and not notice:
                self._runs += 1
                yield self._step("command", event["time"], event["id"], attempt=self._runs)
            elif event["state"] == "succeeded" and not notice:
                yield from self._restarted(event["started"], event["id"], event["output"]["pid"])
            elif event["state"] == "succeeded" and notice:
                self.over = True
                yield self._step("notified", event["time"], event["id"], text=event["output"]["text"])
        elif event.get("verdict") and not notice:
            self.over = event["verdict"] == "recovered"
            yield self._step("verdict", event["time"], event["id"], verdict=event["verdict"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def play(broker: str, tell: Tell) -> bool:
    """Play both scenes; return whether the loop did right in both."""
    borrowed: list[Queue] = []
    if broker != "embedded":
        if not broker.startswith(("amqp://", "amqps://")):
            raise UsageError(f"--broker takes embedded or amqp://user:password@host:port/vhost, got '{broker}'")
        borrowed = await scratch.absent(broker, queues())
    folder = Path(tempfile.mkdtemp(prefix="exhaust-demo-"))
    try:
        stage = Stage(folder, broker, borrowed)
        async with stage.set() as client:
            director = Play(stage, client, tell)
            before = stage.pid("shop")
            first = list(await director.scene(1, "shop"))
            came_back = stage.pid("shop") not in (0, before)
            (folder / "worker.ok").unlink()
            second = list(await director.scene(2, "worker"))
    except ExhaustError:
        raise  # it names the log in the folder, which must stay
    except BaseException:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
    return came_back and _verdicts(first) == ["recovered"] and set(_verdicts(second)) == {"not_recovered"}


def _verdicts(steps: list[Step]) -> list[str]:
    return [step.more["verdict"] for step in steps if step.step == "verdict"]
