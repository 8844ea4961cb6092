"""Frames of the log that are written together."""

from emitters.spool.book import Done, Placed, Positions, encode_positions
from emitters.spool.frames import BATCH, HEAD, Numbered, encode


class Group:
    """Frames that become durable together: one write, and one sync, of one segment."""

    def __init__(self, segment: int, position: int, begun: int, most: int, *, opens: bool) -> None:
        self.segment = segment
        self.position = position
        self.end = position
        self.opens = opens
        self.batches: list[Placed] = []
        self.numbers: list[Numbered | None] = []
        self.confirmed: list[Done] = []
        self.positions: list[bytes] = []
        self.changes: tuple[int, int] | None = None  # up to where it holds what is untold
        self._begun = begun
        self._most = most
        self._parts: list[bytes] = []

    @property
    def data(self) -> bytes:
        return b"".join(self._parts)

    def fits(self, size: int) -> bool:
        """Tell whether there is room for one more frame, of so many bytes beside its head."""
        return self.end + HEAD + size <= self._most

    def add(self, kind: int, body: bytes, rest: bytes = b"", time: float = 0.0, count: int = 0) -> int:
        """Append a frame and return its end."""
        self._parts += encode(self.end, self._begun, kind, body, rest, time, count)
        self.end += HEAD + len(body) + len(rest)
        return self.end

    def batch(
        self, after: int, body: bytes, time: float, count: int, moved: Positions, number: Numbered | None = None
    ) -> Placed | None:
        """Append a batch with where its sources then are, or return None where there is no room for it.

        `after` is the end of the newest batch before this group.
        """
        rest = encode_positions(moved) if moved else b""
        if not self.fits(len(body) + len(rest)):
            return None
        start = self.batches[-1].end if self.batches else after
        placed = Placed(start, self.add(BATCH, body, rest, time, count), time, count, len(body))
        self.batches.append(placed)
        self.numbers.append(number)
        if rest:
            self.positions.append(rest)
        return placed
