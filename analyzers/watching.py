"""Whether what a watch waits for has come: judged on fresh records only, never on silence."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from analyzers.recent import MOST_SEEN, Seen
from exhaust.messages import Watch

Holds = Literal["true", "false", "unknown"]


class Sight(msgspec.Struct, frozen=True):
    """What the fresh records say, and on how many: `first` and `last` are the times of those that count."""

    holds: Holds
    samples: int
    first: float | None
    last: float | None
    evidence: tuple[str, ...] = ()


def look(watch: Watch, seen: Iterable[Seen], keep: float = 0.0) -> Sight:
    """Return what is to be said of the fresh records among `seen`, which is in the order of their times.

    It holds once the newest unbroken run of records that say so has `samples` of them and reaches over `hold` seconds
    from one record to another, or over `keep`, for which a fault must be gone before its fact closes. A record of which
    nobody can know breaks no run and counts in none.
    """
    run: list[Seen] = []
    newest: Seen | None = None
    for record in seen:
        if record.gone is None or not _fresh(watch, record):
            continue
        newest = record
        run = [*run, record] if record.gone else []
    if newest is None:
        return Sight("unknown", 0, None, None)
    if not run:
        return Sight("false", 1, newest.time, newest.time, (newest.id,))
    enough = len(run) >= watch.samples and run[-1].time - run[0].time >= max(watch.hold, keep)
    evidence = tuple(record.id for record in run[-8:])
    return Sight("true" if enough else "unknown", len(run), run[0].time, run[-1].time, evidence)


def _fresh(watch: Watch, record: Seen) -> bool:
    moment = record.time if watch.clock == "time" else record.received
    return watch.after is not None and moment > watch.after and moment >= watch.after + watch.settle


class Watching(msgspec.Struct):
    """An open watch: of the series by whose key it goes, whatever its episode is by now, or of records of its own."""

    watch: Watch
    series: str = ""
    seen: list[Seen] = []
    said: Holds | None = None

    def remember(self, seen: Seen) -> None:
        self.seen = [*self.seen[1 - MOST_SEEN :], seen]
