"""What is measured of each of those that are compared."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """`found` is milliseconds from a process's death to the first act of the one that takes its place.

    `resident` is the memory of all its processes in bytes, `events` how many events a second it takes, where it takes
    any, `noticed` the milliseconds until it answered at all, where that is not all of the way.
    """

    name: str
    configuration: str
    found: Sequence[float]
    resident: int
    events: float | None = None
    noticed: Sequence[float] = ()
