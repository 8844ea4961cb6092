"""What is remembered of one run: enough for guards to count it, whenever they ask."""

import msgspec

from exhaust.messages import Verdict


class Run(msgspec.Struct):
    """One execution that a rule started: its slot is held until `verdict` or another end is known.

    `back` is the episode in which the fault came back, where the verdict is `relapsed`; `key` what its rule shares with
    others.
    """

    execution: str
    rule: str
    rung: int
    identity: str
    episode: str
    host: str | None
    labels: dict[str, str]
    started: float
    ended: float | None = None
    verdict: Verdict | None = None
    back: str | None = None
    key: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it used up an attempt: it ended, and not with the fault gone for good."""
        return self.ended is not None and self.verdict != "recovered"

    @property
    def latest(self) -> float:
        """When it was last heard of."""
        return self.started if self.ended is None else self.ended
