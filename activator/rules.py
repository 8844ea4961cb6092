"""Rules: which fact is answered by which workflow, within which guards, and what comes when that does not help."""

import fnmatch
import functools
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import msgspec

from exhaust.language import RULE, Defined, RuleCondition, RuleText, RuleValues, no_values
from exhaust.plugins import Settings
from exhaust.settings import Duration

Mode = Literal["observe", "approve", "auto"]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]

# The number of the notice that a rule gives beside what it runs.
NOTICE = -1
COOLDOWN = 600.0
COOLDOWN_AFTER_FAILURE = 3600.0
WINDOW = 3600.0
_MOST_NAMES = 10_000
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

    def has(self, number: int) -> bool:
        """Whether there is such a step, or notice: what was kept may be of the rule as it was before."""
        return self.notify is not None if number == NOTICE else number <= len(self.escalate)

    def rung(self, number: int) -> Rung:
        """Return a step of the ladder, or what the rule says beside it."""
        return Rung(notify=self.notify) if number == NOTICE else self.ladder[number]

    def mode_of(self, rung: Rung) -> Mode:
        return rung.mode or self.mode


class Rules:
    """The rules of an installation: by name, and by the facts that they are on.

    `looking` are the names of those whose `when` is to be asked again as other facts of the host come and go,
    `reading` of those that read such facts anywhere; `window` is the longest that attempts are counted in.
    """

    def __init__(self, defined: Iterable[Defined[Rule]]) -> None:
        given = {rule.value.name: rule for rule in defined}
        self._rules = tuple(rule.value for rule in given.values())
        self.hashes = {name: rule.hash for name, rule in given.items()}
        self.named = {rule.name: rule for rule in self._rules}
        self.looking = frozenset(rule.name for rule in self._rules if rule.when and "facts" in rule.when.variables)
        self.reading = frozenset(name for name, rule in given.items() if "facts" in str(rule.source))
        self.window = max((rule.guard.window for rule in self._rules), default=0.0)
        self.on = functools.lru_cache(_MOST_NAMES)(self._on)
        self._exact: defaultdict[str, set[int]] = defaultdict(set)
        self._globs: list[tuple[re.Pattern[str], int]] = []
        for number, rule in enumerate(self._rules):
            for pattern in rule.names:
                if any(sign in pattern for sign in "*?["):
                    self._globs.append((re.compile(fnmatch.translate(pattern)), number))
                else:
                    self._exact[pattern].add(number)

    def _on(self, fact: str) -> tuple[Rule, ...]:
        """Return the rules that are on facts of a name, in the order of the configuration."""
        numbers = self._exact.get(fact, set()) | {number for glob, number in self._globs if glob.match(fact)}
        return tuple(self._rules[number] for number in sorted(numbers))
