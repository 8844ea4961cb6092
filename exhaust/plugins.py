"""The shapes of what is plugged in: emitters, analyzers, adapters and actions, each one file with a settings type."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import msgspec

from exhaust.clock import Clock
from exhaust.errors import ExhaustError
from exhaust.language import AnalyzerCondition, AnalyzerLabels, AnalyzerText
from exhaust.messages import Severity
from exhaust.settings import Duration


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that a plug-in understands: typed, with defaults; others are refused.

    `planned` names keys of the language that this version does not have yet: they are refused as such.
    """

    planned: ClassVar[frozenset[str]] = frozenset()


S = TypeVar("S", bound=Settings)


def nothing() -> str:
    """What is missing for most plug-ins to work on this host."""
    return ""


def one_source() -> Mapping[str, str]:
    """What there is to tell of an emitter that has no choice."""
    return {}


Fields = Mapping[str, str]
"""A stream's schema: field name to `type: what it means, with its unit`."""


Keeps = Literal["metrics", "logs", "audit"]
"""What an emitter's records are worth when the spool runs full: metrics go first, audit last."""


@dataclass(frozen=True, slots=True)
class Record:
    """One observation: `time` in epoch seconds by the source's clock, fields by name.

    `stream` is needed only of emitters with several; `urgent` ones are sent without waiting for company. `position` is
    for a source that can be read from any place again: which part of it, and where that is after this record, as plain
    JSON data; None as the place forgets the part.
    """

    time: float
    fields: dict[str, Any]
    stream: str = ""
    urgent: bool = False
    position: tuple[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """Records of a `stream` that are known to have been, and that the source itself has lost: why, and how many."""

    reason: str
    count: int
    stream: str = ""


@dataclass(frozen=True)
class Emitter(Generic[S]):
    """An observer: `emit` yields records until it is closed; it knows neither broker nor host nor life-cycle.

    It is given its settings, the clock, and the positions of its source's parts up to which all records are safe: it
    goes on from there, and the mapping changes as more of them are. Where the settings have a key `streams`, it sends
    only those. `missing` says what keeps it from working on this host, if anything does; `sources` are the ways that it
    has of seeing things, the best one first, each with what keeps it from being used here, empty where nothing does.

    While records cannot be stored, one that `waits` is not asked for the next, as its source keeps it until then; of
    others they are dropped and counted, by what `keeps` says.
    """

    name: str
    settings: type[S]
    emit: Callable[[S, Clock, Mapping[str, Any]], AsyncIterator[Record | Lost]]
    streams: Mapping[str, Fields]
    missing: Callable[[], str] = nothing
    sources: Callable[[], Mapping[str, str]] = one_source
    waits: bool = False
    keeps: Keeps = "metrics"


class Inferring(Settings, frozen=True, kw_only=True):
    """The keys that every analyzer has; a method's own settings type adds its keys to them.

    Only records of which `where` is true count. One series is kept per host and labels (`by`). It opens once the method
    has said so for `for_` seconds of record time, and closes once the method has said that it is over for `keep`; with
    `expires` it is an event, open for that long after the last record that opened it. An open fact is asserted again
    every `refresh`. Of more series than `most` those are forgotten that were heard of longest ago and are not open.
    """

    planned: ClassVar[frozenset[str]] = frozenset({"prediction", "of", "over", "value", "extract"})

    use: str
    fact: str
    on: str
    name: str = ""
    for_: Duration = 0.0
    keep: Duration = 0.0
    expires: Duration | None = None
    where: AnalyzerCondition | None = None
    by: AnalyzerLabels = {}
    severity: Severity = "warning"
    summary: AnalyzerText | None = None
    most: Annotated[int, msgspec.Meta(ge=1)] = 10_000
    refresh: Duration = 30.0


class Judgement(msgspec.Struct, frozen=True):
    """What a method says of a series' newest record: whether it opens, whether it clears. None is unknown."""

    opens: bool | None
    clears: bool | None
    value: Any = None


class Judgements(msgspec.Struct, frozen=True):
    """What a method says of many records, in their order. Without `clears` that is the contrary of `opens`."""

    opens: Sequence[bool | None]
    clears: Sequence[bool | None] | None = None
    values: Sequence[Any] | None = None


class Method(Protocol):
    """One analyzer's way to judge. Pure: time is the record's, and what it remembers lives in the series.

    `silence` is for how many seconds a series may be without records before its fact opens by itself; None where only
    records open it.
    """

    @property
    def silence(self) -> float | None: ...

    def judge(self, record: Mapping[str, Any], time: float, host: Mapping[str, Any]) -> Judgement: ...


@runtime_checkable
class Scanning(Method, Protocol):
    """A method that can also judge the records of a whole batch at once, which costs less; it must say just the same.

    It is given one time for each record, and may be given records that are late, of which nobody will look at what it
    says.
    """

    def scan(
        self, records: Sequence[Mapping[str, Any]], times: Sequence[float], host: Mapping[str, Any]
    ) -> Judgements: ...


@dataclass(frozen=True)
class Analyzer(Generic[S]):
    """A method of inference; `make` compiles its settings."""

    name: str
    settings: type[S]
    make: Callable[[S, Mapping[str, Any]], Method]
    missing: Callable[[], str] = nothing


@dataclass(frozen=True)
class Task:
    """One task as an adapter gets it: all values are rendered; `key` is the same whenever the same effect is meant."""

    execution: str
    name: str
    do: str
    params: Mapping[str, Any]
    host: str | None
    key: str
    time: float
    timeout: float


@dataclass(frozen=True)
class Done:
    """How a task went; `retry` says whether trying again may help, `known` whether its end is known at all."""

    output: Any = None
    error: str | None = None
    retry: bool = False
    known: bool = True


@dataclass(frozen=True)
class Adapter(Generic[S]):
    """What reaches a target. `act` does a task and returns its output, or raises AdapterError.

    Doing the same key twice must be harmless. One without `act` does nothing itself: its tasks become signed commands
    to the agent of the task's host. `actions` are what a task may `do`, with the type of its `with`.
    """

    name: str
    settings: type[S]
    actions: Mapping[str, type[Settings]]
    mutates: bool
    act: Callable[[S, Task], Awaitable[Any]] | None = None
    missing: Callable[[], str] = nothing


class ActionError(ExhaustError):
    """An action failed: its text is the result's reason, `output` plain data that is kept with it."""

    def __init__(self, reason: str, output: Any = None) -> None:
        super().__init__(reason)
        self.output = output


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action did: whether anything changed by it, and plain data about it."""

    changed: bool
    output: Any = None


class Limits(Settings, frozen=True, kw_only=True):
    """What a host's policy says of an action that it allows; `rate` (`10/m`; `s m h d`) is how often it may start."""

    rate: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,5}/[smhd]$")] | None = None

    def forbids(self, params: Any) -> str | None:
        """Return the name of the parameter whose value is not allowed, or None; `params` is the action's type."""


