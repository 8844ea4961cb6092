"""What is asked about a candidate: put together from the rules, what is open, what ran, and what people halted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from activator.answers import identity
from activator.candidates import Candidate
from activator.facts import Facts
from activator.fleet import Fleet, Inventory
from activator.guards import Question
from activator.others import Hosts, Others
from activator.rules import Rule, Rules
from activator.runs import Runs
from exhaust.calendars import Times
from exhaust.halts import Halts
from exhaust.messages import Fact


@dataclass(frozen=True)
class Surroundings:
    """What an installation's files say beside its rules."""

    hosts: Hosts
    lists: Mapping[str, Any] = field(default_factory=dict)
    calendars: Mapping[str, Times] = field(default_factory=dict)
    inventory: Inventory = field(default_factory=dict)


class Questions:
    """Asks by the facts and the runs as they are at that moment."""

    def __init__(self, rules: Rules, around: Surroundings, facts: Facts, runs: Runs, halts: Halts) -> None:
        self._rules = rules
        self._around = around
        self._facts = facts
        self._runs = runs
        self._halts = halts
        self._others = Others(facts, around.hosts)
        self._fleet = Fleet(around.inventory, facts, runs)

    def of(self, candidate: Candidate, now: float) -> Question | None:
        """Return what there is to ask; None where its fact is not open, or its rule says nothing of it any more."""
        fact = self._facts.get(candidate.episode)
        rule = self._rules.named.get(candidate.rule)
        if fact is None or rule is None or not rule.has(candidate.rung):
            return None
        host = None if fact.host is None else self._around.hosts(fact.host)
        labels = {**(host or {}).get("labels", {}), **fact.labels}
        fault = identity(fact)
        question = Question(
            rule=rule,
            number=candidate.rung,
            fact=fact,
            identity=fault,
            since=min(fact.since if candidate.since is None else candidate.since, now),
            host=host,
            runs=self._runs.concerning(rule.name, fault, fact.host, labels),
            now=now,
            lists=self._around.lists,
            facts=self._facts.of_host(fact.host) if rule.name in self._rules.reading else {},
            halt=self._halts.over(fact.host),
            given={alias: self._others.find(other, fact) for alias, other in rule.given.items()},
            unless=dict(self._inhibiting(rule, fact)),
            starts=self._runs.starts(rule.name),
            calendars=self._around.calendars,
            fleet=self._fleet,
        )
        return self._with_key(question, question.key) if isinstance(question.key, str) else question

    def _with_key(self, question: Question, key: str) -> Question:
        runs = {run.execution: run for run in (*question.runs, *self._runs.of_key(key))}
        return replace(question, runs=tuple(runs.values()))

    def _inhibiting(self, rule: Rule, fact: Fact) -> Iterator[tuple[str, str]]:
        """Yield what keeps a rule back because of `unless`; where that cannot be known it does too."""
        for other in rule.unless:
            if lacking := self._others.lacking(other, fact):
                yield other.open, f"the cause has no label '{lacking}'"
            elif found := self._others.find(other, fact):
                yield other.open, f"open since {found.since}" + (f" on {found.host}" if found.host else "")
