"""The agent: takes its host's signed commands from the broker, each key once, and has the helper do them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agents.channel import NO_HELPER, HelperLine
from agents.gate import Admitted, Gate, Refusal, untimely
from agents.journal import AT_ONCE, Answer, age, aged, outdated
from agents.registry import ACTIONS
from exhaust.broker.interface import Delivery
from exhaust.halts import Halts
from exhaust.ids import derived_id
from exhaust.lifecycle.service import Station
from exhaust.messages import Command, Order, Result
from exhaust.plugins import Action
from exhaust.resending import RESENT
from exhaust.routing import agent_queue, control_queue
from exhaust.signing import Keys, Verifier
from exhaust.store import Store
from exhaust.wire import unpack
from exhaust.worker import Effect, Keep, Perform, Rows, Worker

_FINISH_WITHIN = 5.0
_PATIENCE_AFTER_START = 5.0
_PRUNE_EVERY = 3600.0
_WINDOW = 1024
_MOST_RECENT = 1024


@dataclass(frozen=True, slots=True)
class Arrival:
    """A command that is for this host, as it was sealed; `refusal` if the host itself will not have it now."""

    command: Command
    envelope: bytes
    refusal: Refusal | None


class Open(msgspec.Struct, frozen=True):
    """A command taken and not yet answered; `newest` is the id of the last message that asked for its key."""

    command: Command
    newest: str
    envelope: bytes
    received: float


@dataclass(frozen=True, slots=True)
class Errand:
    """What the helper is asked for; one that was `resumed` it may have heard of from a predecessor of ours."""

    entry: Open
    resumed: bool


class Stored(msgspec.Struct, frozen=True):
    """What became of a key, whoever asks."""

    execution: str
    answer: Answer


class Fence(msgspec.Struct, frozen=True):
    """The highest epoch seen, and which sequence numbers of it: `seen` has a bit for each of the last 1024.

    Commands may overtake each other, so a number is refused only if it was used, or is too old to tell.
    """

    epoch: int = -1
    highest: int = -1
    seen: str = "0"

    def objection(self, command: Command) -> Refusal | None:
        if command.epoch < self.epoch:
            return Refusal("stale_epoch", f"{command.epoch}, while {self.epoch} was seen")
        behind = self.highest - command.seq
        if command.epoch == self.epoch and behind >= 0 and (behind >= _WINDOW or int(self.seen, 16) >> behind & 1):
            return Refusal("replayed", f"sequence number {command.seq} of epoch {command.epoch} was used")
        return None

    def passed(self, command: Command) -> "Fence":
        if command.epoch > self.epoch:
            return Fence(command.epoch, command.seq, "1")
        ahead = max(0, command.seq - self.highest)
        seen = (int(self.seen, 16) << min(ahead, _WINDOW)) & ((1 << _WINDOW) - 1)
        highest = max(self.highest, command.seq)
        return Fence(self.epoch, highest, f"{seen | 1 << (highest - command.seq):x}")


class AgentDecider:
    """Decides what is done, what is refused and what was answered before. Pure: see `exhaust.worker`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._rows: Rows = lambda _: iter(())
        self._open: dict[str, Open] = {}
        self._recent: dict[str, Stored] = {}
        self._keys = 0
        self._fence = Fence()
        self._halts = Halts()
        self.due = 0.0
        self.counts: Counter[str] = Counter()

    def status(self) -> dict[str, Any]:
        halted = self._halts.over(self._host)
        return {"commands": dict(self.counts), "fence": self.fence, "halted_by": halted and halted.by}

    @property
    def fence(self) -> dict[str, int]:
        """The highest epoch and sequence number seen; one who lost its store stays below, and is refused."""
        return {"epoch": self._fence.epoch, "seq": self._fence.highest}

    def recall(self, rows: Rows) -> None:
        self._rows = rows
        self._recent = {}
        self._keys = sum(1 for _ in rows("age/"))
        self._halts.recall(rows)
        entries = (msgspec.json.decode(value, type=Open) for _, value in rows("open/"))
        self._open = {entry.command.key: entry for entry in entries}
        fences = [msgspec.json.decode(value, type=Fence) for key, value in rows("fence") if key == "fence"]
        self._fence = fences[0] if fences else Fence()

    def resume(self, now: float) -> Iterator[Effect]:
        for entry in self._open.values():
            yield Perform(Errand(entry, resumed=True))

    def handle(self, message: Arrival | Order, received: float) -> Iterator[Effect]:
        if isinstance(message, Order):
            yield from self._halts.take(message)
        else:
            yield from self._command(message, received)

    def _command(self, message: Arrival, received: float) -> Iterator[Effect]:
        command = message.command
        under_way = self._open.get(command.key)
        stored = self._stored(command.key)
        if under_way:
            self.counts["repeated"] += 1
            self._open[command.key] = msgspec.structs.replace(under_way, newest=command.id)
            yield Keep(f"open/{command.key}", self._open[command.key])
        elif stored:
            self.counts["repeated"] += 1
            yield self._result(command.id, stored, received)
        elif stale := untimely(command, received) or self._fence.objection(command):
            yield from self._refused(command, stale, received)
        else:
            self._fence = self._fence.passed(command)
            yield Keep("fence", self._fence)
            refusal = self._halted() or message.refusal
            if refusal:
                yield from self._refused(command, refusal, received)
            else:
                yield from self._accepted(message, received)

    def _halted(self) -> Refusal | None:
        order = self._halts.over(self._host)
        if order is None:
            return None
        return Refusal("halted", f"by {order.by}" + (f": {order.reason}" if order.reason else ""))

    def tick(self, now: float) -> Iterator[Effect]:
        """Forget keys that no valid command can have any more."""
        self.due = now + _PRUNE_EVERY
        before = outdated(self._keys, now)
        for count, (row, _) in enumerate(self._rows("age/")):
            received, key = aged(row)
            if received > before:
                break
            if count == AT_ONCE:
                self.due = now + 1.0
                break
            self._keys -= 1
            yield Keep(row, None)
            yield Keep(f"done/{key}", None)
            self._recent.pop(key, None)

    def performed(self, work: Errand, outcome: Answer | Exception | None, now: float) -> Iterator[Effect]:
        """Take what became of it; None where it was given up because this agent ends, to be taken up by the next."""
        if outcome is None:
            return
        key = work.entry.command.key
        if isinstance(outcome, Exception):
            outcome = Answer(key, "indeterminate", "fault")
        entry = self._open.pop(key)
        self.counts[outcome.reason if outcome.state == "refused" else outcome.state] += 1
        yield Keep(f"open/{key}", None)
        yield from self._answered(key, entry.newest, Stored(entry.command.execution, outcome), now)

    def _refused(self, command: Command, refusal: Refusal, received: float) -> Iterator[Effect]:
        self.counts[refusal.reason] += 1
        answer = Answer(command.key, "refused", refusal.reason, output={"detail": refusal.detail})
        yield self._aging(command.key, received)
        yield from self._answered(command.key, command.id, Stored(command.execution, answer), received)

    def _accepted(self, message: Arrival, received: float) -> Iterator[Effect]:
        command = message.command
        entry = Open(command, command.id, message.envelope, received)
        self._open[command.key] = entry
        self.counts["accepted"] += 1
        yield Keep(f"open/{command.key}", entry)
        yield self._aging(command.key, received)
        yield Perform(Errand(entry, resumed=False))

    def _aging(self, key: str, received: float) -> Keep:
        self._keys += 1
        return Keep(age(received, key), 1)

    def _answered(self, key: str, command: str, stored: Stored, now: float) -> Iterator[Effect]:
        self._recent[key] = stored
        if len(self._recent) > _MOST_RECENT:
            del self._recent[next(iter(self._recent))]
        yield Keep(f"done/{key}", stored)
        yield self._result(command, stored, now)

    def _stored(self, key: str) -> Stored | None:
        """What was decided since the last commit is only in memory; what is older may be only on disk."""
        if key in self._recent:
            return self._recent[key]
        for found, value in self._rows(f"done/{key}"):
            return msgspec.json.decode(value, type=Stored) if found == f"done/{key}" else None
        return None

    def _result(self, command: str, stored: Stored, now: float) -> Result:
        answer = stored.answer
        return Result(
            id=derived_id("result/1", [command], "agent"),
            time=now,
            causes=(command,),
            command=command,
            key=answer.key,
            execution=stored.execution,
            host=self._host,
            state=answer.state,
            reason=answer.reason,
            started=answer.started,
            ended=answer.ended,
            changed=answer.changed,
            output=answer.output,
        )


