"""Analyzers, activator and orchestrator wired together in virtual time: no broker, no disk, no waiting.

What a decider sends is encoded, logged, routed by the real topology and decoded, first in, first out; what it keeps
lies in a plain dict, from which it can be started anew at any step. Agents and adapters are the caller's to play.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from exhaust.broker.embedded import matches, words_of
from exhaust.configuration import load
from exhaust.ids import derived_id, new_id
from exhaust.main import CATALOGUE, deciders
from exhaust.messages import Activation, Batch, Codec, Command, Decision, Fact, Message, Result
from exhaust.routing import QUEUES, RESULTS, address, word
from exhaust.worker import Decider, Effect, Keep, Perform
from orchestrator.reach import Doing, Done

NOW = 1_800_000_000.0
HOST = "web-1"

M = TypeVar("M", bound=Message)
State = Literal["succeeded", "failed", "refused", "indeterminate"]


class Desk:
    """One component at work: its decider, the rows that it keeps, and the messages that it has seen."""

    def __init__(self, make: Callable[[], Decider]) -> None:
        self._make = make
        self.kept: dict[str, bytes] = {}
        self.seen: set[str] = set()
        self.decider = make()

    def start(self, now: float) -> Iterable[Effect]:
        """Forget all that is not kept, and take up again what was under way."""
        self.decider = self._make()
        self.decider.recall(self._rows)
        return self.decider.resume(now)

    def keep(self, row: Keep) -> None:
        if row.value is None:
            self.kept.pop(row.key, None)
        else:
            self.kept[row.key] = msgspec.json.encode(row.value)

    def _rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter(sorted((key, body) for key, body in self.kept.items() if key.startswith(prefix)))


class Harness:
    """The deciders of one installation, at `now`. `log` is every message in the order of sending.

    Commands without an answer are in `commands` by their key, works for adapters in `works`; both wait for `answer`,
    `expire` and `finish`. All deciders are started anew after each step whose number is in `crashes`.
    """

    def __init__(self, folder: Path, text: str, *, now: float = NOW) -> None:
        path = folder / "exhaust.yaml"
        path.write_text(text)
        self.now = now
        self.log: list[Message] = []
        self.commands: dict[str, Command] = {}
        self.works: list[Doing] = []
        self.steps = 0
        self.crashes: Container[int] = ()
        self._answers: dict[str, Result] = {}
        self._batches = 0
        self._mail: deque[tuple[str, bytes]] = deque()
        self.desks = {name: Desk(make) for name, make in deciders(load(path, CATALOGUE)).items()}
        self.restart()

    def send(self, *messages: Message) -> None:
        """Publish messages from outside, one after the other, and let follow what follows."""
        for message in messages:
            self._publish(message)
            self._drain()

    def batch(self, stream: str, *records: dict[str, Any], host: str = HOST) -> Batch:
        """Send records of `<emitter>.<stream>`, of now unless they say otherwise; none is a sign of life."""
        emitter, _, name = stream.partition(".")
        self._batches = seq = self._batches + 1
        own = new_id(self.now, seq.to_bytes(10, "big"))
        timed = [{"time": self.now, **record} for record in records]
        batch = Batch(id=own, time=self.now, host=host, emitter=emitter, stream=name, epoch=1, seq=seq, records=timed)
        self.send(batch)
        return batch

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due on the way is done at the very instant."""
        until = self.now + seconds
        while (due := min(desk.decider.due for desk in self.desks.values())) <= until:
            self.now = max(self.now, due)
            for name, desk in self.desks.items():
                if desk.decider.due <= self.now:
                    self._step(name, desk.decider.tick(self.now))
            self._drain()
        self.now = until

    def answer(self, state: State = "succeeded", *, task: str | None = None, **fields: Any) -> Result:
        """Let the agent answer the oldest command, or that of `task`; it began just now unless `fields` say else."""
        command = next(command for command in self.commands.values() if task in (None, command.task))
        about = {"command": command.id, "key": command.key, "execution": command.execution, "host": command.host}
        did = {} if state == "refused" else {"started": self.now, "ended": self.now}
        own = derived_id("result/1", (command.id,), "agent")
        result = Result(id=own, time=self.now, causes=(command.id,), state=state, **(about | did | fields))
        self._answers[self.commands.pop(command.key).key] = result
        self.send(result)
        return result

    def expire(self) -> None:
        """Let the oldest command come back unread, once its time is over."""
        command = self.commands.pop(next(iter(self.commands)))
        self.advance(max(0.0, command.expires - self.now))
        self._route(Codec.encode(command), RESULTS, word(command.host))
        self._drain()

    def finish(self, outcome: Done | None = None) -> Doing:
        """Let an adapter be done with its oldest work."""
        work = self.works.pop(0)
        self._step("orchestrator", self.desks["orchestrator"].decider.performed(work, outcome or Done(), self.now))
        self._drain()
        return work

    def restart(self, *names: str) -> None:
        """Start these components anew, or all. Their epoch stays, so that what they send can be compared."""
        self._start(names or tuple(self.desks))
        self._drain()

    def of(self, type_: type[M]) -> list[M]:
        """Return every message of a type."""
        return [message for message in self.log if isinstance(message, type_)]

    def digest(self) -> bytes:
        """Return the bytes of all facts, decisions and activations."""
        return b"\n".join(Codec.encode(one) for one in self.log if isinstance(one, Fact | Decision | Activation))

    def _drain(self) -> None:
        while self._mail:
            name, body = self._mail.popleft()
            message = Codec.decode(body)
            if message.id not in self.desks[name].seen:
                self.desks[name].seen.add(message.id)
                self._step(name, self.desks[name].decider.handle(message, self.now))

    def _start(self, names: Iterable[str]) -> None:
        for name in names:
            if name == "orchestrator":
                self.works.clear()
            self._take(name, self.desks[name].start(self.now))

    def _step(self, name: str, effects: Iterable[Effect]) -> None:
        self._take(name, effects)
        self.steps += 1
        if self.steps in self.crashes:
            self._start(self.desks)

    def _take(self, name: str, effects: Iterable[Effect]) -> None:
        for effect in list(effects):
            match effect:
                case Keep():
                    self.desks[name].keep(effect)
                case Perform(work):
                    self.works.append(work)
                case _:
                    self._publish(effect)

    def _publish(self, message: Message) -> None:
        body = Codec.encode(message)
        self.log.append(Codec.decode(body))
        self._route(body, *address(message))
        if isinstance(message, Command):
            self._to_agent(message)

    def _route(self, body: bytes, exchange: str, key: str) -> None:
        for name in self.desks:
            bound = (one for queue in QUEUES[name] for one in queue.bindings if one.exchange == exchange)
            if any(matches(words_of(binding.pattern), words_of(key)) for binding in bound):
                self._mail.append((name, body))

    def _to_agent(self, command: Command) -> None:
        """An agent that has the key in its journal gives the stored result, under an id of its own."""
        if known := self._answers.get(command.key):
            again = derived_id("result/1", (command.id,), "agent")
            self._publish(msgspec.structs.replace(known, id=again, command=command.id, time=self.now))
        else:
            self.commands[command.key] = command
