"""What else must be open for a rule, or must not be: the other facts that `given` and `unless` name."""

from collections.abc import Callable, Mapping
from typing import Any

from activator.facts import Facts
from activator.rules import Other
from exhaust.messages import Fact

Hosts = Callable[[str], Mapping[str, Any]]


class Others:
    """Finds them among what is open. `hosts` gives a host's labels."""

    def __init__(self, facts: Facts, hosts: Hosts) -> None:
        self._facts = facts
        self._hosts = hosts

    def find(self, other: Other, cause: Fact) -> Fact | None:
        """Return the one that has been open for the shortest time; None where there is none."""
        own = {name: self._label(cause, name) for name in other.same}
        if None in own.values():
            return None
        wide = any(name not in cause.labels for name in own)
        found = self._facts.named(other.open, cause.host, anywhere=wide)
        alike = (fact for fact in found if fact.episode != cause.episode and self._concerns(fact, cause, own))
        return max(alike, key=lambda fact: (fact.since, fact.episode), default=None)

    def lacking(self, other: Other, cause: Fact) -> str | None:
        """Return a label that the cause ought to share with the other fact, and has not."""
        return next((name for name in other.same if self._label(cause, name) is None), None)

    def _concerns(self, fact: Fact, cause: Fact, own: Mapping[str, str | None]) -> bool:
        if any(self._label(fact, name) != label for name, label in own.items()):
            return False
        if fact.host == cause.host or fact.host is None or cause.host is None:
            return True
        return any(name not in fact.labels for name in own)

    def _label(self, fact: Fact, name: str) -> str | None:
        """Return a label of a fact, else of its host."""
        if name in fact.labels or fact.host is None:
            return fact.labels.get(name)
        found = self._hosts(fact.host)["labels"].get(name)
        return None if found is None else str(found)
