"""The same fault, and the same ten conditions, under ansible-rulebook: death to restart, and events a second."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from benchmarks.command import end_with_parent
from benchmarks.flood import FIELDS, Source
from benchmarks.installation import resident, tree
from benchmarks.packages import java, python
from benchmarks.peer import Peer
from benchmarks.victim import Victim

VERSION: Final = "1.3.2"
_PACKAGES: Final = (f"ansible-rulebook=={VERSION}", "ansible-core==2.19.14")
# The quickest of what it can do: no facts gathered, no module copied.
_PLAYBOOK: Final = [{"hosts": "localhost", "gather_facts": False, "tasks": [{"ansible.builtin.raw": "{start}"}]}]
_DEATHS: Final = """
import asyncio, os
from pathlib import Path

async def main(queue, args):
    ledger, known = Path(args["ledger"]), 0
    while True:
        starts = ledger.read_text().splitlines() if ledger.exists() else []
        if len(starts) > known:
            known = len(starts)
            pidfd = os.pidfd_open(int(starts[-1].split()[0]))
            Path("watching").touch()
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(pidfd, ended.set)
            await ended.wait()
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)
            await queue.put({"service": "victim", "state": "down"})
        await asyncio.sleep(0.005)
"""
_FLOOD: Final = """
import asyncio, json, time
from pathlib import Path

async def main(queue, args):
    metrics = json.loads(Path("metrics.json").read_text())
    await asyncio.sleep(2)
    began = time.time()
    for number in range(args["count"]):
        await queue.put({**metrics[number % len(metrics)], "sample": number, "time": time.time()})
    await queue.put({"subject": "end", "began": began})
    await asyncio.sleep(60)
"""
_LOOK_AGAIN: Final = 0.05
_RESTS_WITHIN: Final = 2.0
_WITHIN: Final = 60.0


def _rules(conditions: dict[str, list[dict[str, Any]]], source: dict[str, Any]) -> str:
    """Return a rulebook as JSON, which is YAML too."""
    rules = [{"name": text, "condition": text, "actions": actions} for text, actions in conditions.items()]
    ruleset = {"name": "bench", "hosts": "all", "gather_facts": False, "sources": [source], "rules": rules}
    return json.dumps([ruleset])


class Rulebook:
    """It runs one rulebook in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bin = python("ansible-rulebook", *_PACKAGES)
        self._java = java(17)
        (folder / "sources").mkdir(parents=True)
        (folder / "sources" / "deaths.py").write_text(_DEATHS)
        (folder / "sources" / "flood.py").write_text(_FLOOD)
        (folder / "metrics.json").write_text(json.dumps([Source.metric(number) for number in range(2_000)]))
        localhost = {"ansible_connection": "local", "ansible_python_interpreter": str(self._bin / "python")}
        (folder / "inventory.yml").write_text(json.dumps({"all": {"hosts": {"localhost": localhost}}}))

    @contextlib.asynccontextmanager
    async def running(self, rules: str) -> AsyncIterator[asyncio.subprocess.Process]:
        (self._folder / "rulebook.yml").write_text(rules)
        environment = {
            **os.environ,
            "JAVA_HOME": str(self._java),
            "PATH": f"{self._bin}:{os.environ.get('PATH', '')}",
            "ANSIBLE_HOME": str(self._folder / "home"),
            "ANSIBLE_LOCALHOST_WARNING": "False",
        }
        argv = [str(self._bin / "ansible-rulebook"), "--rulebook", "rulebook.yml", "--inventory", "inventory.yml"]
        argv += ["--source-dir", "sources"]
        with (self._folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=self._folder,
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                preexec_fn=end_with_parent,
            )
        try:
            yield process
        finally:
            for one in reversed(tree(process.pid)):
                with contextlib.suppress(Exception):
                    one.kill()
            await process.wait()

    async def deaths(self, kills: int) -> tuple[list[float], list[float], int]:
        """Kill a process again and again; return the milliseconds to each reaction and restart, and the memory."""
        victim = Victim(self._folder / "victim")
        playbook = json.dumps(_PLAYBOOK).replace("{start}", str(victim.start))
        (self._folder / "restart.yml").write_text(playbook)
        actions: list[dict[str, Any]] = [{"print_event": {}}, {"run_playbook": {"name": "restart.yml"}}]
        source = {"name": "deaths", "deaths": {"ledger": str(victim.pidfile.with_name("ledger"))}}
        rules = _rules({'event.state == "down"': actions}, source)
        seen: list[float] = []
        await victim.begin()
        try:
            async with self.running(rules) as process:
                reading = asyncio.create_task(_note(process, seen))
                await self._watching()
                await victim.killed(1, _pause)  # the first finds everything cold
                seen.clear()
                found = await victim.killed(kills, _pause)
                deaths = [start.time - late / 1000 for start, late in zip(victim.starts()[-kills:], found, strict=True)]
                noticed = [1000 * (at - death) for at, death in zip(seen, deaths, strict=True)]
                await asyncio.sleep(_RESTS_WITHIN)
                held = resident(tree(process.pid))
                reading.cancel()
        finally:
            victim.close()
        return noticed, found, held

    async def _watching(self) -> None:
        async with asyncio.timeout(_WITHIN):
            while not (self._folder / "watching").exists():  # noqa: ASYNC110  another process's file has no event
                await asyncio.sleep(_LOOK_AGAIN)

    async def events(self, count: int) -> float:
        """Return how many events a second pass ten conditions of which none holds."""
        quiet: list[dict[str, Any]] = [{"print_event": {}}]
        conditions = {
            f'event.{field} > {limit} and event.unit == "percent"': quiet for field in FIELDS for limit in (99.9, 99.8)
        }
        rules = _rules(conditions | {'event.subject == "end"': quiet}, {"name": "flood", "flood": {"count": count}})
        async with self.running(rules) as process:
            assert process.stdout is not None
            async with asyncio.timeout(_WITHIN):
                async for line in process.stdout:
                    if b"'began'" in line:
                        began = float(line.partition(b"'began':")[2].split(b",")[0].strip(b" }\n"))
                        return count / (time.time() - began)
        raise TimeoutError("the end of the events was not seen")


async def _note(process: asyncio.subprocess.Process, seen: list[float]) -> None:
    """Note when it prints that it has seen a death."""
    assert process.stdout is not None
    while line := await process.stdout.readline():
        if b"'service': 'victim'" in line:
            seen.append(time.time())


def _pause(number: int) -> float:
    return 1.0 + 0.31 * (number % 3)


async def measure(folder: Path, kills: int, events: int) -> Peer:
    """Raises MissingError where it cannot be had."""
    one = Rulebook(folder)
    noticed, found, held = await one.deaths(kills)
    rate = await one.events(events)
    configuration = (
        "own source in its process, told by pidfd; run_playbook with one `raw` task, no facts; nothing durable"
    )
    return Peer(f"ansible-rulebook {VERSION}", configuration, found, held, rate, noticed)
