"""What can hold a candidate back: each guard answers for itself, and all that refuse are told."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from activator.fleet import Fleet
from activator.rules import COOLDOWN, COOLDOWN_AFTER_FAILURE, Correlated, FleetShare, Rule, Rung
from activator.run import Run
from exhaust.calendars import Times
from exhaust.expressions import Timestamp, Unknown, to_text, truth
from exhaust.language import cause_of
from exhaust.messages import Fact, Order, Reason

GRACE = 1.0
CONCURRENT = 2
ASK_AGAIN = 15.0  # where it is not worth hearing of all that could change the answer


@dataclass(frozen=True)
class Refusal:
    """A guard's no; `until` is when it is worth asking again, infinity where only other news can change it."""

    reason: Reason
    until: float = math.inf


@dataclass(frozen=True)
class Question:
    """A candidate and all that its guards may look at.

    `since` is since when the fact has been open, by the same clock as `now`.
    `runs` are at least those of the same fault and of the same key, and those under way that the rule's limit counts;
    `starts` when the rule last ran anything, as often as its limit counts, the oldest first. `given` are the other
    facts that the rule looks for, by their aliases, and `unless` those found that keep it back, by name. Without a
    `fleet` there are no other hosts.
    """

    rule: Rule
    number: int
    fact: Fact
    identity: str
    since: float
    host: Mapping[str, Any] | None
    runs: Sequence[Run]
    now: float
    lists: Mapping[str, Any]
    facts: Mapping[str, Any]
    halt: Order | None = None
    given: Mapping[str, Fact | None] = field(default_factory=dict)
    unless: Mapping[str, str] = field(default_factory=dict)
    starts: Sequence[float] = ()
    calendars: Mapping[str, Times] = field(default_factory=dict)
    fleet: Fleet | None = None

    @functools.cached_property
    def rung(self) -> Rung:
        return self.rule.rung(self.number)

    @functools.cached_property
    def own_runs(self) -> Sequence[Run]:
        """What this rule has started for this very fault, on this rung."""
        own = self.rule.name, self.number, self.identity
        return [run for run in self.runs if (run.rule, run.rung, run.identity) == own]

    def variables(self) -> tuple[Any, ...]:
        """The values of the names that a rule's expressions may use: `language.RULE`, then those under `given`."""
        now, given = Timestamp.from_seconds(self.now), map(cause_of, self.given.values())
        return (cause_of(self.fact), self.host, self.facts, now, self.lists, *given)

    @functools.cached_property
    def key(self) -> str | Unknown | None:
        """What the rule shares with others that know of it."""
        key = self.rule.guard.key
        return None if key is None else to_text(key(*self.variables()))


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


def _given(question: Question) -> Iterator[Refusal]:
    for alias, fact in question.given.items():
        if fact is None:
            other = question.rule.given[alias]
            same = f" with the same {', '.join(other.same)}" if other.same else ""
            yield Refusal(Reason("given", f"no {alias}", f"an open '{other.open}'{same}"))


def _unless(question: Question) -> Iterator[Refusal]:
    for name, have in question.unless.items():
        yield Refusal(Reason("unless", have, f"no open '{name}'"))


def _for(question: Question) -> Iterator[Refusal]:
    until = question.since + question.rule.for_
    if question.now < until:
        open_for = round(question.now - question.since, 3)
        yield Refusal(Reason("for", open_for, f"open for {question.rule.for_:g} s"), until)


