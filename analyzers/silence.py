"""When each stream of each host was last heard of, be it only a sign of life: whether its silence means anything."""

from typing import Final

# Streams that people feed have no signs of life of their own: while anything comes from their host, they could too.
_FED_BY_PEOPLE = "custom."
# An emitter sends an empty batch every 10 s where it has nothing to say.
GRACE = 30.0
_MOST: Final = 40_000


class Signs:
    """By host and stream, the one that was heard of last at the end; of too many the first are forgotten."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._heard)

    def hear(self, host: str, stream: str, now: float) -> None:
        for sign in ((host, ""), (host, stream)):
            self._heard.pop(sign, None)
            self._heard[sign] = now
        while len(self._heard) > _MOST:
            del self._heard[next(iter(self._heard))]

    def alive(self, host: str, stream: str, now: float) -> bool:
        """Whether something of the stream came lately."""
        source = "" if stream.startswith(_FED_BY_PEOPLE) else stream
        return now - self._heard.get((host, source), 0.0) <= GRACE
