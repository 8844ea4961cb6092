"""The facts that are open: by episode, by age, and what else is the matter on a host."""

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from itertools import chain
from typing import Any

from activator.packing import Packing
from exhaust.depot import Depot
from exhaust.language import cause_of
from exhaust.messages import Fact, Prediction
from exhaust.worker import Keep, Rows

_Age = tuple[float, str]
_SEVERE = frozenset(("error", "critical"))

# No expression and no guard looks at what is left out.
_PACKING: Packing[Fact] = Packing(Fact, Prediction, left_out=("episode", "causes", "evidence", "detector"))


class Facts:
    """Holds them packed, and without what only an activation carries on: 100,000 must fit in little memory."""

    def __init__(self, rows: Rows) -> None:
        self._whole: Depot[Fact] = Depot("fact/", Fact | Prediction, rows)
        self._packed: dict[str, bytes] = {}
        self._hosts: defaultdict[str | None, dict[str, list[_Age]]] = defaultdict(dict)
        self._named: defaultdict[str, set[str | None]] = defaultdict(set)
        self._severe: Counter[str | None] = Counter()
        self._seen: tuple[str | None, Mapping[str, Any]] | None = None
        for _, fact in self._whole.all():
            self._take(fact, None)

    def __len__(self) -> int:
        return len(self._packed)

    def get(self, episode: str) -> Fact | None:
        """Return an open fact without its evidence."""
        packed = self._packed.get(episode)
        return None if packed is None else _PACKING.unpack(packed, episode=episode)

    def whole(self, fact: Fact) -> Fact:
        """Return a fact with all that its newest message said."""
        return self._whole.get(fact.episode) or fact

    def put(self, fact: Fact, known: Fact | None) -> Keep:
        """Take a fact that opens, or is asserted again; `known` is as it was before."""
        self._take(fact, known)
        return self._whole.put(fact.episode, fact)

    def remove(self, fact: Fact) -> Keep:
        """Drop a fact that is open."""
        del self._packed[fact.episode]
        self._weigh(fact, -1)
        self._leave(fact)
        return self._whole.put(fact.episode, None)

    def oldest_first(self) -> Iterator[Fact]:
        ages = chain.from_iterable(chain.from_iterable(named.values() for named in self._hosts.values()))
        return (_PACKING.unpack(self._packed[episode], episode=episode) for _, episode in sorted(ages))

    def of_host(self, host: str | None) -> Mapping[str, Any]:
        """Return the newest open fact of each name on a host, as expressions see it, by name."""
        if self._seen is None or self._seen[0] != host:
            named = sorted(self._hosts.get(host, {}).items(), key=lambda item: item[1][0])
            self._seen = host, {name: cause_of(self.get(ages[-1][1])) for name, ages in named}
        return self._seen[1]

    def hosts_with(self, name: str) -> Set[str | None]:
        """Return the hosts on which a fact of a name is open; None among them where one is of no host."""
        return self._named.get(name, frozenset())

    def severe(self, host: str) -> int:
        """Return how many facts are open on a host that are errors or worse."""
        return self._severe[host]

    def named(self, name: str, host: str | None, *, anywhere: bool) -> Iterator[Fact]:
        """Yield the open facts of a name, the newest of each host first: of a host and of none, or of all hosts."""
        hosts = self._named.get(name, set())
        for place in hosts if anywhere or host is None else hosts & {host, None}:
            for _, episode in reversed(self._hosts[place][name]):
                yield _PACKING.unpack(self._packed[episode], episode=episode)

    def _take(self, fact: Fact, known: Fact | None) -> None:
        self._weigh(known, -1)
        self._weigh(fact, 1)
        if known is None or _place(known) != _place(fact):
            if known is not None:
                self._leave(known)
            bisect.insort(self._hosts[fact.host].setdefault(fact.name, []), (fact.since, fact.episode))
            self._named[fact.name].add(fact.host)
        self._packed[fact.episode] = _PACKING.pack(fact)
        self._seen = None

    def _weigh(self, fact: Fact | None, by: int) -> None:
        if fact is not None and fact.severity in _SEVERE:
            self._severe[fact.host] += by
            if not self._severe[fact.host]:
                del self._severe[fact.host]

    def _leave(self, fact: Fact) -> None:
        named = self._hosts[fact.host]
        ages = named[fact.name]
        del ages[bisect.bisect_left(ages, (fact.since, fact.episode))]
        if not ages:
            del named[fact.name]
            self._named[fact.name].discard(fact.host)
            if not self._named[fact.name]:
                del self._named[fact.name]
        if not named:
            del self._hosts[fact.host]
        self._seen = None


def _place(fact: Fact) -> tuple[str | None, str, float]:
    return fact.host, fact.name, fact.since
