"""Which batches of each stream have come: one that came before has no effect, and what is missing may yet come."""

from collections.abc import Generator, Iterator

import msgspec

from analyzers.series import slash, unslash
from exhaust.messages import Batch
from exhaust.received import Received
from exhaust.worker import Keep, Rows

MOST_STREAMS = 20_000
MOST_EPOCHS = 8
# What has not come by then is taken for lost: it keeps nobody from concluding anything.
AWAITED = 600.0
_PREFIX = "arrived/"

Source = tuple[str, str, str]


class Life(msgspec.Struct):
    """What has come of one epoch of a stream; `heard` is when it last did, by the analyzer's own clock."""

    heard: float
    received: Received


class Arrivals:
    """By host, emitter and stream, the one that was heard of last at the end; of each its epochs, likewise.

    A batch's mark may be written up to a second after the batch: where something follows from it, both are in one
    transaction; where nothing does, it is taken again if the process dies before that and it comes once more, and
    again nothing follows. What is forgotten (an epoch or a stream of long ago) counts as new if it comes: rather a
    record twice than one that is lost. Numbers of epochs tell nothing of their age: a clock may have been years ahead.
    """

    def __init__(self) -> None:
        self._sources: dict[Source, dict[int, Life]] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def recall(self, rows: Rows) -> None:
        """Take up what was kept."""
        found: dict[Source, dict[int, Life]] = {}
        for key, body in rows(_PREFIX):
            host, emitter, stream, epoch = map(unslash, key.removeprefix(_PREFIX).split("/"))
            lives = found.setdefault((host, emitter, stream), {})
            lives[int(epoch)] = msgspec.json.decode(body, type=Life)
        for source, lives in found.items():
            found[source] = dict(sorted(lives.items(), key=lambda pair: (pair[1].heard, pair[0])))
        self._sources = dict(sorted(found.items(), key=lambda pair: max(life.heard for life in pair[1].values())))

    def take(self, batch: Batch, now: float) -> Generator[Keep, None, bool]:
        """Note that a batch came; return whether it is new."""
        source = (batch.host, batch.emitter, batch.stream)
        lives = self._sources.pop(source, None) or {}
        self._sources[source] = lives
        life = lives.pop(batch.epoch) if batch.epoch in lives else Life(now, Received())
        lives[batch.epoch] = life
        life.heard = now
        new = life.received.take(batch.seq, now)
        if new:
            yield Keep(_row(source, batch.epoch), life, wait=True)
        yield from self._forget(source, lives)
        return new

    def missing(self, host: str, stream: str, now: float) -> bool:
        """Whether batches of `<emitter>.<stream>` are awaited that may hold what nobody has seen."""
        words = stream.split(".")
        sources = ((host, ".".join(words[:at]), ".".join(words[at:])) for at in range(1, len(words)))
        lives = (life for source in sources for life in self._sources.get(source, {}).values())
        # A gap of the future is one of before our clock was set back.
        return any(abs(now - gap.noticed) < AWAITED for life in lives for gap in life.received.gaps)

    def _forget(self, source: Source, lives: dict[int, Life]) -> Iterator[Keep]:
        if len(lives) > MOST_EPOCHS:
            oldest = next(iter(lives))
            del lives[oldest]
            yield Keep(_row(source, oldest), None, wait=True)
        if len(self._sources) > MOST_STREAMS:
            silent = next(iter(self._sources))
            for epoch in self._sources.pop(silent):
                yield Keep(_row(silent, epoch), None, wait=True)


def _row(source: Source, epoch: int) -> str:
    return f"{_PREFIX}{'/'.join(map(slash, source))}/{epoch}"