def _opener(gate: Gate, keys: Keys) -> Callable[[Delivery], Arrival | Order]:
    # Not the gate's own verifier, which is the helper's too: nothing that is re-sent reaches that without us.
    collector = keys.public("collector")
    verifier = Verifier({"command/1": keys.public("orchestrator"), "order/1": collector, RESENT: collector})

    def opened(delivery: Delivery) -> Arrival | Order:
        message = unpack(delivery, verifier)
        if isinstance(message, Order):
            return message
        command = gate.addressed(message)
        admitted = gate.admit(command)
        return Arrival(command, delivery.body, None if isinstance(admitted, Admitted) else admitted)

    return opened


class Agent(Worker):
    """The worker of one host's commands, with its store and its line to the helper."""

    def __init__(self, station: Station, policy: Path | None, actions: Mapping[str, Action[Any]]) -> None:
        self._gate = Gate(station, policy, actions)
        self._line = HelperLine(station.sockets / "helper.commands")
        self._agent_decider = AgentDecider(station.host)
        self._running = False
        super().__init__(
            "agent",
            self._agent_decider,
            Store(station.state / "agent.db"),
            station.broker,
            station.clock,
            [agent_queue(station.host), control_queue(station.host)],
            signer=station.keys.signer("agent"),
            unpack=_opener(self._gate, station.keys),
            perform=self._have_done,
        )

    async def run(self, until: asyncio.Event) -> None:
        """Take commands until told; what the helper has not answered some seconds later is left to the next agent."""
        with self._store:
            self._running = True
            try:
                async with asyncio.TaskGroup() as tasks:
                    side = [tasks.create_task(self._line.run(), name="line"), tasks.create_task(self._let_go(until))]
                    await super().run(until)
                    for task in side:
                        task.cancel()
            finally:
                self._running = False

    def status(self) -> dict[str, Any]:
        """Return what an operator wants to know of it."""
        return (super().status() if self._running else self._agent_decider.status()) | {
            "policy": self._gate.policy.status(),
            "helper": self._line.status(),
        }

    async def _have_done(self, errand: Errand) -> Answer | None:
        command = errand.entry.command
        patience = command.expires + command.timeout - self._clock.now()
        if errand.resumed:  # its time may be over, but the helper may know what became of it
            patience = max(_PATIENCE_AFTER_START, patience)
        answer = await self._line.ask(command.key, errand.entry.envelope, patience)
        if answer and answer.reason == NO_HELPER and errand.resumed:
            return Answer(command.key, "indeterminate", NO_HELPER)
        return answer and msgspec.structs.replace(answer, key=command.key)

    async def _let_go(self, until: asyncio.Event) -> None:
        await until.wait()
        await self._line.given_up(_FINISH_WITHIN)


def agent(station: Station, policy: Path | None, *, actions: Mapping[str, Action[Any]] = ACTIONS) -> Agent:
    """Return this host's agent; `policy` is the host's own policy file, without which nothing is done."""
    return Agent(station, policy, actions)
