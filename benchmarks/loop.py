"""Kill a service again and again, and time the whole loop: death to command, to restart, to verdict.

Prints p50 and p99 in milliseconds beside a floor measured in the same run: six confirmed broker hops, eight durable
commits and one spawn, one after the other, in one process.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import monit
from benchmarks.command import Findings, end_with_parent
from benchmarks.installation import tree
from benchmarks.machine import prose, quantiles, save, table, typed
from benchmarks.node import Node, free_port
from benchmarks.packages import MissingError
from exhaust.broker.interface import ACKNOWLEDGE, Binding, Delivery, Disposition, Publication, Queue
from exhaust.broker.rabbitmq import RabbitMQ
from exhaust.commands.client import Client
from exhaust.processes import spawn
from exhaust.store import Store

RUN = ["-m", "exhaust.main", "run"]
CONFIGURATION = """
host: bench
state: {folder}/state
broker: {broker}
http: {{listen: "127.0.0.1:{port}"}}
host_policy: {folder}/policy.yml
hosts: [{{name: bench}}]
emitters:
  - use: service
    every: 1s
    services: [{{name: victim, provider: kept, argv: [/bin/sleep, "100000"]}}]
analyzers:
  - {{use: condition, fact: service.down, on: service.state, when: record.state != "running", by: [service]}}
rules:
  - name: restart
    on: service.down
    run: restart
    with: {{service: "${{{{ cause.labels.service }}}}"}}
    mode: auto
    guard: {{cooldown: 0s, limit: {{runs: 1000000}}}}
workflows:
  - name: restart
    inputs: {{service: string}}
    tasks: [{{name: restart, use: agent, do: service.restart, with: {{service: "${{{{ inputs.service }}}}"}}}}]
    verify: {{closes: cause, within: 10s}}
