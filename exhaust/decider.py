"""What a worker has decide: the part of a component that knows no broker, no disk and no clock."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from exhaust.turn import Effect, Rows


class Decider(Protocol):
    """What decides. Between calls its memory equals what it asked to keep.

    What fails in `resume` or `tick` leaves no trace: a start goes on without the one, the other is asked again later.
    """

    @property
    def due(self) -> float:
        """When `tick` is wanted next; infinity where nothing waits for time."""

    def recall(self, rows: Rows) -> None:
        """Forget everything, then take up what was kept: `rows(prefix)` yields it in the order of the keys."""

    def resume(self, now: float) -> Iterable[Effect]:
        """Take up again, after a start, what was under way."""

    def handle(self, message: Any, received: float) -> Iterable[Effect]:
        """Take a message that came, as `unpack` gave it."""

    def tick(self, now: float) -> Iterable[Effect]:
        """Do what is due; also asked, though nothing is, once the clock was set back."""

    def status(self) -> Mapping[str, Any]:
        """Plain data for an operator."""

    def performed(self, work: Any, outcome: Any, now: float) -> Iterable[Effect]:
        """Take the outcome of what was asked for by Perform; where that fails, once more the exception instead."""
