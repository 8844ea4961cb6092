"""One series: what is remembered of one subject, and how a judgement opens or closes its fact."""

from typing import Any, Literal

import msgspec

from analyzers.recent import MOST_SEEN, Recent, Seen
from exhaust.messages import Labels, Severity
from exhaust.plugins import Inferring, Judgement

# A watch may be about an episode that is over while the next one goes on already.
MOST_EPISODES = 4
_REFRESHES_HEARD = 3


class Series(msgspec.Struct):
    """Times are the records', but for `heard` and `refresh_at`, which are the analyzer's own clock.

    `told_until` is until when the newest message says that the fact is valid; `stream` is where its records come from;
    `kept` says whether a row of it is there.
    """

    host: str
    labels: Labels
    fact: str = ""
    severity: Severity = "warning"
    newest: float = 0.0
    heard: float = 0.0
    opening: float | None = None
    clearing: float | None = None
    episodes: list[str] = []
    open: bool = False
    since: float = 0.0
    ended: float = 0.0
    held: float = 0.0
    refresh_at: float = 0.0
    told_until: float = 0.0
    last_message: str = ""
    value: Any = None
    summary: str = ""
    evidence: list[dict[str, Any]] = []
    recent: Recent = msgspec.field(default_factory=Recent)
    stream: str = ""
    keep: float = 0.0
    kept: bool = False

    @property
    def episode(self) -> str | None:
        """The newest one, which is under way while the series is open."""
        return self.episodes[-1] if self.episodes else None

    def begin(self, episode: str) -> list[str]:
        """Begin an episode, and return those before it that nobody can ask about any more."""
        forgotten, self.episodes = self.episodes[: 1 - MOST_EPISODES], [*self.episodes[1 - MOST_EPISODES :], episode]
        return forgotten

    def begin_anew(self) -> None:
        """Our own clock was set back: what is newer than now would make all that comes late."""
        self.newest, self.opening, self.clearing = 0.0, None, None

    def take(self, judgement: Judgement, time: float, settings: Inferring) -> Literal["opens", "closes"] | None:
        """Move on by one record that is not late; say whether the fact opens or closes with it."""
        if judgement.opens:
            self.held = time
        if not self.open:
            return self._may_open(judgement.opens, time, settings.for_)
        if settings.expires is not None:
            return None  # an event is over when its time is, not when a record says so
        return self._may_close(judgement.clears, time, settings.keep)

    def _may_open(self, opens: bool | None, time: float, after: float) -> Literal["opens"] | None:
        if opens is None:
            return None
        if not opens:
            self.opening = None
            return None
        self.opening = time if self.opening is None else self.opening
        if time - self.opening < after:
            return None
        self.open, self.since = True, self.opening
        self.opening = self.clearing = None
        return "opens"

    def _may_close(self, clears: bool | None, time: float, after: float) -> Literal["closes"] | None:
        if clears is None:
            return None
        if not clears:
            self.clearing = None
            return None
        self.clearing = time if self.clearing is None else self.clearing
        if time - self.clearing < after:
            return None
        self.open, self.ended = False, self.clearing
        self.opening = self.clearing = None
        return "closes"

    def valid_until(self, settings: Inferring) -> float:
        """When it expires unless something is heard: an event by its own time, else some refreshes of silence later."""
        if settings.expires is not None:
            return self.held + settings.expires
        return self.heard + _REFRESHES_HEARD * settings.refresh

    def silent_from(self, silence: float) -> float:
        """When its silence has lasted for so long, if nothing more comes."""
        newest = self.recent.newest
        return (newest.received if newest else self.heard) + silence

    def due(self) -> float:
        """When an open fact is to be asserted again, or is over."""
        return min(self.refresh_at, self.told_until)

    @property
    def seen(self) -> list[Seen]:
        """The newest records, oldest first."""
        return list(self.recent)[-MOST_SEEN:]


def slash(name: str) -> str:
    """Return a name as one part of a key."""
    return name.replace("%", "%25").replace("/", "%2F")


def unslash(name: str) -> str:
    return name.replace("%2F", "/").replace("%25", "%")


def series_key(analysis: str, host: str, labels: Labels) -> str:
    """Return the key under which a series is kept."""
    pairs = "/".join(f"{name}={slash(labels[name])}" for name in sorted(labels))
    return f"series/{slash(analysis)}/{slash(host)}/{pairs}"


def analysis_of(key: str) -> str:
    """Return the name of the analysis whose series is kept under a key."""
    return unslash(key.split("/", 3)[1])
