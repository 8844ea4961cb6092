"""How the way of telemetry is, told by probes: empty batches of the collector's own, which it sends and gets back.

Both ends of a probe go by one clock, so that its way takes exactly as long as it is away. And what was published before
it has come when it comes: only where probes return can anybody's silence be told.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from collector.arrival import Arrival
from exhaust.ids import derived_id
from exhaust.messages import Batch
from exhaust.worker import Keep, Rows

EMITTER, STREAM = "collector", "probe"
EVERY = 5.0
SLOW = 5.0
QUICK = 2.5
# A probe that is away for longer, or sent later after the one before it, interrupts the listening.
INTERRUPTED = 10.0
_LOST = 60.0
_ALIVE = 15.0
_SET_BACK = 1.0
_ROW = "probe"


class _Kept(NamedTuple):
    """The epoch of the probe's stream, and the reading when the last one was sent."""

    epoch: int = -1
    reading: float = 0.0


class Path:
    """Sends a probe every 5 seconds while none is away.

    `reading` is the ledger's own time: it goes on as the clock does while probes return, stands still while the broker
    is away, and no setting of the clock moves it by much. From `since` on it was never interrupted.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._epoch = -1
        self._seq = -1
        self._sent: float | None = None
        self._next = math.inf
        self._now = -math.inf
        self._heard = -math.inf
        self._base = 0.0
        self._returned: float | None = None
        self._slow = 0
        self.since = 0.0
        self.lag = 0.0

    def recall(self, rows: Rows, reading: float) -> None:
        """Go on at `reading`, or where we were if that is later: no time of which something is known lies ahead."""
        kept = max((msgspec.json.decode(row, type=_Kept) for _, row in rows(_ROW)), default=_Kept())
        self._epoch = kept.epoch
        if self._returned is None:
            self._base = max(self._base, reading, kept.reading)
        self.since = self.reading(self._now)

    def begin(self, now: float) -> Iterator[Keep | Batch]:
        """Begin a life of the probe's stream, and send the first."""
        self._epoch = max(self._epoch + 1, int(now * 1000))
        self._now = now
        yield from self._send(now)

    @property
    def due(self) -> float:
        return self._next

    @property
    def now(self) -> float:
        """The time of the last thing that happened."""
        return self._now

    @property
    def last_id(self) -> str:
        """The id of the probe that was sent last."""
        return derived_id("batch/1", (), f"{self._host} {EMITTER}.{STREAM}", str(self._epoch), self._seq)

    @property
    def sent(self) -> float:
        """When the last probe was sent that came back."""
        return self._returned or 0.0

    @property
    def certain(self) -> float:
        """The reading up to which all that was published has come."""
        return self._base

    def reading(self, now: float) -> float:
        if self._returned is None:
            return self._base
        return self._base + min(max(0.0, now - self._returned), INTERRUPTED)

    def age(self, now: float) -> float:
        """Return for how long a probe is away."""
        return 0.0 if self._sent is None else max(0.0, now - self._sent)

    def quick(self, now: float) -> bool:
        """Whether telemetry takes no time worth speaking of."""
        return self._returned is not None and self.lag < QUICK and self.age(now) < QUICK

    def alive(self, now: float) -> bool:
        """Whether the broker is there: something came of it lately."""
        return now - self._heard < _ALIVE

    def turns_back(self, now: float) -> bool:
        """Note what time it is; return whether the clock was set back."""
        back = self._now - now
        self._now = now
        if back > _SET_BACK:
            self._shift(-back)
        return back > _SET_BACK

    def came(self, now: float) -> None:
        """Note that the broker has delivered something."""
        self._heard = now

    def _shift(self, seconds: float) -> None:
        """Carry on as if the clock had always been as it is now."""
        self._next += seconds
        self._heard += seconds
        self._sent = None if self._sent is None else self._sent + seconds
        self._returned = None if self._returned is None else self._returned + seconds
        self.since = self.reading(self._now)

    def owns(self, arrival: Arrival) -> bool:
        return (arrival.host, arrival.emitter, arrival.stream) == (self._host, EMITTER, STREAM)

    def take(self, probe: Arrival, received: float) -> bool:
        """Take a probe that came back; return whether it is the one that is away."""
        if self._sent is None or (probe.epoch, probe.seq) != (self._epoch, self._seq):
            return False  # of an earlier run, come twice, or given up
        sent, self._sent = self._sent, None
        self.lag = max(0.0, received - sent)
        interrupted = self._returned is None or sent - self._returned > INTERRUPTED or self.lag > INTERRUPTED
        self._base, self._returned = self.reading(sent), sent
        self._next = max(received, sent + EVERY)
        self._measure(self.lag)
        if interrupted:
            self.since = self.reading(received)
        return True

    def tick(self, now: float) -> Iterator[Keep | Batch]:
        """Send a probe when it is time; one that is away for very long, while other things come, is lost."""
        if self._next > now:
            return
        there = now - self._heard < QUICK
        if self._sent is None or (self.age(now) > _LOST and there):
            yield from self._send(now)
            return
        self._next = now + QUICK
        if there and self.age(now) > SLOW:
            self._measure(self.age(now))

    def _send(self, now: float) -> Iterator[Keep | Batch]:
        self._seq += 1
        self._sent, self._next = now, now + EVERY
        yield Keep(_ROW, _Kept(self._epoch, self.reading(now)))
        yield Batch(
            id=self.last_id,
            time=now,
            host=self._host,
            emitter=EMITTER,
            stream=STREAM,
            epoch=self._epoch,
            seq=self._seq,
        )

    def _measure(self, seconds: float) -> None:
        self._slow = self._slow + 1 if seconds > SLOW else 0

    def takes(self, now: float) -> float:
        """Return how long telemetry takes, as far as is known."""
        return max(self.lag, self.age(now))

    @property
    def slow(self) -> bool:
        """Whether telemetry takes long, seen more than once: one long way may be of a broker that was away."""
        return self._slow > 1