def _during(question: Question) -> Iterator[Refusal]:
    """All of what it is to be done in must hold, and none of what it must not be done in."""
    for wanted, names in ((True, question.rule.during), (False, question.rule.unless_during)):
        for name in [names] if isinstance(names, str) else names:
            times = question.calendars[name]
            if times.holds(question.now) != wanted:
                want = f"{'during' if wanted else 'unless_during'} {name}"
                yield Refusal(Reason("during", question.now, want), times.changes(question.now))


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
    if question.rung.run is None:
        return
    key = question.key
    if isinstance(key, Unknown):
        yield Refusal(Reason("cooldown", key.reason, "a 'key' that is known"))
        return
    alike = question.own_runs if key is None else [run for run in question.runs if run.key == key]
    ended = [run for run in alike if run.ended is not None]
    if not ended:
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
    key = question.key
    if isinstance(key, str) and any(run.ended is None and run.key == key for run in question.runs):
        yield Refusal(Reason("concurrent", 1, f"no other run with the key '{key}'"))
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


def _fleet(question: Question) -> Iterator[Refusal]:
    wanted, group = question.rule.guard.fleet, _group(question, question.rule.guard.fleet)
    if wanted is None or question.fleet is None or not group:
        return
    most = _at_least_one(wanted.share * len(group))
    busy = question.fleet.acted_on(group, question.rule.name) | {question.fact.host}
    if len(busy) > most:
        want = f"at most {most} of {len(group)} hosts at once"
        yield Refusal(Reason("fleet", len(busy), want), _next_look(question.now))


def _healthy(question: Question) -> Iterator[Refusal]:
    for label, share in question.rule.guard.healthy.items():
        group = _group(question, FleetShare(share=share, of=label))
        if question.fleet is None or not group:
            continue
        most = _at_least_one((1 - share) * len(group))
        unwell = question.fleet.unwell(group) | {question.fact.host}
        if len(unwell) > most:
            want = f"at most {most} of the {len(group)} hosts of one {label} not well"
            yield Refusal(Reason("healthy", len(unwell), want), _next_look(question.now))


def _correlated(question: Question) -> Iterator[Refusal]:
    """What many have at once is more likely wrong with what observes them, or not to be mended host by host."""
    guard = question.rule.guard.correlated
    group = _group(question, guard)
    if question.fleet is None or not group:
        return
    ill = question.fleet.ill(group, question.fact.name)
    if ill >= guard.least and ill > guard.share * len(group):
        want = f"fewer than {guard.least}, or at most {100 * guard.share:g} % of {len(group)} hosts with the same fact"
        yield Refusal(Reason("correlated", ill, want), _next_look(question.now))


def _group(question: Question, share: FleetShare | Correlated | None) -> frozenset[str]:
    """Return the hosts that a share is of; none where the question does not arise."""
    if share is None or question.fleet is None or question.fact.host is None or question.rung.run is None:
        return frozenset()
    return question.fleet.group(share.of, _label(question, share.of) if share.of else None)


def _next_look(now: float) -> float:
    """Return the next of the moments at which all look again, whenever they are asked in between."""
    return (math.floor(now / ASK_AGAIN) + 1) * ASK_AGAIN


def _at_least_one(count: float) -> int:
    return max(1, math.floor(count + 1e-9))


def _limit(question: Question) -> Iterator[Refusal]:
    limit, starts = question.rule.guard.limit, question.starts
    if question.rung.run is None or len(starts) < limit.runs:
        return
    again = starts[-limit.runs] + limit.window
    if question.now < again:
        yield Refusal(Reason("limit", limit.runs, f"fewer than {limit.runs} runs in {limit.window:g} s"), again)


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
    _given,
    _unless,
    _for,
    _during,
    _halt,
    _stale,
    _attempts,
    _cooldown,
    _concurrent,
    _fleet,
    _healthy,
    _correlated,
    _limit,
    _mode,
)


def closes_until(question: Question) -> float:
    """Return until when the fact of a fault that was found gone may take to close: it comes by another queue."""
    recovered = (run for run in question.own_runs if run.episode == question.fact.episode)
    return max((_end(run) + GRACE for run in recovered if run.verdict == "recovered"), default=-math.inf)


def ask(question: Question) -> list[Refusal]:
    """Return every refusal, in the order of the guards."""
    return [refusal for guard in GUARDS for refusal in guard(question)]
