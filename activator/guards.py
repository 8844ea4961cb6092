"""What can hold a candidate back: each guard answers for itself, and all that refuse are told."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from activator.rules import COOLDOWN, COOLDOWN_AFTER_FAILURE, Rule, Rung
from exhaust.expressions import Timestamp, Unknown, truth
from exhaust.language import cause_of
from exhaust.messages import Fact, Order, Reason, Verdict

GRACE = 1.0
CONCURRENT = 2


class Run(msgspec.Struct):
    """One execution that a rule started: its slot is held until `verdict` or another end is known.

    `back` is the episode in which the fault came back, where the verdict is `relapsed`.
    """

    execution: str
    rule: str
    rung: int
    identity: str
    episode: str
    host: str | None
    labels: dict[str, str]
    started: float
    ended: float | None = None
    verdict: Verdict | None = None
    back: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it used up an attempt: it ended, and not with the fault gone for good."""
        return self.ended is not None and self.verdict != "recovered"

    @property
    def latest(self) -> float:
        """When it was last heard of."""
        return self.started if self.ended is None else self.ended


@dataclass(frozen=True)
class Refusal:
    """A guard's no; `until` is when it is worth asking again, infinity where only other news can change it."""

    reason: Reason
    until: float = math.inf


@dataclass(frozen=True)
class Question:
    """A candidate and all that its guards may look at.

    `runs` are at least those of the same fault, and those under way that the rule's limit counts.
    """

    rule: Rule
    number: int
    fact: Fact
    identity: str
    host: Mapping[str, Any] | None
    runs: Sequence[Run]
    now: float
    lists: Mapping[str, Any]
    facts: Mapping[str, Any]
    halt: Order | None = None

    @functools.cached_property
    def rung(self) -> Rung:
        return self.rule.rung(self.number)

    @functools.cached_property
    def own_runs(self) -> Sequence[Run]:
        """What this rule has started for this very fault, on this rung."""
        own = self.rule.name, self.number, self.identity
        return [run for run in self.runs if (run.rule, run.rung, run.identity) == own]

    def variables(self) -> tuple[Any, ...]:
        """The values of the names that a rule's expressions may use, in the order of `language.RULE`."""
        return (cause_of(self.fact), self.host, self.facts, Timestamp.from_seconds(self.now), self.lists)


def _host(question: Question) -> Iterator[Refusal]:
    if question.fact.host is not None and not (question.host and question.host["known"]):
        yield Refusal(Reason("host", question.fact.host, "a host of the inventory"))


def _when(question: Question) -> Iterator[Refusal]:
    condition = question.rule.when
    if condition is None:
        return
    value = condition.function(*question.variables())
    holds = truth(value)
    if not holds:
        have = value.reason if isinstance(value, Unknown) else "unknown" if holds is None else holds
        yield Refusal(Reason("when", have, condition.source))


def _halt(question: Question) -> Iterator[Refusal]:
    """People are told all the same."""
    if question.halt is not None and question.rung.run is not None:
        yield Refusal(Reason("halt", f"halted by {question.halt.by}", "not halted"))


def _stale(question: Question) -> Iterator[Refusal]:
    if question.now > question.fact.valid_until:
        yield Refusal(Reason("stale", question.fact.valid_until, f"valid at {question.now}"))


def _attempts(question: Question) -> Iterator[Refusal]:
    guard = question.rule.guard
    if question.rung.run is None:
        return
    if guard.attempts is None:
        used = [run for run in question.own_runs if run.failed and run.episode == question.fact.episode]
        if used:
            yield Refusal(Reason("attempts", len(used), "1 per episode"))
        return
    used = [run for run in question.own_runs if run.failed and _end(run) > question.now - guard.window]
    if len(used) >= guard.attempts:
        again = sorted(_end(run) for run in used)[-guard.attempts] + guard.window
        yield Refusal(Reason("attempts", len(used), f"fewer than {guard.attempts} in {guard.window:g} s"), again)


def _cooldown(question: Question) -> Iterator[Refusal]:
    ended = [run for run in question.own_runs if run.ended is not None]
    if question.rung.run is None or not ended:
        return
    last = max(ended, key=_end)
    wait = question.rule.guard.cooldown
    if wait is None:
        wait = COOLDOWN_AFTER_FAILURE if last.failed else COOLDOWN
    again = _end(last) + wait
    if question.now < again:
        yield Refusal(Reason("cooldown", round(question.now - _end(last), 3), f"{wait:g} s since the last run"), again)


def _concurrent(question: Question) -> Iterator[Refusal]:
    if question.rung.run is None:
        return
    running = [run for run in question.runs if run.ended is None and run.rule == question.rule.name]
    if any(run.identity == question.identity for run in running):
        yield Refusal(Reason("concurrent", 1, "no other run for the same fault"))
    limit = question.rule.guard.concurrent
    if isinstance(limit, int):
        yield from _too_many(sum(run.host == question.fact.host for run in running), limit, "on this host")
    elif limit is None:
        yield from _too_many(len(running), CONCURRENT, "of this rule")
    for label, most in limit.items() if isinstance(limit, dict) else ():
        own = _label(question, label)
        yield from _too_many(sum(run.labels.get(label) == own for run in running), most, f"of one {label}")


def _too_many(count: int, most: int, where: str) -> Iterator[Refusal]:
    if count >= most:
        yield Refusal(Reason("concurrent", count, f"fewer than {most} {where}"))


def _mode(question: Question) -> Iterator[Refusal]:
    if question.rung.run is not None and question.rule.mode_of(question.rung) == "observe":
        yield Refusal(Reason("mode", "observe", "auto"))


def _end(run: Run) -> float:
    return run.ended if run.ended is not None else math.inf


def _label(question: Question, name: str) -> str | None:
    host = question.host or {}
    found = question.fact.labels.get(name, host.get("labels", {}).get(name))
    return None if found is None else str(found)


# In the order in which a decision tells them.
GUARDS: tuple[Callable[[Question], Iterator[Refusal]], ...] = (
    _host,
    _when,
    _halt,
    _stale,
    _attempts,
    _cooldown,
    _concurrent,
    _mode,
)


def closes_until(question: Question) -> float:
    """Return until when the fact of a fault that was found gone may take to close: it comes by another queue."""
    recovered = (run for run in question.own_runs if run.episode == question.fact.episode)
    return max((_end(run) + GRACE for run in recovered if run.verdict == "recovered"), default=-math.inf)


def ask(question: Question) -> list[Refusal]:
    """Return every refusal, in the order of the guards."""
    return [refusal for guard in GUARDS for refusal in guard(question)]
