"""The same fault under Prometheus and Alertmanager, with a webhook that acts: from a process's death to its restart."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from aiohttp import web

from benchmarks.command import end_with_parent
from benchmarks.installation import resident, tree
from benchmarks.node import free_port
from benchmarks.packages import debian, version
from benchmarks.peer import Peer
from benchmarks.victim import Victim

_PROMETHEUS: Final = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{folder}/rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{alertmanager}"]}}]}}]}}
scrape_configs: [{{job_name: victim, static_configs: [{{targets: ["127.0.0.1:{acting}"]}}]}}]
"""
_RULES: Final = """
groups: [{name: victim, rules: [{alert: VictimDown, expr: victim_up == 0}]}]
"""
# A group for each pid: what was sent for the last death holds back nothing of the next.
_ALERTMANAGER: Final = """
route: {{receiver: act, group_by: [pid], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: act, webhook_configs: [{{url: "http://127.0.0.1:{acting}/act", send_resolved: false}}]}}]
"""
_READY_WITHIN: Final = 30.0
_LOOK_AGAIN: Final = 0.05


def _pause(number: int) -> float:
    return 1.3 + 0.29 * (number % 4)  # kills fall at other moments of a second each time


class Acting:
    """Tells on `/metrics` whether the victim lives at that very moment, and starts another on `/act`."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self._acted: set[str] = set()
        self.scraped = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/act", self._act)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield
        finally:
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        self.scraped.set()
        pid = self._victim.starts()[-1].pid
        return web.Response(text=f'victim_up{{pid="{pid}"}} {int(self._victim.lives)}\n')

    async def _act(self, request: web.Request) -> web.Response:
        for alert in (await request.json())["alerts"]:
            pid = alert["labels"]["pid"]
            if alert["status"] == "firing" and pid not in self._acted:
                self._acted.add(pid)
                await self._victim.begin()
        return web.Response()


async def measure(folder: Path, kills: int) -> Peer:
    """Kill a process again and again. Raises MissingError where one of the two cannot be had."""
    prometheus = debian("prometheus", "prometheus")
    alertmanager = debian("prometheus-alertmanager", "prometheus-alertmanager")
    victim, ports = Victim(folder / "victim"), {"acting": free_port(), "alertmanager": free_port()}
    (folder / "prometheus.yml").write_text(_PROMETHEUS.format(folder=folder, **ports))
    (folder / "alertmanager.yml").write_text(_ALERTMANAGER.format(**ports))
    (folder / "rules.yml").write_text(_RULES)
    acting = Acting(victim)
    await victim.begin()
    await victim.started(1)
    commands = (
        (*prometheus, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{free_port()}"),
        (*alertmanager, f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/alerts",
         f"--web.listen-address=127.0.0.1:{ports['alertmanager']}", "--cluster.listen-address="),
    )  # fmt: skip
    try:
        async with acting.listening(ports["acting"]), contextlib.AsyncExitStack() as running:
            pids = [await running.enter_async_context(_running(folder, *command)) for command in commands]
            async with asyncio.timeout(_READY_WITHIN):
                await acting.scraped.wait()
            await victim.killed(1, lambda _: 3.0)  # the first finds caches and connections cold
            found = await victim.killed(kills, _pause)
            held = resident([one for pid in pids for one in tree(pid)])
    finally:
        victim.close()
    name = f"Prometheus {version(*prometheus, '--version')}, Alertmanager {version(*alertmanager, '--version')}"
    return Peer(name, "scrape and evaluation 1 s, no `for`, group_wait 0 s; a webhook acts at once", found, held)


@contextlib.asynccontextmanager
async def _running(folder: Path, *argv: object) -> AsyncIterator[int]:
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *map(str, argv), stdout=log, stderr=log, preexec_fn=end_with_parent
        )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
