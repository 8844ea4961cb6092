"""Rules: which fact is answered by which workflow, within which guards, and what comes when that does not help."""

import fnmatch
import functools
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Annotated, ClassVar, Literal

import msgspec

from exhaust.language import RULE, Defined, RuleCondition, RuleText, RuleValues, is_alias, no_values
from exhaust.plugins import Settings
from exhaust.settings import Duration, Share

Mode = Literal["observe", "approve", "auto"]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]

# The number of the notice that a rule gives beside what it runs.
NOTICE = -1
COOLDOWN = 600.0
COOLDOWN_AFTER_FAILURE = 3600.0
WINDOW = 3600.0
CORRELATED = 0.4
LIMIT_RUNS, LIMIT_WINDOW = 10, 600.0
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


class Other(Settings, frozen=True, kw_only=True):
    """Another fact: open under the name `open`, with the same labels `same` as the cause.

    A label is the fact's own, else its host's. It is a fact of the cause's host, or of none, unless one of the labels
    is its host's: then it may be of any host.
    """

    open: Annotated[str, msgspec.Meta(min_length=1)]
    same: list[str] = []


class Limit(Settings, frozen=True, kw_only=True):
    """How often the rule may run anything at all."""

    runs: AtLeastOne = LIMIT_RUNS
    window: Annotated[Duration, msgspec.Meta(gt=0.0)] = LIMIT_WINDOW


class FleetShare(Settings, frozen=True, kw_only=True):
    """On what share of the hosts with the same label `of` the rule may act at once; of all hosts, without one."""

    share: Share
    of: str | None = None


class Correlated(Settings, frozen=True, kw_only=True):
    """What is too much at once to be true: more than `share` of the hosts with the same label, and at least `least`."""

    share: Share = CORRELATED
    least: AtLeastOne = 3
    of: str | None = None


class Guard(Settings, frozen=True, kw_only=True):
    """What holds a rule back.

    Left out, `cooldown` is 10 minutes, an hour after a failure, `concurrent` is 2, and `limit` 10 runs in 10 minutes.
    Rules with the same `key` share their cooldown, and run one after the other. `healthy` is the share of hosts, by
    label, that must be left well while the rule acts on one more. Where more than 40 % of the hosts, and at least 3,
    have the same fact, nothing is done: `correlated` says otherwise.
    """

    attempts: AtLeastOne | None = None
    window: Duration = WINDOW
    cooldown: Duration | None = None
    concurrent: AtLeastOne | dict[str, AtLeastOne] | None = None
    fleet: FleetShare | None = None
    healthy: dict[str, Share] = {}
    correlated: Correlated = Correlated()
    limit: Limit = Limit()
    key: RuleText | None = None


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

    planned: ClassVar[frozenset[str]] = frozenset({"quarantine"})

    name: str
    on: str | list[str]
    when: RuleCondition | None = None
    given: dict[str, Other] = {}
    unless: list[Other] = []
    for_: Duration = 0.0
    during: str | list[str] = []
    unless_during: str | list[str] = []
    run: str | None = None
    with_: RuleValues = _NOTHING
    mode: Mode = "observe"
    guard: Guard = Guard()
    escalate: list[Rung] = []
    notify: Notice | None = None

    def __post_init__(self) -> None:
        if self.run is None and self.notify is None:
            raise ValueError("a rule needs 'run' or 'notify'")
        for alias in self.given:
            if not is_alias(alias):
                raise ValueError(
                    f"'given' cannot call a fact {alias!r}: small letters, digits and _, and no other name"
                )
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

    @property
    def others(self) -> tuple[Other, ...]:
        """The other facts that it looks for."""
        return (*self.given.values(), *self.unless)

    def rung(self, number: int) -> Rung:
        """Return a step of the ladder, or what the rule says beside it."""
        return Rung(notify=self.notify) if number == NOTICE else self.ladder[number]

    def mode_of(self, rung: Rung) -> Mode:
        return rung.mode or self.mode


class Rules:
    """The rules of an installation: by name, and by the facts that they are on.

    `looking` are the names of those whose `when` is to be asked again as other facts of the host come and go,
    `reading` of those that read such facts anywhere, `keyed` of those with a key; `window` is the longest that runs
    are counted in.
    """

    def __init__(self, defined: Iterable[Defined[Rule]]) -> None:
        given = {rule.value.name: rule for rule in defined}
        self._rules = tuple(rule.value for rule in given.values())
        self.hashes = {name: rule.hash for name, rule in given.items()}
        self.named = {rule.name: rule for rule in self._rules}
        self.looking = frozenset(rule.name for rule in self._rules if rule.when and "facts" in rule.when.variables)
        self.reading = frozenset(name for name, rule in given.items() if "facts" in str(rule.source))
        guards = [rule.guard for rule in self._rules]
        self.keyed = frozenset(rule.name for rule in self._rules if rule.guard.key is not None)
        self.window = max((max(guard.window, guard.limit.window) for guard in guards), default=0.0)
        self._watching: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for rule in self._rules:
            for other in rule.others:
                self._watching[other.open][rule.name] = None
        self.on = functools.lru_cache(_MOST_NAMES)(self._on)
        self._exact: defaultdict[str, set[int]] = defaultdict(set)
        self._globs: list[tuple[re.Pattern[str], int]] = []
        for number, rule in enumerate(self._rules):
            for pattern in rule.names:
                if any(sign in pattern for sign in "*?["):
                    self._globs.append((re.compile(fnmatch.translate(pattern)), number))
                else:
                    self._exact[pattern].add(number)

    def watching(self, fact: str) -> Collection[str]:
        """Return the names of the rules that look for facts of a name beside their cause, as they are configured."""
        return self._watching.get(fact, {})

    def _on(self, fact: str) -> tuple[Rule, ...]:
        """Return the rules that are on facts of a name, in the order of the configuration."""
        numbers = self._exact.get(fact, set()) | {number for glob, number in self._globs if glob.match(fact)}
        return tuple(self._rules[number] for number in sorted(numbers))
