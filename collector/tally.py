"""How many items of a kind there are of each sort: open facts of a host by severity, decisions of a rule by outcome."""

from collections import Counter, defaultdict


class Tally:
    """Counts items by what they are of, and what they are."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[str, str]] = {}
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def put(self, name: str, of: str, what: str) -> None:
        self.remove(name)
        self._items[name] = (of, what)
        self._counts[of][what] += 1

    def remove(self, name: str) -> None:
        if name not in self._items:
            return
        of, what = self._items.pop(name)
        counts = self._counts[of]
        counts[what] -= 1
        if not counts[what]:
            del counts[what]
        if not counts:
            del self._counts[of]

    def what(self, name: str) -> str:
        """Return what an item was counted as."""
        return self._items[name][1]

    def counts(self, of: str) -> dict[str, int]:
        return dict(self._counts[of]) if of in self._counts else {}
