"""Which numbers of batches will never be sent: they were given up, and each stream's next batch has to say so."""

from collections.abc import Iterable, Sequence
from itertools import islice

from emitters.spool.spans import Spans

MOST = 1000
MOST_TOLD = 16
"""How many stretches one batch tells of."""

Stream = tuple[str, str]
Stretch = tuple[int, int, int]
"""An epoch, the first number and the last."""
Row = tuple[str, str, int, int, int]


class Forgone:
    """What is untold, by stream; of more than `most` stretches one is forgotten for each that comes.

    Numbers that were sent may be among them: who reads of them goes by what has come.
    """

    def __init__(self, rows: Iterable[Row] = (), *, most: int = MOST) -> None:
        self._most = most
        self._streams: dict[Stream, dict[int, Spans]] = {}
        self.changes = 0  # counts what came to it
        self.restore(rows)

    def restore(self, rows: Iterable[Row]) -> None:
        """Let it be this, and nothing else."""
        self._streams.clear()
        for emitter, stream, epoch, first, last in rows:
            self.add((emitter, stream), (epoch, first, last))

    def __contains__(self, stream: object) -> bool:
        return stream in self._streams

    @property
    def rows(self) -> list[Row]:
        """All of it as plain data."""
        return [(*stream, *stretch) for stream in self._streams for stretch in self._of(stream)]

    def add(self, stream: Stream, stretch: Stretch) -> None:
        epoch, first, last = stretch
        self.changes += 1
        self._streams.setdefault(stream, {}).setdefault(epoch, Spans()).add(first, last + 1)
        rows = self.rows
        if len(rows) > self._most:
            emitter, name, *surplus = rows[0]
            self.remove((emitter, name), [(surplus[0], surplus[1], surplus[2])])

    def of(self, stream: Stream) -> list[Stretch]:
        """Return what the stream's next batch tells."""
        return list(islice(self._of(stream), MOST_TOLD))

    def _of(self, stream: Stream) -> Iterable[Stretch]:
        for epoch, spans in self._streams.get(stream, {}).items():
            for first, end in spans:
                yield epoch, first, end - 1

    def remove(self, stream: Stream, told: Sequence[Stretch]) -> None:
        """Forget what was told."""
        epochs = self._streams.get(stream, {})
        for epoch, first, last in told:
            if epoch in epochs:
                epochs[epoch].remove(first, last + 1)
                if not epochs[epoch]:
                    del epochs[epoch]
        if not epochs:
            self._streams.pop(stream, None)
