"""The installation under soak: three streams of numbers, a kept service, and a workflow that leaves marks."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import psutil

from benchmarks.plugged import plugged
from exhaust.lifecycle.supervisor import SUPERVISOR
from exhaust.processes import find
from tests.soak.checks import Sample
from tests.soak.plugin import FLEETING, WAITING
from tests.system.installation import SERVICE, Installation

UP = (sys.executable, "-m", "exhaust.main", "up")
PLUGIN = Path(__file__).with_name("plugin.py")
_ENTRY_POINTS = {
    "exhaust.emitters": {"counter": "plugin:COUNTER", "meter": "plugin:METER"},
    "exhaust.analyzers": {"witness": "plugin:ANALYZER"},
    "exhaust.actions": {"soak.mark": "plugin:ACTION"},
}
_PATIENCE = 180.0
_LOOK_AGAIN = 0.2
# A start of the service is a line in its ledger, written before anything else: its pid, and seconds since boot.
_PROGRAM = 'read -r up rest < /proc/uptime; echo \\"$$ $up\\" >> {folder}/service; exec sleep 100000'
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
  - {{use: counter, folder: {folder}, rate: 200}}
  - {{use: meter, folder: {folder}, rate: 100}}
analyzers:
  - {{use: condition, fact: service.down, on: service.state, when: record.state != "running", by: [service]}}
  - {{use: condition, fact: lane.lit, on: counter.beat, when: record.lit, by: [lane]}}
{witnesses}
rules:
  - name: restart
    on: service.down
    run: restart
    with: {{service: "${{{{ cause.labels.service }}}}"}}
    mode: auto
    guard: {{cooldown: 0s, attempts: 100000, limit: {{runs: 100000}}}}
  - name: mark
    on: lane.lit
    run: mark
    mode: auto
    guard: {{cooldown: 0s, attempts: 100000, concurrent: 100, limit: {{runs: 100000}}}}
workflows:
  - name: restart
    inputs: {{service: string}}
    tasks: [{{name: restart, use: agent, do: service.restart, with: {{service: "${{{{ inputs.service }}}}"}}}}]
    verify: {{closes: cause, within: 10s}}
  - name: mark
    tasks:
      - {{name: mark, use: agent, do: soak.mark, with: {{file: {folder}/effects, key: "${{{{ execution.id }}}}"}}}}
    verify: {{closes: cause, within: 5s}}
"""
_WITNESS = "  - {{use: witness, fact: witness.{stream}, on: '*.{stream}', file: {folder}/witness.{stream}}}"


class Soaked(Installation):
    """An installation whose every plug-in writes into `ledgers`; it ends when we do, however we end.

    `up` is the command that runs it, `extra` what its processes find in their environment besides ours.
    """

    def __init__(
        self, folder: Path, broker: str, ledgers: Path, *, up: Sequence[str] = UP, extra: dict[str, str] | None = None
    ) -> None:
        own = find(os.getpid())
        assert own is not None
        found = plugged(folder / "plugin", PLUGIN, _ENTRY_POINTS)
        super().__init__(folder, broker, up=up, env={**found, **(extra or {}), SUPERVISOR: f"{own.pid}@{own.started}"})
        ledgers.mkdir(exist_ok=True)
        self.ledger = ledgers / "service"
        policy = folder / "policy.yaml"
        policy.write_text(f"service.restart: {{service: [{SERVICE}]}}\nsoak.mark: {{}}\n")
        witnesses = "\n".join(_WITNESS.format(stream=stream, folder=ledgers) for stream in (*WAITING, FLEETING))
        given = {"state": self.state, "broker": broker, "port": self.port, "policy": policy, "service": SERVICE}
        program = _PROGRAM.format(folder=ledgers)
        text = _CONFIGURATION.format(**given, folder=ledgers, program=program, witnesses=witnesses)
        self.config.write_text(text)

    async def until(self, holds: Callable[[], Awaitable[bool]], within: float = _PATIENCE) -> float:
        """Wait longer than elsewhere, and ask less often: asking is work for everybody here."""
        began = time.monotonic()
        while not await holds():
            if time.monotonic() - began > within:
                raise TimeoutError(f"not within {within:g} s\n{self.story()}")
            await asyncio.sleep(_LOOK_AGAIN)
        return time.monotonic() - began

    def samples(self) -> list[Sample]:
        """Return what each process of it holds now; what is not there, or ends meanwhile, is left out."""
        if self._up is None:
            return []
        try:
            pids = {"supervisor": self._up.pid, **self.pids()}
        except psutil.NoSuchProcess:
            return []
        return [one for name, pid in pids.items() if (one := sample(name, pid))]


def sample(name: str, pid: int) -> Sample | None:
    """Return what a process holds now, None if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        tasks = len(list(Path(f"/proc/{pid}/task").iterdir()))
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None
    return Sample(name, pid, pages * os.sysconf("SC_PAGE_SIZE"), files, tasks)
