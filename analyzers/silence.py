"""When each stream of each host was last heard of, be it only a sign of life: whether its silence means anything."""

# Streams that people feed have no signs of life of their own: while anything comes from their host, they could too.
_FED_BY_PEOPLE = "custom."
# An emitter sends an empty batch every 10 s where it has nothing to say.
GRACE = 30.0


class Signs:
    """By host and stream."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], float] = {}

    def hear(self, host: str, stream: str, now: float) -> None:
        self._heard[host, stream] = self._heard[host, ""] = now

    def alive(self, host: str, stream: str, now: float) -> bool:
        """Whether something of the stream came lately."""
        source = "" if stream.startswith(_FED_BY_PEOPLE) else stream
        return now - self._heard.get((host, source), 0.0) <= GRACE