class Services(Protocol):
    """The services that the helper reaches, each through who keeps it.

    Each method raises ActionError for a service that it does not know, or whose keeper does not do it or answer.
    """

    async def pid(self, name: str) -> int | None:
        """Return the pid of the service's process, None while it is down."""

    async def start(self, name: str) -> int:
        """Start it unless it runs, and want it; return its pid."""

    async def stop(self, name: str, patience: float, *, kill: bool) -> int | None:
        """Stop it, after `patience` seconds by force if `kill`, and want it no more; return what pid it had."""

    async def restart(self, name: str, patience: float, *, kill: bool) -> tuple[int, int | None]:
        """Stop it if it runs, then start it; return the new pid and the one before."""

    async def reload(self, name: str) -> int:
        """Send its process SIGHUP, which that must handle and live on after; return its pid."""


class Finished(Protocol):
    """A program that has ended: `exit` is its status, negative for a signal; what it said is cut to 64 KiB each."""

    @property
    def exit(self) -> int: ...
    @property
    def stdout(self) -> str: ...
    @property
    def stderr(self) -> str: ...


class Tools(Protocol):
    """What the helper lends an action. What `run` started is killed, with its group, when the action is cut off."""

    @property
    def limits(self) -> Any:
        """The policy's limits for this action, of its own type."""

    @property
    def services(self) -> Services: ...

    async def run(self, argv: Sequence[str]) -> Finished:
        """Run a program, by its absolute path, to its end."""


@dataclass(frozen=True)
class Action(Generic[S]):
    """What an agent's helper can do on its host: `act` does it, or raises ActionError.

    It is cut off (cancelled) at the command's time-out, and never called twice for one key. `look` is called just
    before; if the helper dies in the middle, `probe` is given what `look` returned and says what became of the act,
    or None where nobody can know; either may be a coroutine function. `idempotent` means that a retry after an unknown
    end is harmless.
    """

    name: str
    params: type[S]
    act: Callable[[S, Tools], Awaitable[Outcome]]
    limits: type[Limits] = Limits
    idempotent: bool = False
    look: Callable[[S, Tools], Any] | None = None
    probe: Callable[[S, Any, Tools], Awaitable[Outcome | None] | Outcome | None] | None = None
    missing: Callable[[], str] = nothing
