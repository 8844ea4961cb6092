"""All series: by key and by labels, which are open, and no more of an analysis than it may have."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from analyzers.analysis import Analysis
from analyzers.selection import Values
from analyzers.series import Series, analysis_of, series_key
from exhaust.messages import MOST_LABELS, MOST_LABELS_BYTES
from exhaust.worker import Effect, Keep, Rows

Place = tuple[str, Series]
"""A series with its key."""


class _Own:
    """The series of one analysis, by key and by host and labels.

    `oldest` are some that may be forgotten, with when they had been heard of by then.
    """

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}
        self.known: dict[str, dict[Values, Place]] = {}
        self.open = 0
        self.oldest: deque[tuple[float, str]] = deque()


class Population:
    """Series are found by analysis, host and the values of their labels; what was changed is kept once, at the end."""

    def __init__(self, analyses: Sequence[Analysis]) -> None:
        self._analyses = {analysis.name: analysis for analysis in analyses}
        self._of = {analysis.name: _Own() for analysis in analyses}
        self._open: dict[tuple[str, str], dict[str, Series]] = {}
        self._changed: dict[str, Series] = {}
        self._episodes: dict[str, str] = {}
        self._orphans: dict[str, Series] = {}

    def __len__(self) -> int:
        return sum(len(own.series) for own in self._of.values())

    @property
    def open(self) -> int:
        return sum(own.open for own in self._of.values())

    def recall(self, rows: Rows) -> None:
        """Take up what was kept."""
        for key, body in rows("series/"):
            series = msgspec.json.decode(body, type=Series)
            analysis = self._analyses.get(analysis_of(key))
            if analysis is None:
                self._orphans[key] = series
            else:
                self._add(analysis, key, series)

    def _add(self, analysis: Analysis, key: str, series: Series) -> Place:
        place, own = (key, series), self._of[analysis.name]
        own.series[key] = series
        # One with other labels is of an older definition: no record is of it any more.
        if series.labels.keys() == analysis.settings.by.keys():
            own.known.setdefault(series.host, {})[_values(analysis, series)] = place
        for episode in series.episodes:
            self._episodes[episode] = key
        if series.open:
            self.opened(analysis, key, series)
        return place

    def orphans(self) -> dict[str, Series]:
        """Take the series of analyses that are no longer configured."""
        taken, self._orphans = self._orphans, {}
        return taken

    # Finding

    def analysis(self, key: str) -> Analysis:
        return self._analyses[analysis_of(key)]

    def get(self, key: str) -> Series | None:
        own = self._of.get(analysis_of(key)) if key else None
        return own.series.get(key) if own else None

    def __iter__(self) -> Iterator[tuple[Analysis, str, Series]]:
        for name, own in self._of.items():
            for key, series in own.series.items():
                yield self._analyses[name], key, series

    def finder(self, analysis: Analysis, host: str) -> Callable[[Values], Place | None]:
        """Return what finds the series of a host by the values of their labels, or begins them.

        It gives None for a new one where there is no room, as nothing that is open is forgotten for others, and where
        its labels are more than a fact can have.
        """
        own = self._of[analysis.name]
        if own.open >= analysis.settings.most:
            return own.known.get(host, {}).get
        known = own.known.setdefault(host, {})

        def find(values: Values) -> Place | None:
            return known.get(values) or self._begun(analysis, host, values)

        return find

    def _begun(self, analysis: Analysis, host: str, values: Values) -> Place | None:
        labels = dict(zip(analysis.settings.by, values, strict=True))
        if len(labels) > MOST_LABELS or len(msgspec.json.encode(labels)) > MOST_LABELS_BYTES:
            return None
        return self._add(analysis, series_key(analysis.name, host, labels), Series(host, labels))

    def by_episode(self, episode: str | None) -> str:
        """Return the key of the series that an episode is of; empty where nobody knows."""
        return self._episodes.get(episode or "", "")

    def open_of(self, analysis: Analysis, host: str) -> Iterator[Series]:
        yield from self._open.get((analysis.name, host), {}).values()

    # Changing

    def changed(self, key: str, series: Series) -> None:
        self._changed[key] = series

    def opened(self, analysis: Analysis, key: str, series: Series) -> None:
        self._open.setdefault((analysis.name, series.host), {})[key] = series
        self._of[analysis.name].open += 1

    def closed(self, analysis: Analysis, key: str, series: Series) -> None:
        place = (analysis.name, series.host)
        del self._open[place][key]
        if not self._open[place]:
            del self._open[place]
        self._of[analysis.name].open -= 1

    def begin(self, key: str, series: Series, episode: str) -> None:
        """Begin an episode of a series; the oldest one is known no longer."""
        for forgotten in series.begin(episode):
            self._episodes.pop(forgotten, None)
        self._episodes[episode] = key

    def keep(self) -> Iterator[Effect]:
        """Keep what was changed since the last time."""
        for key, series in self._changed.items():
            series.kept = True
            yield Keep(key, series)
        self._changed.clear()

    # Forgetting

    def forget(self, analysis: Analysis) -> Iterator[Keep]:
        """Forget as many series as are too many, the quiet ones of longest ago first, but none that is open."""
        own = self._of[analysis.name]
        count = len(own.series)
        excess = min(count - analysis.settings.most, count - own.open)
        while excess > 0:
            if not own.oldest:
                own.oldest = _oldest(own.series)
            heard, key = own.oldest.popleft()
            series = own.series.get(key)
            if series is not None and not series.open and series.heard == heard:
                excess -= 1
                yield from self._forgotten(analysis, key, series)

    def _forgotten(self, analysis: Analysis, key: str, series: Series) -> Iterator[Keep]:
        own = self._of[analysis.name]
        del own.series[key]
        known, values = own.known.get(series.host, {}), _values(analysis, series)
        if values in known and known[values][1] is series:
            del known[values]
        if not known:
            own.known.pop(series.host, None)
        for episode in series.episodes:
            self._episodes.pop(episode, None)
        self._changed.pop(key, None)
        if series.kept:
            yield Keep(key, None)


def _oldest(series: Mapping[str, Series]) -> deque[tuple[float, str]]:
    """Return what is quiet, that of longest ago first; where nothing is, what is not open."""
    closed = [(one.opening is None, one.heard, key) for key, one in series.items() if not one.open]
    quiet = [(heard, key) for calm, heard, key in closed if calm]
    return deque(sorted(quiet or [(heard, key) for _, heard, key in closed]))


def _values(analysis: Analysis, series: Series) -> Values:
    return tuple(series.labels.get(name, "") for name in analysis.settings.by)
