"""Records on their way into batches, and where the sources are after them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from emitters.spool.book import Positions
from exhaust.plugins import Keeps

Stream = tuple[str, str]


@dataclass(slots=True)
class Parcel:
    """Encoded records of one stream that become one batch.

    Where they cannot be stored they wait if their source `waits`; otherwise they are dropped, by what `keeps` says.
    `moved` is where the sources are once these and all records before them are stored.
    """

    stream: Stream
    records: Sequence[msgspec.Raw]
    size: int = 0
    waits: bool = False
    keeps: Keeps = "metrics"
    time: float = 0.0
    moved: Positions = field(default_factory=dict)


def merged(older: Positions, newer: Positions) -> dict[str, Mapping[str, Any]]:
    """Return positions of which the newer ones count where both name a part."""
    return {use: {**older.get(use, {}), **newer.get(use, {})} for use in (*older, *newer)}
