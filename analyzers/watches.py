"""The open watches: what each has seen, and what it has said."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from analyzers.observation import Observation
from analyzers.population import Population
from analyzers.recent import Seen
from analyzers.series import Series
from analyzers.watching import Watching, look
from exhaust.expressions import Expression, compile_expression, to_text, truth
from exhaust.ids import derived_id
from exhaust.language import VERIFY
from exhaust.messages import Sighting, Watch
from exhaust.worker import Effect, Keep, Rows

_MOST = 10_000

Source = tuple[str, str | None]


class Watches:
    """By execution. One of a series answers from that series' last records, one with a condition from its own."""

    def __init__(self, lists: Mapping[str, Any]) -> None:
        self._lists = lists
        self._watching: dict[str, Watching] = {}
        self._of_series: defaultdict[str, dict[str, Watching]] = defaultdict(dict)
        self._of_records: defaultdict[Source, dict[str, Watching]] = defaultdict(dict)
        self._expressions: dict[str, Expression] = {}
        self._changed: dict[str, Watching] = {}
        self.counts: Counter[str] = Counter()

    def recall(self, rows: Rows) -> Iterator[tuple[str, float]]:
        """Take up what was kept; yield each watch with its end."""
        for _, body in rows("watch/"):
            watching = msgspec.json.decode(body, type=Watching)
            self._add(watching)
            yield watching.watch.execution, watching.watch.until

    def take(self, watch: Watch, population: Population, now: float) -> Iterator[Effect]:
        """Open a watch, or take the newer form of one."""
        before = self._watching.get(watch.execution)
        if before is None and len(self._watching) >= _MOST:
            self.counts["too many"] += 1
            return
        about = before.series if before else population.by_episode(watch.episode)
        watching = Watching(watch, about, before.seen if before else [])
        if before is not None:
            self._remove(before)
        self._add(watching)
        if watch.when:
            self._expressions[watch.execution] = compile_expression(watch.when, VERIFY)
        self._changed[watch.execution] = watching
        yield from self._say(watching, population.get(watching.series), now)
        yield from self.keep()

    def _add(self, watching: Watching) -> None:
        watch = watching.watch
        self._watching[watch.execution] = watching
        if watching.series:
            self._of_series[watching.series][watch.execution] = watching
        if watch.on is not None:
            self._of_records[watch.on, watch.host][watch.execution] = watching

    def _remove(self, watching: Watching) -> None:
        watch = watching.watch
        del self._watching[watch.execution]
        if watching.series:
            _discard(self._of_series, watching.series, watch.execution)
        if watch.on is not None:
            _discard(self._of_records, (watch.on, watch.host), watch.execution)

    def watched(self, key: str) -> bool:
        """Whether anybody watches a series."""
        return key in self._of_series

    def look_at(self, stream: str, host: str) -> bool:
        """Whether anybody watches the records of a host's stream."""
        return (stream, host) in self._of_records or (stream, None) in self._of_records

    def series(self, key: str, series: Series, now: float) -> Iterator[Effect]:
        """Say what is new of a series."""
        for watching in self._of_series[key].values() if self.watched(key) else ():
            yield from self._say(watching, series, now)

    def record(self, seen: Observation) -> Iterator[Effect]:
        """Show a record to the watches that have a condition of their own."""
        for source in ((seen.stream, seen.host["name"]), (seen.stream, None)):
            for watching in self._of_records[source].values() if source in self._of_records else ():
                yield from self._show(watching, seen)

    def _show(self, watching: Watching, seen: Observation) -> Iterator[Effect]:
        watch = watching.watch
        if not seen.labelled(watch.labels, to_text):
            return
        if watching.seen and seen.time < watching.seen[-1].time:
            self.counts["late"] += 1
            return
        variables = (watch.variables.get("inputs"), watch.variables.get("cause"))
        gone = truth(self._expression(watch).function(*seen.variables(self._lists), *variables))
        watching.remember(Seen(seen.id, seen.time, seen.received, gone))
        self._changed[watch.execution] = watching
        yield from self._say(watching, None, seen.received)

    def keep(self) -> Iterator[Effect]:
        """Keep what was changed since the last time."""
        for execution, watching in self._changed.items():
            yield Keep(f"watch/{execution}", watching)
        self._changed.clear()

    def end(self, execution: str, now: float) -> Iterator[Effect]:
        """Close a watch whose time is over."""
        watching = self._watching.get(execution)
        if watching is None or watching.watch.until > now:
            return
        self._remove(watching)
        self._expressions.pop(execution, None)
        yield Keep(f"watch/{execution}", None)

    def _expression(self, watch: Watch) -> Expression:
        found = self._expressions.get(watch.execution)
        if found is None:
            found = self._expressions[watch.execution] = compile_expression(watch.when or "false", VERIFY)
        return found

    def _say(self, watching: Watching, series: Series | None, now: float) -> Iterator[Effect]:
        """Tell what is seen where it differs from what was told."""
        watch = watching.watch
        if watch.after is None:
            return
        sight = look(watch, series.seen, series.keep) if series else look(watch, watching.seen)
        if sight.holds == (watching.said or "unknown"):
            return
        watching.said = sight.holds
        self._changed[watch.execution] = watching
        causes = (watch.id, *sight.evidence)
        yield Sighting(
            id=derived_id("sighting/1", causes, "analyzers"),
            time=now,
            causes=causes,
            execution=watch.execution,
            host=watch.host,
            holds=sight.holds,
            samples=sight.samples,
            first=sight.first,
            last=sight.last,
        )


def _discard(table: defaultdict[Any, dict[str, Watching]], key: Any, execution: str) -> None:
    del table[key][execution]
    if not table[key]:
        del table[key]
