"""Where one test is played: its steps move a rehearsal on, and its expectations are held against what happened."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from exhaust.documents.nodes import Fault, child
from exhaust.expressions import Timestamp, Unknown
from exhaust.ids import derived_id, new_id
from exhaust.messages import Command, ExecutionEvent, Fact, Order, Prediction, Sighting
from exhaust.plugins import Done
from exhaust.rehearsal.expectations import Expect, misses
from exhaust.rehearsal.happenings import Account, Happening, spelled, story
from exhaust.rehearsal.rehearsal import Rehearsal
from exhaust.rehearsal.script import Answer, Case, GivenFact, GivenPrediction, Records, Silent, Step
from exhaust.settings import Context

_HEARTBEAT = 10.0


class StepError(Exception):
    """Why a step cannot be done."""


class Stage:
    """One test and the rehearsal that it is played in; `host` is whose records and facts they are if none says so.

    A stream that has had records goes on to give a sign of life every 10 s.
    """

    def __init__(self, case: Case, path: str, context: Context, rehearsal: Rehearsal, host: str) -> None:
        self._case = case
        self._path = path
        self._context = context
        self._rehearsal = rehearsal
        self._host = case.host or host
        self._alive: dict[tuple[str, str], float] = {}
        self._given = 0
        self._account = Account(rehearsal)
        self._news: list[Happening] = []

    def play(self) -> list[Fault]:
        """Do every step; return what was not as expected, or why a step could not be done."""
        faults = []
        for number, step in enumerate(self._case.steps):
            path = child(f"{self._path}.steps", number)
            try:
                if step.after is not None:
                    self._pass(step.after)
                faults += [self._fault(f"{path}.{place}", what) for place, what in self._do(step)]
            except StepError as exc:
                faults.append(self._fault(path, str(exc)))
            except Exception as exc:  # noqa: BLE001  the one place: an analyzer of somebody's ends its test, not all
                return [*faults, self._fault(path, f"stopped by {type(exc).__name__}: {exc}")]
        return faults

    def _fault(self, path: str, what: str) -> Fault:
        return self._context.where[path].fault(f"test {self._case.name!r}: {what}")

    def _do(self, step: Step) -> Iterator[tuple[str, str]]:
        """Do what a step says; yield what it misses, by path."""
        for one in (step.records, step.silent, step.fact, step.prediction, step.order, step.answer, step.expect):
            match one:
                case Records():
                    self._send(one)
                case Silent():
                    self._alive.pop((one.host or self._host, one.stream), None)
                case GivenFact():
                    self._tell(one)
                case Order():
                    self._given += 1
                    own = new_id(self._rehearsal.now, self._given.to_bytes(10, "big"))
                    self._rehearsal.send(msgspec.structs.replace(one, id=own, time=self._rehearsal.now))
                case Answer():
                    self._answer(one)
                case Expect():
                    yield from self._compare(one)
        if step.sighting is not None:
            self._see("unknown" if step.sighting == "unknown" else "true" if step.sighting else "false")

    # Time

    def _pass(self, seconds: float) -> None:
        """Let time pass, with signs of life and what comes back unread on the way."""
        until = self._rehearsal.now + seconds
        while (moment := self._next()) <= until:
            self._rehearsal.reach(moment)
            for (host, stream), last in self._alive.items():
                if last + _HEARTBEAT <= moment:
                    self._alive[host, stream] = moment
                    self._rehearsal.batch(stream, host=host)
            while (oldest := self._oldest()) is not None and oldest.expires <= moment:
                self._rehearsal.expire()
        self._rehearsal.reach(until)

    def _next(self) -> float:
        oldest = self._oldest()
        moments = [last + _HEARTBEAT for last in self._alive.values()]
        return min([*moments, *([oldest.expires] if oldest else [])], default=float("inf"))

    def _oldest(self) -> Command | None:
        return next(iter(self._rehearsal.commands.values()), None)

    # What is given

    def _send(self, records: Records) -> None:
        host = records.host or self._host
        for beat in range(records.times or 1):
            if beat:
                self._pass(records.every or 0.0)
            now = Timestamp.from_seconds(self._rehearsal.now)
            values = [_rendered(value.render(float(beat), now)) for value in records.values]
            self._alive[host, records.stream] = self._rehearsal.now
            self._rehearsal.batch(records.stream, *values, host=host)

    def _tell(self, given: GivenFact) -> None:
        host = self._host if given.host == "" else given.host
        now = self._rehearsal.now
        known = self._open(given.name, host, given.labels)
        if known is None and given.state == "closed":
            raise StepError(f"no open fact {given.name} {spelled(given.labels)} of {spelled(host)} can be closed")
        self._given += 1
        about = json.dumps([given.name, host, sorted(given.labels.items())])
        own = derived_id("fact/1", (about,), "test", ordinal=self._given)
        closes = given.state == "closed"
        fields: dict[str, Any] = {
            "id": own,
            "time": now,
            "name": given.name,
            "host": host,
            "labels": given.labels,
            "episode": known.episode if known else own,
            "state": given.state,
            "reason": given.reason or ("cleared" if closes else "asserted"),
            "severity": given.severity,
            "since": known.since if known else now,
            "valid_until": now if closes else now + given.valid,
            "value": given.value,
            "summary": given.summary,
            "detector": "test",
        }
        if isinstance(given, GivenPrediction):
            horizon = given.due if given.horizon is None else given.horizon
            fields |= {"due": now + given.due, "probability": given.probability, "horizon": horizon}
            self._rehearsal.send(Prediction(**fields))
        else:
            self._rehearsal.send(Fact(**fields))

    def _open(self, name: str, host: str | None, labels: Mapping[str, str]) -> Fact | None:
        alike = (
            fact for fact in self._rehearsal.of(Fact) if (fact.name, fact.host, fact.labels) == (name, host, labels)
        )
        newest = next(reversed(list(alike)), None)
        return newest if newest and newest.state == "open" else None

    def _answer(self, answer: Answer) -> None:
        """Answer a command, or where none waits a work."""
        rehearsal, task = self._rehearsal, answer.task
        if any(task in (None, command.task) for command in rehearsal.commands.values()):
            rehearsal.answer(answer.state, task=task, reason=answer.reason, output=answer.output)
        elif any(task in (None, work.task.name) for work in rehearsal.works):
            failed = answer.state != "succeeded"
            error = (answer.reason or answer.state) if failed else None
            rehearsal.finish(Done(answer.output, error, retry=failed), task=task)
        else:
            whose = f" of task {task!r}" if task else ""
            self._news += self._account.news()
            raise StepError(f"no command{whose} waits for an answer{self._told()}")

    def _see(self, holds: Literal["true", "false", "unknown"]) -> None:
        """Say in the analyzers' place what they saw of the fault that the newest run verifying is about."""
        newest = {event.execution: event for event in self._rehearsal.of(ExecutionEvent) if event.task is None}
        run = next((event for event in reversed(newest.values()) if event.state == "verifying"), None)
        if run is None:
            raise StepError("a sighting is for an execution that is verifying, and none is")
        self._given += 1
        self._rehearsal.send(
            Sighting(
                id=derived_id("sighting/1", (run.id,), "test", ordinal=self._given),
                time=self._rehearsal.now,
                causes=(run.id,),
                execution=run.execution,
                host=self._host,
                holds=holds,
                samples=1,
            )
        )

    # What is expected

    def _compare(self, expect: Expect) -> Iterator[tuple[str, str]]:
        self._news += self._account.news()
        for number, (path, what) in enumerate(misses(expect, self._news)):
            yield f"expect.{path}", what if number else what + self._told()
        self._news = []

    def _told(self) -> str:
        """Return the lines that tell a person what did happen since the last expectation."""
        lines = list(story(self._news, self._case.at))
        unknown: Mapping[str, int] = self._rehearsal.desks["analyzers"].decider.status().get("unknown", {})
        lines += [f"analyzer {name} could not judge {count} of the records" for name, count in unknown.items()]
        return "".join(f"\n  {line}" for line in lines)


def _rendered(values: dict[str, Any] | Unknown) -> dict[str, Any]:
    if isinstance(values, Unknown):
        raise StepError(f"a value is unknown: {values.reason}")
    return values
