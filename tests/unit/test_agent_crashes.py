"""The agent killed around each of its commits: every key is begun once, and whoever asked last hears of it."""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agents.agent import AgentDecider, Arrival, Errand
from agents.gate import Refusal
from agents.journal import Answer
from exhaust.broker.interface import Delivery
from exhaust.clock import VirtualClock
from exhaust.messages import Command, Result
from exhaust.signing import Keys, Verifier
from exhaust.wire import pack, unpack
from exhaust.worker import Worker
from tests.inboxes import MEMORY, MOMENTS, Bench, Disk, Moment
from tests.posting import QUEUE, Line

# What comes, in this order: its id, its key, and the sequence number that it was signed with.
COMMANDS = (("c1", "a", 1), ("c2", "b", 2), ("c3", "a", 3), ("c2", "b", 2), ("c4", "refused", 4), ("c5", "a", 5))
KEYS = {"a", "b", "refused"}
MOST_COMMITS = 20


class Host:
    """A host's agents, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.keys = Keys(folder / "keys")
        self.begun: Counter[str] = Counter()
        self.bench = Bench(folder, self._agent)

    def _agent(self, disk: Disk, line: Line, clock: VirtualClock) -> Worker:
        signer, verifier = self.keys.signer("agent"), Verifier({"command/1": self.keys.public("orchestrator")})

        def opened(delivery: Delivery) -> Arrival:
            command = unpack(delivery, verifier)
            assert isinstance(command, Command)
            return Arrival(command, delivery.body, Refusal("policy") if command.key == "refused" else None)

        async def done(errand: Errand) -> Answer:
            key = errand.entry.command.key
            self.begun[key] += not errand.resumed and not line.dead
            await asyncio.sleep(1.0)
            return Answer(key, "succeeded")

        decider = AgentDecider("web-01")
        return Worker("agent", decider, disk, line, clock, [QUEUE], signer=signer, unpack=opened, perform=done)

    def play(self) -> int:
        """Let all commands come, a death be followed by another life, and time pass; return how often it died."""
        signer = self.keys.signer("orchestrator")
        deaths = 0
        for own, key, number in COMMANDS:
            self.bench.post.take(pack(_command(own, key, number), signer))
            self.bench.deliver(1)
            self.bench.wait(0.4)
            if self.bench.disk.left is not None:
                deaths += 1
                self.bench.crash()
        self.bench.settle()
        self.bench.wait(2.0)
        if self.bench.disk.left is not None:
            deaths += 1
            self.bench.crash()
            self.bench.wait(2.0)
        self.bench.settle()
        return deaths

    def results(self) -> list[Result]:
        verifier = Verifier({"result/1": self.keys.public("agent")})
        found = [verifier.open(one.body) for one in self.bench.post.arrived]
        return [one for one in found if isinstance(one, Result)]


def _command(own: str, key: str, number: int) -> Command:
    given: dict[str, Any] = {"execution": "run", "task": "t", "host": "web-01", "action": "x", "params": {}}
    how: dict[str, Any] = {"audience": "me", "epoch": 1, "seq": number, "expires": 160.0, "timeout": 30.0}
    return Command(id=own, time=100.0, key=key, **given, **how)


def check(host: Host) -> None:
    assert all(count <= 1 for count in host.begun.values()), "asked for as new twice"
    results = host.results()
    by_key = {key: [result for result in results if result.key == key] for key in KEYS}
    assert {result.state for result in by_key["refused"]} == {"refused"}
    assert {result.state for result in (*by_key["a"], *by_key["b"])} == {"succeeded"}
    assert {"c5", "c2", "c4"} <= {result.command for result in results}, "whoever asked last hears of it"
    for command in {result.command for result in results}:
        assert len({result.id for result in results if result.command == command}) == 1, "one result for a command"
    assert host.bench.acknowledged == {own for own, _, _ in COMMANDS}
    assert not list(host.bench.disk.rows("open/"))


@pytest.mark.parametrize("moment", MOMENTS)
def test_whatever_commit_it_dies_at_each_key_is_done_once_and_answered(moment: Moment) -> None:
    for spared in range(MOST_COMMITS):
        with tempfile.TemporaryDirectory(prefix="agent", dir=MEMORY) as folder:
            host = Host(Path(folder))
            host.bench.disk.dies, host.bench.disk.spared = moment, spared
            try:
                died = host.play()
                check(host)
            finally:
                host.bench.close()
        if not died:
            break
    assert 8 <= spared < MOST_COMMITS - 1, "it died at every one of them"
