"""The open watches: what each has seen, and what it has said."""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import msgspec

from analyzers.observation import Observation
from analyzers.series import Seen, Series
from analyzers.watching import Watching, look
from exhaust.expressions import Expression, compile_expression, to_text, truth
from exhaust.ids import derived_id
from exhaust.language import VERIFY
from exhaust.messages import Sighting, Watch
from exhaust.worker import Effect, Keep, Rows

_MOST = 10_000


class Watches:
    """By execution. One of a series answers from that series' last records, one with a condition from its own."""

    def __init__(self, lists: Mapping[str, Any]) -> None:
        self._lists = lists
        self._watching: dict[str, Watching] = {}
        self._expressions: dict[str, Expression] = {}
        self.counts: Counter[str] = Counter()

    def recall(self, rows: Rows) -> Iterator[tuple[str, float]]:
        """Take up what was kept; yield each watch with its end."""
        for _, body in rows("watch/"):
            watching = msgspec.json.decode(body, type=Watching)
            self._watching[watching.watch.execution] = watching
            yield watching.watch.execution, watching.watch.until

    def take(self, watch: Watch, asked: str, known: Mapping[str, Series], now: float) -> Iterator[Effect]:
        """Open a watch, or take the newer form of one: `asked` is the key of the series that it is about, if any."""
        before = self._watching.get(watch.execution)
        if before is None and len(self._watching) >= _MOST:
            self.counts["too many"] += 1
            return
        watching = Watching(watch, before.series if before else asked, before.seen if before else [])
        if watch.when:
            self._expressions[watch.execution] = compile_expression(watch.when, VERIFY)
        self._watching[watch.execution] = watching
        yield from self._say(watching, known.get(watching.series), now)
        yield Keep(f"watch/{watch.execution}", watching)

    def series(self, key: str, series: Series, now: float) -> Generator[Effect, None, bool]:
        """Say what is new of a series; return whether anybody watches it."""
        watchers = [watching for watching in self._watching.values() if watching.series == key]
        for watching in watchers:
            yield from self._say(watching, series, now)
        return bool(watchers)

    def record(self, seen: Observation) -> Iterator[Effect]:
        """Show a record to the watches that have a condition of their own."""
        for watching in self._watching.values():
            watch = watching.watch
            if watch.on != seen.stream or watch.host not in (None, seen.host["name"]):
                continue
            if not seen.labelled(watch.labels, to_text):
                continue
            if watching.seen and seen.time < watching.seen[-1].time:
                self.counts["late"] += 1
                continue
            variables = (watch.variables.get("inputs"), watch.variables.get("cause"))
            gone = truth(self._expression(watch).function(*seen.variables(self._lists), *variables))
            watching.remember(Seen(seen.id, seen.time, seen.received, gone))
            yield from self._say(watching, None, seen.received)
            yield Keep(f"watch/{watch.execution}", watching)

    def end(self, execution: str, now: float) -> Iterator[Effect]:
        """Close a watch whose time is over."""
        watching = self._watching.get(execution)
        if watching is None or watching.watch.until > now:
            return
        del self._watching[execution]
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
        yield Keep(f"watch/{watch.execution}", watching)
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
