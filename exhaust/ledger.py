"""The facts that the ledger makes by itself, from how telemetry comes: their labels, their values, what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from exhaust.messages import Severity


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """One of them: what it says, when it opens and closes; `host` whose it is, `value` what its value, a number, is."""

    text: str
    host: str
    value: str
    severity: Severity
    opens: str
    closes: str
    labels: Mapping[str, str] = field(default_factory=dict)


_EMITTER: Final = {"emitter": "the emitter's name"}
_STREAM: Final = {**_EMITTER, "stream": "the stream's name, without the emitter's"}

LEDGER: Final[Mapping[str, BuiltIn]] = {
    "emitter.silent": BuiltIn(
        text="Nothing comes of one emitter, while others of its host are heard. One with nothing to say sends a sign "
        "of life every 10 seconds, so that this one is dead, hangs or cannot write. Of `custom`, which people feed, "
        "silence says nothing.",
        host="the emitter's host",
        value="seconds since it was last heard",
        severity="error",
        opens="after more than 30 seconds",
        closes="`cleared` when it is heard; `withdrawn` when its whole host is silent, or has started its emitters "
        "anew without this one",
        labels=_EMITTER,
    ),
    "host.silent": BuiltIn(
        text="Nothing comes of any emitter of a host: it is down, cut off, or its emitters do not run. Then there is "
        "no `emitter.silent` of it. The host that the collector runs on is never silent: what it lacks are emitters.",
        host="the silent host",
        value="seconds since it was last heard",
        severity="critical",
        opens="after more than 30 seconds; where the host is not in the inventory, only if it was heard of for at "
        "least 10 minutes, and of no more than 1,000 such hosts at a time",
        closes="`cleared` when anything of it is heard; `withdrawn` when the ledger forgets the host: after 7 days, or "
        "after an hour where it is not in the inventory",
    ),
    "telemetry.gap": BuiltIn(
        text="Batches of a stream are missing: later ones of the same epoch have come, and these neither came nor lie "
        "among the dead letters nor were given up by their emitter. What their source observed meanwhile is not known.",
        host="the stream's host",
        value="batches that are missing",
        severity="warning",
        opens="when a number is missing for 60 seconds, unless its host is still sending what an outage has held up: "
        "something of it came by `exhaust.backlog` within the last 60 seconds",
        closes="`cleared` when all of them have come; `withdrawn` when some never will: their emitter says that it "
        "gave them up, the broker made them dead letters, or the ledger forgets their epoch: it was heard of longest "
        "ago of nine",
        labels=_STREAM,
    ),
    "telemetry.lag": BuiltIn(
        text="The way of all telemetry is slow: the broker, the network, or the collector itself. It knows by probes, "
        "empty batches of its own that it sends through the broker every 5 seconds: both ends go by one clock.",
        host="none",
        value="seconds that telemetry takes",
        severity="warning",
        opens="when probes take more than 5 seconds, seen twice in a row",
        closes="`cleared` by a probe that took less than 2.5 seconds",
    ),
    "clock.skew": BuiltIn(
        text="A host's clock differs from the collector's: the times of its batches do, and not because they were held "
        "up. Facts about a host whose clock is wrong open and close at wrong times.",
        host="the host whose clock differs",
        value="seconds; positive where the host's clock is ahead",
        severity="warning",
        opens="beyond 5 seconds, by at least 3 batches in a row over at least 10 seconds, while probes are quick",
        closes="`cleared` below 2.5 seconds, by as many; `withdrawn` when the host is silent",
    ),
}
