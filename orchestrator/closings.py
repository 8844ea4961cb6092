"""The closings of facts, for a while: an activation may come when its cause has closed already."""

import heapq
import math
from collections.abc import Iterator

from exhaust.depot import Depot
from exhaust.messages import Fact, Prediction
from exhaust.worker import Keep, Rows

_REMEMBER = 3600.0
_TOGETHER = 60.0
MOST = 10_000


class Closings:
    """Keeps the newest MOST of them under `closed/`; in memory is only when each of them was."""

    def __init__(self, rows: Rows) -> None:
        self._facts: Depot[Fact] = Depot("closed/", Fact | Prediction, rows)
        self._times = {episode: fact.time for episode, fact in self._facts.all()}
        self._ages = sorted((time, episode) for episode, time in self._times.items())

    @property
    def due(self) -> float:
        """When some are to be forgotten, many together."""
        if len(self._ages) > MOST + MOST // 10:
            return 0.0
        return self._ages[0][0] + _REMEMBER + _TOGETHER if self._ages else math.inf

    def put(self, fact: Fact) -> Keep:
        self._times[fact.episode] = fact.time
        heapq.heappush(self._ages, (fact.time, fact.episode))
        return self._facts.put(fact.episode, fact)

    def get(self, episode: str) -> Fact | None:
        return self._facts.get(episode) if episode in self._times else None

    def set_back(self, now: float) -> None:
        """Count those that seem to be later than now, by a clock that was set back, as of now."""
        self._times = {episode: min(time, now) for episode, time in self._times.items()}
        self._ages = sorted((time, episode) for episode, time in self._times.items())

    def forget(self, now: float) -> Iterator[Keep]:
        """Drop those that no activation can still name, and the oldest of too many."""
        while self._ages and (self._ages[0][0] < now - _REMEMBER or len(self._ages) > MOST):
            time, episode = heapq.heappop(self._ages)
            if self._times.get(episode) == time:
                del self._times[episode]
                yield self._facts.put(episode, None)
