"""Rules: which fact is answered by which workflow, within which guards, and what comes when that does not help."""

from typing import Annotated, ClassVar, Literal

import msgspec

from exhaust.language import RULE, RuleCondition, RuleText, RuleValues, no_values
from exhaust.plugins import Settings
from exhaust.settings import Duration

Mode = Literal["observe", "approve", "auto"]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]

# The number of the notice that a rule gives beside what it runs.
NOTICE = -1
COOLDOWN = 600.0
COOLDOWN_AFTER_FAILURE = 3600.0
WINDOW = 3600.0
_NOTHING = no_values(RULE)


def _built(mode: Mode | None) -> None:
    if mode == "approve":
        raise ValueError("mode 'approve' is not built yet")


class Notice(Settings, frozen=True, kw_only=True):
    """Who is told what."""

    planned: ClassVar[frozenset[str]] = frozenset({"group", "wait", "repeat"})

    to: str
    text: RuleText


class Guard(Settings, frozen=True, kw_only=True):
    """What holds a rule back. Left out, `cooldown` is 10 minutes, an hour after a failure, and `concurrent` is 2."""

    planned: ClassVar[frozenset[str]] = frozenset({"fleet", "healthy", "correlated", "limit", "key"})

    attempts: AtLeastOne | None = None
    window: Duration = WINDOW
    cooldown: Duration | None = None
    concurrent: AtLeastOne | dict[str, AtLeastOne] | None = None


class Rung(Settings, frozen=True, kw_only=True):
    """One step of a rule's ladder: a workflow or a notice."""

    run: str | None = None
    with_: RuleValues = _NOTHING
    mode: Mode | None = None
    notify: Notice | None = None

    def __post_init__(self) -> None:
        if (self.run is None) == (self.notify is None):
            raise ValueError("a rung needs either 'run' or 'notify'")
        _built(self.mode)


class Rule(Settings, frozen=True, kw_only=True):
    """One entry under `rules`."""

    planned: ClassVar[frozenset[str]] = frozenset({"given", "unless", "for", "during", "unless_during", "quarantine"})

    name: str
    on: str | list[str]
    when: RuleCondition | None = None
    run: str | None = None
    with_: RuleValues = _NOTHING
    mode: Mode = "observe"
    guard: Guard = Guard()
    escalate: list[Rung] = []
    notify: Notice | None = None

    def __post_init__(self) -> None:
        if self.run is None and self.notify is None:
            raise ValueError("a rule needs 'run' or 'notify'")
        _built(self.mode)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.on,) if isinstance(self.on, str) else tuple(self.on)

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """The rule's own answer, then what `escalate` adds."""
        own = Rung(run=self.run, with_=self.with_) if self.run is not None else Rung(notify=self.notify)
        return (own, *self.escalate)

    def rung(self, number: int) -> Rung:
        """Return a step of the ladder, or what the rule says beside it."""
        return Rung(notify=self.notify) if number == NOTICE else self.ladder[number]

    def mode_of(self, rung: Rung) -> Mode:
        return rung.mode or self.mode
