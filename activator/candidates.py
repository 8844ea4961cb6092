"""The open episodes with the rules that they concern, in the order in which a slot that is free is theirs."""

import bisect
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable
from itertools import chain

import msgspec

from activator.rules import NOTICE
from exhaust.messages import Fact

# What a candidate was told while what it started is under way, or its notice given.
FIRED = "fired"


class Candidate(msgspec.Struct):
    """An open episode and a rule that it concerns: how far up the ladder it is, and what was decided last.

    `since` is since when its fact has been open by the activator's clock; None before it was first judged.
    """

    episode: str
    rule: str
    rung: int = 0
    fired: int = 0
    told: str = ""
    last_id: str = ""
    count: int = 0
    again: float | None = None
    since: float | None = None

    def __post_init__(self) -> None:
        # Of 100,000 candidates most are of few rules, and were told the same.
        self.rule, self.told = sys.intern(self.rule), sys.intern(self.told)

    @property
    def name(self) -> str:
        """What tells it from others of the episode: the notice beside what a rule runs is a candidate of its own."""
        return f"{self.rule}/notice" if self.rung == NOTICE else self.rule

    @property
    def key(self) -> str:
        """What it is kept under."""
        return f"candidate/{self.episode}/{self.name}"


# Since when, which episode, which of its candidates.
_Place = tuple[float, str, str, Candidate]


class Candidates:
    """Finds them by episode, by rule and by host, in time that does not depend on how many others there are.

    In turn means by the age of their facts, which no start changes.
    """

    def __init__(self) -> None:
        self._of_episode: dict[str, tuple[Candidate, ...]] = {}
        self._of_rule: defaultdict[str, dict[str | None, list[_Place]]] = defaultdict(dict)
        self._of_host: defaultdict[str | None, dict[str, list[_Place]]] = defaultdict(dict)

    def __len__(self) -> int:
        return sum(map(len, self._of_episode.values()))

    def get(self, episode: str, name: str) -> Candidate | None:
        return next((one for one in self._of_episode.get(episode, ()) if one.name == name), None)

    def add(self, candidate: Candidate, fact: Fact) -> None:
        """Add the candidate of a fact."""
        self._of_episode[fact.episode] = (*self._of_episode.get(fact.episode, ()), candidate)
        line = self._of_rule[candidate.rule].setdefault(fact.host, [])
        self._of_host[fact.host][candidate.rule] = line
        bisect.insort(line, (fact.since, fact.episode, candidate.name, candidate))

    def remove(self, fact: Fact) -> tuple[Candidate, ...]:
        """Remove all candidates of a fact, as it was when they were added, and return them."""
        found = self._of_episode.pop(fact.episode, ())
        for candidate in found:
            line = self._of_rule[candidate.rule][fact.host]
            del line[bisect.bisect_left(line, (fact.since, fact.episode, candidate.name))]
            if not line:
                del self._of_rule[candidate.rule][fact.host], self._of_host[fact.host][candidate.rule]
            if not self._of_host[fact.host]:
                del self._of_host[fact.host]
        return found

    def move(self, known: Fact, fact: Fact) -> None:
        """Let a fact's candidates go where it now stands."""
        if (known.since, known.host) != (fact.since, fact.host):
            for candidate in self.remove(known):
                self.add(candidate, fact)

    def in_turn(self) -> list[Candidate]:
        return _in_turn(chain.from_iterable(lines.values() for lines in self._of_rule.values()))

    def of_rule(self, rule: str) -> list[Candidate]:
        """Return those of a rule, in turn."""
        return _in_turn(self._of_rule.get(rule, {}).values())

    def of_host(self, host: str | None, rules: Collection[str]) -> list[Candidate]:
        """Return those of some rules on a host, in turn."""
        return _in_turn(line for rule, line in self._of_host.get(host, {}).items() if rule in rules)


def _in_turn(lines: Iterable[list[_Place]]) -> list[Candidate]:
    return [candidate for _, _, _, candidate in sorted(chain.from_iterable(lines))]
