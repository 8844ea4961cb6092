"""What observing costs: the share of a core and the memory of each emitter, of all together, and of other collectors.

Everything looks once a second. Besides what the machine does anyway, 100 processes sleep and 10 programs a second run.
The emitters' process alone is measured, as it runs in an installation: spool, signatures and sending to RabbitMQ are in
it. What the first line costs, an emitter with next to nothing to say, is in all the others.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from benchmarks import collectors, command
from benchmarks.command import Findings, end_with_parent, say
from benchmarks.installation import Installation, resident, tree
from benchmarks.machine import prose, table
from benchmarks.node import Node, free_port
from benchmarks.packages import MissingError

_SECONDS: Final = 60.0
_SETTLE: Final = 5.0
_SLEEPERS: Final = 100
_RUNNER: Final = """
import subprocess, time
due = time.monotonic()
while True:
    subprocess.run(["/bin/true"])
    due += 0.1
    time.sleep(max(0.0, due - time.monotonic()))
"""
_NOTHING: Final = "{use: performance, every: 1h, streams: [system]}"
EACH: Final[Mapping[str, str]] = {
    "performance": "{use: performance, every: 1s}",
    "accounting": "{use: accounting, every: 1s}",
    "cli": '{use: cli, socket: "{folder}/commands"}',
    "file": '{use: file, every: 1s, paths: ["{folder}/*.log"], changes: [{files: ["{folder}/site.yaml"]}]}',
    "network": '{use: network, every: 1s, probes: [{name: broker, tcp: "127.0.0.1:{port}", every: 1s}]}',
    "self": "{use: self, every: 1s}",
    "service": '{use: service, every: 1s, services: [{name: own, provider: pidfile, pidfile: "{folder}/own.pid"}]}',
    "syslog": '{use: syslog, unix: "{folder}/log.sock", udp: "127.0.0.1:{udp}"}',
}
SITES: Final[Mapping[str, str]] = {
    "nothing": _NOTHING,
    **EACH,
    "performance, all of it": "{use: performance, every: 1s, streams: [system, cpu, memory, disk, filesystem, network, "
    "pressure, process, user, temperature, computer]}",
    "all of them together": ", ".join(EACH.values()),
}
_OTHERS: Final = (collectors.node_exporter, collectors.collectd, collectors.netdata)


class Cost(NamedTuple):
    """What a process took over a while: percent of one core, and MiB of memory that it holds at the end."""

    what: str
    percent: float
    memory: float


@contextlib.contextmanager
def busy_host() -> Iterator[None]:
    """Let 100 processes sleep, and 10 programs a second run."""
    argvs = [["sleep", "3600"]] * _SLEEPERS + [[sys.executable, "-c", _RUNNER]]
    processes = [subprocess.Popen(argv, preexec_fn=end_with_parent) for argv in argvs]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _used(process: psutil.Process) -> float:
    """Return the processor seconds of a process and of all that it has started, also of those that have ended."""
    used = 0.0
    for one in tree(process.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            used += times.user + times.system + times.children_user + times.children_system
    return used


async def cost(what: str, process: psutil.Process, seconds: float) -> Cost:
    """Return what a process costs once it has settled."""
    await asyncio.sleep(min(_SETTLE, seconds))
    began, before = time.monotonic(), _used(process)
    await asyncio.sleep(seconds)
    share = (_used(process) - before) / (time.monotonic() - began)
    return Cost(what, 100 * share, resident(tree(process.pid)) / 2**20)


@contextlib.asynccontextmanager
async def observing(folder: Path, node: Node, uses: str) -> AsyncIterator[psutil.Process]:
    """Run these emitters, as an installation does."""
    uses = uses.replace("{port}", str(node.port)).replace("{udp}", str(free_port()))
    async with Installation(folder, node, f"emitters: [{uses}]\n", components=("emitters",)) as one:
        yield one.processes()["emitters"]


def _prepared(folder: Path) -> Path:
    folder.mkdir()
    (folder / "own.pid").write_text(str(os.getpid()))
    return folder


async def measure(folder: Path, quick: bool) -> Findings:
    """Measure one after the other: our emitters, and what others have."""
    seconds = 2.0 if quick else _SECONDS
    found: list[Cost] = []
    absent: list[str] = []
    with busy_host(), Node() as node:
        for number, (what, uses) in enumerate(SITES.items()):
            say(what)
            async with observing(_prepared(folder / str(number)), node, uses) as process:
                found.append(await cost(f"Exhaust: {what}", process, seconds))
        for other in _OTHERS:
            say(other.__name__)
            place = folder / other.__name__
            place.mkdir()
            try:
                async with other(place) as (what, process):
                    found.append(await cost(what, process, seconds))
            except MissingError as exc:
                absent.append(f"{other.__name__} could not be had: {exc}.")
    return Findings("Emitters: what observing costs, once a second", _text(found, absent, seconds), _rows(found))


def _rows(found: list[Cost]) -> list[dict[str, Any]]:
    return [{"what": one.what, "percent": round(one.percent, 3), "mib": round(one.memory, 1)} for one in found]


def _text(found: list[Cost], absent: list[str], seconds: float) -> str:
    head = ("once a second", "% of a core", "beyond nothing", "MiB")
    lines = [(one.what, one.percent, _beyond(one, found[0]), one.memory) for one in found]
    said = (
        f"{seconds:g} s each, one after the other, with {_SLEEPERS} processes that sleep and 10 programs run a second. "
        "Goal: performance at most 0.2 % of a core; all together at most 1 % and 60 MiB."
    )
    return "\n".join((table(head, lines), *(prose(text) for text in (said, *absent))))


def _beyond(one: Cost, nothing: Cost) -> object:
    return one.percent - nothing.percent if one.what.startswith("Exhaust") and one is not nothing else ""


if __name__ == "__main__":
    sys.exit(command.run("emitters", (__doc__ or "").partition("\n")[0], measure))
