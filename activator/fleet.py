"""The hosts of the inventory, as shares count them: which belong together, are ill, or are being acted upon."""

from collections.abc import Mapping
from typing import Any

from activator.facts import Facts
from activator.runs import Runs

Inventory = Mapping[str, Mapping[str, str]]


class Fleet:
    """Shares are of the hosts that ought to be there, whatever is heard of them."""

    def __init__(self, inventory: Inventory, facts: Facts, runs: Runs) -> None:
        self._inventory = inventory
        self._facts = facts
        self._runs = runs
        self._groups: dict[tuple[str, str | None], frozenset[str]] = {}

    def group(self, label: str | None, value: Any) -> frozenset[str]:
        """Return the hosts whose label has this value; all, where no label is asked for."""
        if label is None:
            label, value = "", None
        if (label, value) not in self._groups:
            alike = (name for name, labels in self._inventory.items() if not label or labels.get(label) == value)
            self._groups[label, value] = frozenset(alike)
        return self._groups[label, value]

    def ill(self, group: frozenset[str], fact: str) -> int:
        """Return on how many of them a fact of a name is open."""
        return len(group & self._facts.hosts_with(fact))

    def acted_on(self, group: frozenset[str], rule: str) -> set[str]:
        """Return those on which a rule has something under way."""
        return {run.host for run in self._runs.of_rule(rule) if run.host in group}

    def unwell(self, group: frozenset[str]) -> set[str]:
        """Return those with an open fact that is an error or worse, or on which anything is under way."""
        return {host for host in group if self._facts.severe(host) or self._runs.on_host(host)}
