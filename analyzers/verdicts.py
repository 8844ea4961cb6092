"""What a method said of the records of a batch that count, and what follows from it for a stretch of them."""

from collections.abc import Sequence, Set

from analyzers.recent import MOST_SEEN, pack_gone
from analyzers.series import Series
from exhaust.plugins import Inferring, Judgement, Judgements

_NONE: frozenset[int] = frozenset()
_ALL_GONE = pack_gone([True] * MOST_SEEN)


class Verdicts:
    """By place."""

    def __init__(self, judgements: Judgements, count: int) -> None:
        self._opens = opens = judgements.opens
        self._clears = judgements.clears
        self._values = judgements.values
        if len(opens) != count or len(self._clears or opens) != count or len(self._values or opens) != count:
            raise ValueError(f"{count} records were to be judged, and {len(opens)} were")
        # Those that open, or of which nobody knows whether they do.
        self._loud: Set[int] = _NONE
        self._unknown = False
        if opens.count(False) != count:
            self._loud = {place for place, verdict in enumerate(opens) if verdict is not False}
            self._unknown = None in opens

    def of(self, place: int) -> Judgement:
        return Judgement(self._opens[place], self._clear(place), self._values[place] if self._values else None)

    def _clear(self, place: int) -> bool | None:
        if self._clears is not None:
            return self._clears[place]
        opens = self._opens[place]
        return None if opens is None else not opens

    def quiet(self, places: Sequence[int]) -> bool:
        """Whether of all of them it is known that they do not open."""
        return not self._loud or self._loud.isdisjoint(places)

    def unknown(self, places: Sequence[int]) -> int:
        """Return of how many records neither is known."""
        if not self._unknown:
            return 0
        return sum(self._opens[place] is None and self._clear(place) is None for place in places)

    def gone(self, places: Sequence[int]) -> bytes:
        """Return what the newest of some records say of the fault's end, packed."""
        if self._clears is None and not self._loud:
            return _ALL_GONE[: len(places)]
        newest = places[-MOST_SEEN:]
        if self._clears is None and self.quiet(newest):
            return _ALL_GONE[: len(newest)]
        return pack_gone(map(self._clear, newest))

    def opening(self, places: Sequence[int]) -> list[int]:
        """Return those that open."""
        return [place for place in places if self._opens[place]] if self._loud else []

    def still(self, series: Series, settings: Inferring, places: Sequence[int], start: int) -> int:
        """Return the end of the stretch from `start` on that neither opens nor closes the series, nor begins to."""
        if series.opening is not None or series.clearing is not None:
            return start
        if not series.open:
            return self._first(places, start, opens=True)
        if settings.expires is not None:
            return len(places)
        return self._first(places, start, opens=False)

    def _first(self, places: Sequence[int], start: int, *, opens: bool) -> int:
        """Return the index of the first that opens, or that clears."""
        says = self._opens.__getitem__ if opens else self._clear
        for index in range(start, len(places)):
            if says(places[index]):
                return index
        return len(places)
