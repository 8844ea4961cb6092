"""The same fault under others that act by themselves: ansible-rulebook, Prometheus with Alertmanager, monit, and us.

A service is killed; the one that takes its place writes down when it begins. Each is set up as its makers would for a
check every second, or better where it can. Where one cannot be had here, the table says so.
"""

import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks import command, monit, prometheus, rulebook
from benchmarks.command import Findings, say
from benchmarks.installation import Installation
from benchmarks.machine import prose, quantiles, table
from benchmarks.node import Node
from benchmarks.packages import MissingError
from benchmarks.peer import Peer
from benchmarks.throughput import conditions, flow
from benchmarks.victim import Victim

KILLS: Final = {"exhaust": 60, "monit": 30, "prometheus": 30, "rulebook": 20}
_EVENTS: Final = 20_000
_SECONDS: Final = 6.0
_COMPARED: Final = {"p50": "p50_ms", "p99": "p99_ms", "memory": "memory_mib"}
_SITE: Final = """
emitters:
  - {use: flood, folder: "{folder}"}
  - {use: service, every: 1s, services: [{name: victim, provider: kept, argv: ["{folder}/victim/program"]}]}
analyzers:
  - {use: condition, fact: service.down, on: service.state, when: record.state != "running", by: [service]}
%s
rules:
  - name: restart
    on: service.down
    run: restart
    with: {service: "${{ cause.labels.service }}"}
    mode: auto
    guard: {cooldown: 0s, attempts: 1000000, limit: {runs: 1000000}}
workflows:
  - name: restart
    inputs: {service: string}
    tasks: [{name: restart, use: agent, do: service.restart, with: {service: "${{ inputs.service }}"}}]
    verify: {closes: cause, within: 10s}
"""
_POLICY: Final = "service.restart: {service: [victim]}\n"


async def exhaust(folder: Path, kills: int, seconds: float) -> Peer:
    """Measure ourselves, through RabbitMQ."""
    victim = Victim(folder / "victim")
    with Node() as node:
        async with Installation(folder, node, _SITE % conditions(), _POLICY) as one:
            await victim.killed(5, _pause)
            found = await victim.killed(kills, _pause)
            resident = one.resident()
            rate = (await flow(one, seconds, 2.0)).rate
        victim.close()
    processes = f"{len(resident) - 1} processes {(sum(resident.values()) - resident['broker']) / 2**20:,.0f} MiB"
    memory = f"{processes}, RabbitMQ {resident['broker'] / 2**20:,.0f} MiB"
    configuration = f"told by pidfd; every step durable and signed, through RabbitMQ; verified ({memory})"
    return Peer("Exhaust", configuration, found, sum(resident.values()), rate)


def _pause(number: int) -> float:
    return 0.5 + 0.13 * (number % 4)


async def measure(folder: Path, quick: bool) -> Findings:
    kills = dict.fromkeys(KILLS, 3) if quick else KILLS
    measures: dict[str, Callable[[Path], Awaitable[Peer]]] = {
        "rulebook": lambda own: rulebook.measure(own, kills["rulebook"], _EVENTS // 10 if quick else _EVENTS),
        "prometheus": lambda own: prometheus.measure(own, kills["prometheus"]),
        "monit": lambda own: monit.measure(own, kills["monit"]),
    }
    say("exhaust")
    found = [await exhaust(folder / "exhaust", kills["exhaust"], 2.0 if quick else _SECONDS)]
    missing: list[str] = []
    for name, one in measures.items():
        say(name)
        try:
            found.append(await one(folder / name))
        except (MissingError, TimeoutError) as error:
            missing.append(f"{name} was not measured: {str(error) or 'it did not act in time'}")
    rows = [_row(peer, found[0]) for peer in found]
    return Findings("Peers: the same fault, death to restart, in one run", _text(found, rows, missing), rows)


def _row(peer: Peer, ours: Peer) -> dict[str, Any]:
    p50, p99 = quantiles(peer.found)
    row = {"who": peer.name, "kills": len(peer.found), "p50_ms": round(p50, 1), "p99_ms": round(p99, 1)}
    row |= {"of_ours": round(p50 / quantiles(ours.found)[0], 1)}
    row |= {"events_per_second": round(peer.events) if peer.events else None}
    return row | {"memory_mib": round(peer.resident / 2**20, 1), "configuration": peer.configuration}


def _text(found: list[Peer], rows: list[dict[str, Any]], missing: list[str]) -> str:
    head = ("death → restarted", "kills", "p50 ms", "p99 ms", "p50 / ours", "events/s", "MiB resident")
    notes = [prose(f"{peer.name}: {peer.configuration}.") for peer in found]
    notes += [
        f"{peer.name} notices after p50 {quantiles(peer.noticed)[0]:.1f} ms, before anything is done."
        for peer in found
        if peer.noticed
    ]
    events = "Events pass ten conditions of which hardly any holds; those without a figure take no events."
    lines = [list(row.values())[:-1] for row in rows]
    return "\n".join((table(head, lines), events, *_behind(rows), *notes, *missing))


def _behind(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Say where others are ahead of us: in all but events a second less is better."""
    ours, *others = rows
    for other in others:
        ahead = [what for what, key in _COMPARED.items() if other[key] < ours[key]]
        ahead += ["events/s"] if (other["events_per_second"] or 0) > ours["events_per_second"] else []
        yield f"{other['who']} is ahead of us in {', '.join(ahead) if ahead else 'nothing of this'}."


if __name__ == "__main__":
    sys.exit(command.run("peers", (__doc__ or "").partition("\n")[0], measure))
