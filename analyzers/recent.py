"""The newest records of one series, packed: those of ten thousand series take some tens of megabytes, not hundreds.

Those of one batch are a block: how many, the batch's id and when it was received, their numbers, times and `gone`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from struct import Struct

import msgspec

MOST_SEEN = 64
_GONE = {False: 0, True: 1, None: 2}
_TOLD = (False, True, None)
_HEAD = Struct("<BHd")  # how many records, the length of the batch's id, when it was received


class Seen(msgspec.Struct, frozen=True):
    """One record as a watch needs it: `gone` says whether by it the fault is over, None where nobody can know."""

    id: str
    time: float
    received: float
    gone: bool | None


class Recent(msgspec.Struct, array_like=True):
    """As few of the newest blocks as have MOST_SEEN records, where there are as many; oldest first."""

    count: int = 0
    blocks: list[bytes] = []

    def __iter__(self) -> Iterator[Seen]:
        """Yield the records of these blocks, oldest first."""
        return (seen for block in self.blocks for seen in _unpack(block))

    @property
    def newest(self) -> Seen | None:
        return list(_unpack(self.blocks[-1]))[-1] if self.blocks else None

    def add(self, block: bytes, count: int) -> None:
        """Add so many records, at most MOST_SEEN, which are newer."""
        blocks = self.blocks
        blocks.append(block)
        self.count += count
        while self.count - blocks[0][0] >= MOST_SEEN:
            self.count -= blocks.pop(0)[0]


@lru_cache(MOST_SEEN)
def _layout(count: int) -> Struct:
    return Struct(f"<{count}I{count}d{count}B")


@lru_cache(MOST_SEEN)
def _columns(count: int) -> Struct:
    return Struct(f"<{count}I{count}d")


def pack(batch: str, received: float, numbers: Sequence[int], times: Sequence[float]) -> bytes:
    """Return the first part of a block of at most MOST_SEEN records; what `gone` says of each follows."""
    own, count = batch.encode(), len(numbers)
    return _HEAD.pack(count, len(own), received) + own + _columns(count).pack(*numbers, *times)


def pack_gone(gone: Iterable[bool | None]) -> bytes:
    """Return the second part."""
    return bytes(map(_GONE.__getitem__, gone))


def _unpack(block: bytes) -> Iterator[Seen]:
    count, length, received = _HEAD.unpack_from(block)
    start = _HEAD.size + length
    batch = block[_HEAD.size : start].decode()
    values = _layout(count).unpack_from(block, start)
    for number, time, gone in zip(values[:count], values[count : 2 * count], values[2 * count :], strict=True):
        yield Seen(f"{batch}#{number}", time, received, _TOLD[gone])
