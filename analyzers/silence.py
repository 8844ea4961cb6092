"""When each stream of each host was last heard of, be it only a sign of life: whether its silence means anything."""

# Streams that people feed have no signs of life: what does not come is all that can be known of them.
_FED_BY_PEOPLE = "custom."
# An emitter sends an empty batch every 10 s where it has nothing to say.
GRACE = 30.0


class Signs:
    """By host and stream."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], float] = {}

    def hear(self, host: str, stream: str, now: float) -> None:
        self._heard[host, stream] = now

    def alive(self, host: str, stream: str, now: float) -> bool:
        """Whether something of the stream came lately."""
        return stream.startswith(_FED_BY_PEOPLE) or now - self._heard.get((host, stream), 0.0) <= GRACE
