"""The loop's deciders wired together in virtual time: no broker, no disk, no waiting, and every id predictable."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from exhaust.broker.embedded import matches, words_of
from exhaust.ids import derived_id, new_id
from exhaust.messages import Batch, Codec, Command, Message, Result
from exhaust.plugins import Done, Task
from exhaust.routing import QUEUES, RESULTS, address, word
from exhaust.worker import Decider, Effect, Keep, Perform

M = TypeVar("M", bound=Message)
ResultState = Literal["succeeded", "failed", "refused", "indeterminate"]
Answers = Literal["succeed", "fail", "silent"]

_TOLD_TO = "told to fail"


class Work(Protocol):
    """What a decider asks an adapter to do."""

    @property
    def adapter(self) -> str: ...
    @property
    def task(self) -> Task: ...


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


class Rehearsal:
    """The deciders of one installation, at `now`.

    What one sends is encoded, logged, routed by the real topology and decoded, first in, first out; what it keeps lies
    in a plain dict. `log` is every message in the order of sending, `asked` every work with the log's length by then.

    `agents` and `adapters` succeed or fail at once; silent ones leave commands (by their key) in `commands`, and works
    in `works`, for `answer`, `expire` and `finish`.
    """

    def __init__(
        self,
        deciders: Mapping[str, Callable[[], Decider]],
        now: float,
        *,
        agents: Answers = "silent",
        adapters: Answers = "silent",
    ) -> None:
        self.now = now
        self.agents = agents
        self.adapters = adapters
        self.log: list[Message] = []
        self.asked: list[tuple[int, Work]] = []
        self.commands: dict[str, Command] = {}
        self.works: list[Work] = []
        self._answers: dict[str, Result] = {}
        self._sequences: Counter[tuple[str, str]] = Counter()
        self._mail: deque[tuple[str, bytes]] = deque()
        self.desks = {name: Desk(make) for name, make in deciders.items()}
        self._start(self.desks)
        self._settle()

    def send(self, *messages: Message) -> None:
        """Publish messages from outside, one after the other, and let follow what follows."""
        for message in messages:
            self._publish(message)
            self._settle()

    def batch(self, stream: str, *records: Mapping[str, Any], host: str) -> Batch:
        """Send records of `<emitter>.<stream>`, of now unless they say otherwise; none is a sign of life."""
        emitter, _, name = stream.partition(".")
        own = new_id(self.now, self._sequences.total().to_bytes(10, "big"))
        sequence = self._sequences[host, stream]
        self._sequences[host, stream] += 1
        timed = [{"time": self.now, **record} for record in records]
        batch = Batch(
            id=own, time=self.now, host=host, emitter=emitter, stream=name, epoch=1, seq=sequence, records=timed
        )
        self.send(batch)
        return batch

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due on the way is done at the very instant."""
        self.reach(self.now + seconds)

    def reach(self, moment: float) -> None:
        """Let time pass until a moment; one that has passed is now."""
        while (due := min(desk.decider.due for desk in self.desks.values())) <= moment:
            self.now = max(self.now, due)
            for name, desk in self.desks.items():
                if desk.decider.due <= self.now:
                    self._step(name, desk.decider.tick(self.now))
            self._settle()
        self.now = max(self.now, moment)

    def answer(self, state: ResultState = "succeeded", *, task: str | None = None, **fields: Any) -> Result:
        """Let the agent answer the oldest command, or that of `task`; it began just now unless `fields` say else."""
        result = self._answer(state, task, **fields)
        self._settle()
        return result

    def expire(self) -> None:
        """Let the oldest command come back unread, once its time is over."""
        command = self.commands.pop(next(iter(self.commands)))
        self.reach(command.expires)
        self._route(Codec.encode(command), RESULTS, word(command.host))
        self._settle()

    def finish(self, outcome: Any = None, *, task: str | None = None) -> Work:
        """Let an adapter be done with its oldest work, or that of `task`; it went well unless `outcome` says else."""
        work = self._finish(outcome or Done(), task)
        self._settle()
        return work

    def of(self, type_: type[M]) -> list[M]:
        """Return every message of a type."""
        return [message for message in self.log if isinstance(message, type_)]

    def _settle(self) -> None:
        """Let follow what follows, until all wait for time or for an answer."""
        while self._mail or self._answered():
            while self._mail:
                name, body = self._mail.popleft()
                message = Codec.decode(body)
                if message.id not in self.desks[name].seen:
                    self.desks[name].seen.add(message.id)
                    self._step(name, self.desks[name].decider.handle(message, self.now))

    def _answered(self) -> bool:
        """Answer one command or work, where that is done at once; return whether it was."""
        if self.commands and self.agents != "silent":
            failed = self.agents == "fail"
            self._answer("failed" if failed else "succeeded", None, reason=_TOLD_TO if failed else "")
            return True
        if self.works and self.adapters != "silent":
            failed = self.adapters == "fail"
            self._finish(Done(error=_TOLD_TO, retry=True) if failed else Done(), None)
            return True
        return False

    def _answer(self, state: ResultState, task: str | None, **fields: Any) -> Result:
        command = next(command for command in self.commands.values() if task in (None, command.task))
        about = {"command": command.id, "key": command.key, "execution": command.execution, "host": command.host}
        did = {} if state == "refused" else {"started": self.now, "ended": self.now}
        own = derived_id("result/1", (command.id,), "agent")
        result = Result(id=own, time=self.now, causes=(command.id,), state=state, **(about | did | fields))
        self._answers[self.commands.pop(command.key).key] = result
        self._publish(result)
        return result

    def _finish(self, outcome: Any, task: str | None) -> Work:
        work = next(work for work in self.works if task in (None, work.task.name))
        self.works.remove(work)
        self._step("orchestrator", self.desks["orchestrator"].decider.performed(work, outcome, self.now))
        return work

    def _start(self, names: Iterable[str]) -> None:
        for name in names:
            if name == "orchestrator":
                self.works.clear()
            self._take(name, self.desks[name].start(self.now))

    def _step(self, name: str, effects: Iterable[Effect]) -> None:
        """Take what follows from one thing that happened to a component."""
        self._take(name, effects)

    def _take(self, name: str, effects: Iterable[Effect]) -> None:
        for effect in list(effects):
            match effect:
                case Keep():
                    self.desks[name].keep(effect)
                case Perform(work):
                    self.works.append(work)
                    self.asked.append((len(self.log), work))
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
