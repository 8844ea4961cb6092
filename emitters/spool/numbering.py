"""The numbers of each stream's batches, and what its next batch has to tell of records that went no further."""

from collections import Counter
from collections.abc import Container, Mapping

from emitters.spool.dropped import Dropped
from emitters.spool.parcels import Stream


class Numbers:
    """What is durable. Numbers are used up, and counts told, only with the group of batches that carries them."""

    def __init__(self, dropped: Dropped) -> None:
        self._used: dict[Stream, int] = {}
        self._dropped = dropped
        self.lost: Counter[str] = Counter()
        self.lost_by: dict[str, Counter[str]] = {}

    def drop(self, stream: Stream, reason: str, count: int) -> None:
        if count:
            self._dropped.add(stream, {reason: count})
            self.lost[reason] += count
            self.lost_by.setdefault(stream[0], Counter())[reason] += count

    def untold(self, others: Container[Stream]) -> list[Stream]:
        """Return the streams of this epoch that have something to tell, `others` among them."""
        return [stream for stream in self._used if stream in self._dropped or stream in others]

    def batches(self, emitter: str) -> int:
        return sum(count for stream, count in self._used.items() if stream[0] == emitter)

    def draft(self) -> "Draft":
        return Draft(self._used, self._dropped)

    def take(self, draft: "Draft") -> None:
        """Count what a draft has used as durable."""
        self._used |= draft.used
        for stream, told in draft.told.items():
            if told:
                self._dropped.remove(stream, told)


class Draft:
    """The numbers of one group of batches, which may yet come to nothing."""

    def __init__(self, used: Mapping[Stream, int], dropped: Dropped) -> None:
        self._used = used
        self._dropped = dropped
        self.used: dict[Stream, int] = {}
        self.told: dict[Stream, Mapping[str, int]] = {}

    def next(self, stream: Stream) -> tuple[int, dict[str, int]]:
        """Return the number of the stream's next batch, and the counts that it tells."""
        number = self.used.get(stream, self._used.get(stream, 0))
        return number, {} if stream in self.told else self._dropped.of(stream)

    def use(self, stream: Stream, number: int, told: Mapping[str, int]) -> None:
        """Note that the group has this batch."""
        self.used[stream] = number + 1
        self.told.setdefault(stream, told)
