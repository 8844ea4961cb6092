"""Which records went no further, by stream and reason, and are untold: each stream's next batch has to say so."""

from collections import Counter
from collections.abc import Iterable, Mapping

Stream = tuple[str, str]
Row = tuple[str, str, str, int]
"""An emitter, its stream, the reason, how many."""


class Dropped:
    """What no batch tells of yet; `changes` counts what came to it."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._streams: dict[Stream, Counter[str]] = {}
        self.changes = 0
        self.restore(rows)

    def __contains__(self, stream: object) -> bool:
        return stream in self._streams

    @property
    def rows(self) -> list[Row]:
        """All of it as plain data."""
        return [(*stream, why, count) for stream, reasons in self._streams.items() for why, count in reasons.items()]

    def restore(self, rows: Iterable[Row]) -> None:
        """Let it be this, and nothing else."""
        self._streams.clear()
        for emitter, stream, reason, count in rows:
            self.add((emitter, stream), {reason: count})

    def add(self, stream: Stream, reasons: Mapping[str, int]) -> None:
        if reasons:
            self._streams.setdefault(stream, Counter()).update(reasons)
            self.changes += 1

    def of(self, stream: Stream) -> dict[str, int]:
        """Return what the stream's next batch tells."""
        return dict(self._streams.get(stream, {}))

    def remove(self, stream: Stream, told: Mapping[str, int]) -> None:
        """Forget what was told; more may have been dropped meanwhile."""
        left = self._streams.pop(stream, Counter()) - Counter(told)
        if left:
            self._streams[stream] = left