"""


class Loop:
    """A running installation whose one service can be killed."""

    def __init__(self, folder: Path, broker: str) -> None:
        self._folder = folder
        self._port = free_port()
        self.up = 0
        (folder / "conf").mkdir()
        text = CONFIGURATION.format(folder=folder, broker=broker, port=self._port)
        (folder / "conf" / "site.yaml").write_text(text)
        (folder / "policy.yml").write_text("service.restart: {service: [victim]}\n")
        (folder / "policy.yml").chmod(0o600)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        with (self._folder / "up.log").open("w") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "exhaust.main",
                "up",
                "--config",
                str(self._folder / "conf"),
                stdout=log,
                stderr=log,
                preexec_fn=partial(end_with_parent, signal.SIGTERM),
            )
        self.up = process.pid
        try:
            await self._until(lambda: (self._folder / "state" / "token").exists() and self.pid())
            async with Client(f"127.0.0.1:{self._port}", self._folder / "state" / "token") as client:
                await self._answering(client)
                yield client
        finally:
            process.terminate()
            await process.wait()
            if (pid := self.pid()) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def _answering(self, client: Client) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):
                status = await client.get("/status")
                if any(row["emitter"] == "service" for row in status["ledger"]):
                    return
            await asyncio.sleep(0.1)
        raise TimeoutError((self._folder / "up.log").read_text())

    async def _until(self, condition: Any) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError((self._folder / "up.log").read_text())
            await asyncio.sleep(0.05)

    def pid(self) -> int | None:
        try:
            return int(json.loads((self._folder / "state" / "services" / "victim.json").read_text())["pid"])
        except (OSError, ValueError, TypeError):
            return None

    def kill(self) -> float:
        pid = self.pid()
        assert pid is not None
        now = time.time()
        os.kill(pid, signal.SIGKILL)
        return now


async def measure(
    client: Client, loop: Loop, kills: int, apart: float, floor: "Floor | None"
) -> list[dict[str, float]]:
    """Kill, follow the messages until the verdict, and note the milliseconds since the death."""
    found: list[dict[str, float]] = []
    events: asyncio.Queue[tuple[float, dict[str, Any]]] = asyncio.Queue()

    async def follow(kind: str) -> None:
        async for message in client.events(kind):
            events.put_nowait((time.time(), message))

    following = [asyncio.create_task(follow(kind)) for kind in ("fact", "decision", "execution")]
    await asyncio.sleep(0.5)
    try:
        for number in range(kills):
            death = loop.kill()
            found.append(await _one(events, death))
            if floor is not None and number % 4 == 0:
                await floor.sample()
            rest = death + apart - time.time()
            if rest > 0:
                await asyncio.sleep(rest)
            if sys.stderr.isatty():
                print(f"\r{number + 1}/{kills}", end="", file=sys.stderr)
    finally:
        for task in following:
            task.cancel()
    return found


async def _one(events: asyncio.Queue[tuple[float, dict[str, Any]]], death: float) -> dict[str, float]:
    steps: dict[str, float] = {}
    while "seen" not in steps:
        arrived, message = await asyncio.wait_for(events.get(), 20)
        if message["time"] < death or message.get("verdict") == "relapsed":
            continue  # this kill is the relapse of the run before
        if message["kind"] == "fact/1" and message["reason"] != "expired":
            steps[message["state"]] = message["time"] - death
            steps["noticed" if message["state"] == "open" else "running"] = message["evidence"][-1]["time"] - death
        elif message["kind"] == "decision/1" and message["outcome"] == "fired":
            steps["decided"] = message["time"] - death
        elif message.get("task") and message["state"] == "running":
            steps["command"] = message["time"] - death
        elif message.get("task"):
            steps["restarted"] = (message.get("started") or message["time"]) - death
        elif message.get("verdict"):
            assert message["verdict"] == "recovered", message
            steps["verdict"] = message["time"] - death
            steps["seen"] = arrived - death
    return {name: 1000 * seconds for name, seconds in steps.items()}


class Floor:
    """Six hops, eight commits, one spawn."""

    def __init__(self, broker: RabbitMQ, store: Store) -> None:
        self._broker = broker
        self._store = store
        self._arrived = asyncio.Event()
        self._count = 0
        self.samples: list[float] = []

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
        self._arrived.set()
        return [ACKNOWLEDGE] * len(deliveries)

    async def sample(self) -> None:
        began = time.perf_counter()
        for _ in range(6):
            self._arrived.clear()
            self._count += 1
            await self._broker.publish(
                Publication("exhaust.floor", "floor", f"floor-{self._count}", "floor/1", b"x" * 500, time.time())
            )
            await self._arrived.wait()
        for number in range(8):
            self._store.commit(keep={f"floor/{number}": b"x" * 500})
        spawn(["/bin/true"], env={})
        self.samples.append(1000 * (time.perf_counter() - began))


MONIT_KILLS = 15
FLOOR = Queue("exhaust.floor", (Binding("exhaust.floor", "#"),))


@contextlib.asynccontextmanager
async def floor_of(url: str, folder: Path) -> AsyncIterator[Floor]:
    async with RabbitMQ(url, name="floor") as broker:
        await broker.declare(["exhaust.floor"], [FLOOR])
        with Store(folder / "floor.db") as store:
            floor = Floor(broker, store)
            async with broker.consume(FLOOR, floor.handle):
                yield floor


def processor_seconds(up: int, node: int | None) -> dict[str, float]:
    """Return what each process of the loop and of the broker has used of a processor so far."""
    used: dict[str, float] = {}
    for process in (*tree(up), *tree(node)):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            name = words[4] if words[1:4] == RUN else "broker" if "beam.smp" in " ".join(words[:1]) else ""
            if name:
                times = process.cpu_times()
                used[name] = used.get(name, 0.0) + times.user + times.system
    return used


def findings(found: Sequence[dict[str, float]], floor: Sequence[float], label: str, *notes: str) -> Findings:
    steps = {f"  {name}": [one[name] for one in found if name in one] for name in ("noticed", "open", "decided")}
    steps |= {
        "death → command": [one["command"] for one in found],
        "death → restarted": [one["restarted"] for one in found],
        **{f"  {name}": [one[name] for one in found if name in one] for name in ("running", "closed")},
        "death → verdict": [one["verdict"] for one in found],
        "death → verdict seen over HTTP": [one["seen"] for one in found],
    }
    if floor:
        steps["floor: 6 hops, 8 commits, 1 spawn"] = list(floor)
    rows: list[dict[str, Any]] = []
    for name, values in steps.items():
        p50, p99 = quantiles(values)
        rows.append(
            {"step": name.strip(), "p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "most_ms": round(max(values), 1)}
        )
    lines = [(name, *list(row.values())[1:]) for name, row in zip(steps, rows, strict=True)]
    text = "\n".join((table((f"{label}, {len(found)} kills, ms", "p50", "p99", "max"), lines), *notes))
    return Findings("Loop: a service is killed, restarted, and verified to be back", text, rows)


async def compared_with_monit(folder: Path) -> str:
    try:
        peer = await monit.measure(folder / "monit", MONIT_KILLS)
    except MissingError as error:
        return f"monit was not measured: {error}"
    p50, p99 = quantiles(peer.found)
    return f"{peer.name}, {peer.configuration}, {len(peer.found)} kills: restarted p50 {p50:.0f} ms, p99 {p99:.0f} ms"


async def bench(folder: Path, kills: int, apart: float, embedded: bool) -> Findings:
    if embedded:
        loop = Loop(folder, "embedded")
        async with loop.running() as client:
            return findings(await measure(client, loop, kills, apart, None), [], "embedded")
    with Node(folder / "node") as node:
        loop = Loop(folder, node.url)
        async with loop.running() as client, floor_of(node.url, folder) as floor:
            await measure(client, loop, 5, 0.2, None)
            before = processor_seconds(loop.up, node.pid)
            found = await measure(client, loop, kills, apart, floor)
            after = processor_seconds(loop.up, node.pid)
    used = ", ".join(f"{name} {1000 * (after[name] - before.get(name, 0)) / kills:.1f}" for name in after)
    compared = await compared_with_monit(folder)
    return findings(found, floor.samples, "RabbitMQ", prose(f"processor milliseconds a kill: {used}"), compared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--apart", type=float, default=1.0, help="seconds between kills")
    parser.add_argument("--embedded", action="store_true", help="without RabbitMQ, all in one process")
    parser.add_argument("--quick", action="store_true", help="a smoke run of a few kills")
    options = parser.parse_args()
    kills, apart = (5, 0.3) if options.quick else (options.kills, options.apart)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = Path(tempfile.mkdtemp(prefix="exhaust-bench-"))
    try:
        found = asyncio.run(bench(folder, kills, apart, options.embedded))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(found.text)
    if not options.embedded:
        save("loop", title=found.title, command=typed("loop"), text=found.text, rows=found.rows, quick=options.quick)


if __name__ == "__main__":
    main()
