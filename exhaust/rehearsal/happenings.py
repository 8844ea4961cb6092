"""What happened in a rehearsal, as expectations are held against it and as it is told to a person."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from exhaust.messages import Activation, Command, Decision, ExecutionEvent, Fact, Message, Prediction
from exhaust.rehearsal.rehearsal import Rehearsal, Work
from exhaust.text import clean

_MOST_TOLD = 20
LONGEST_LINE = 400
# What YAML takes for text though it is not quoted; a number is told apart by its lack of letters.
_PLAIN = re.compile(r"(?=.*[A-Za-df-z_/])[\w/][\w./@%+-]*(?: [\w./@%+-]+)*")
_WORDS = frozenset(("true", "false", "null"))


@dataclass(frozen=True)
class Happening:
    """Something of a kind that happened; `line` tells it to a person."""

    kind: str
    time: float
    fields: Mapping[str, Any]
    line: str


class Account:
    """Gives account of a rehearsal, each time of what is new."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal
        self._messages = 0
        self._works = 0
        self._runs: dict[str, dict[str, Any]] = {}

    def news(self) -> list[Happening]:
        """Return what happened since this was last asked, in its order."""
        log, works = self._rehearsal.log, self._rehearsal.asked[self._works :]
        placed = [(place, _call(work)) for place, work in works]
        placed += [(n, told) for n in range(self._messages, len(log)) if (told := self._of(log[n]))]
        self._messages, self._works = len(log), self._works + len(works)
        return [told for _, told in sorted(placed, key=lambda item: item[0])]

    def _of(self, message: Message) -> Happening | None:
        match message:
            case Fact(state="open") if message.id != message.episode:
                return None  # only asserted again
            case Fact():
                return _fact(message)
            case Decision():
                return _decision(message)
            case Activation():
                what = f"activation of {message.workflow} {spelled(message.inputs)}"
                return Happening("activations", message.time, _plain(message), what)
            case Command():
                what = f"command {message.action} {spelled(message.params)} to {message.host}"
                return Happening("commands", message.time, _plain(message), what)
            case ExecutionEvent():
                return self._execution(message)
        return None

    def _execution(self, event: ExecutionEvent) -> Happening:
        """Return what became of a run, with what only its first event says."""
        fields = _plain(event)
        first = self._runs.setdefault(event.execution, fields)
        fields |= {name: first[name] for name in ("host", "rule", "rung")}
        if event.task is None:
            fields["attempt"] = first["attempt"]
            end = ", ".join(filter(None, (event.state, event.verdict, event.reason)))
            return Happening("executions", event.time, fields, f"execution of {event.workflow} {end}")
        error = f": {event.error}" if event.error else ""
        what = f"task {event.task} of {event.workflow} {event.state}{error}"
        return Happening("tasks", event.time, fields, what)


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(message)
    return plain


def _fact(fact: Fact) -> Happening:
    kind = "prediction" if isinstance(fact, Prediction) else "fact"
    host = f" of {fact.host}" if fact.host is not None else ""
    state = "opened" if fact.state == "open" else f"closed, {fact.reason}"
    return Happening(f"{kind}s", fact.time, _plain(fact), f"{kind} {fact.name} {spelled(fact.labels)}{host} {state}")


def _decision(decision: Decision) -> Happening:
    guards = frozenset(reason.guard for reason in decision.reasons)
    why = "; ".join(f"{one.guard} (have {spelled(one.have)}, want {spelled(one.want)})" for one in decision.reasons)
    rung = f", rung {decision.rung}" if decision.rung > 0 else ""
    what = f"decision of {decision.rule}{rung}: {decision.outcome}{' by ' if why else ''}{why}"
    return Happening("decisions", decision.time, _plain(decision) | {"reasons": guards}, what)


def _call(work: Work) -> Happening:
    task = work.task
    fields = {"adapter": work.adapter, "do": task.do, "params": task.params, "host": task.host, "task": task.name}
    return Happening("calls", task.time, fields, f"call of {work.adapter} to {task.do} {spelled(task.params)}")


def spelled(value: Any) -> str:
    """Return data as YAML that stands on one line."""
    match value:
        case str():
            plain = _PLAIN.fullmatch(value) and value not in _WORDS
            return value if plain else json.dumps(value, ensure_ascii=False)
        case Mapping():
            return "{" + ", ".join(f"{spelled(name)}: {spelled(item)}" for name, item in value.items()) + "}"
        case list() | tuple():
            return f"[{', '.join(map(spelled, value))}]"
        case frozenset():
            return spelled(sorted(value))
        case float() if value.is_integer():
            return str(int(value))
    return json.dumps(value)


def story(news: Sequence[Happening], start: float) -> Iterator[str]:
    """Yield what happened, a line each with the seconds since the start; of much the newest."""
    if len(news) > _MOST_TOLD:
        yield f"({len(news) - _MOST_TOLD} earlier)"
    for one in news[-_MOST_TOLD:]:
        yield clean(f"+{round(one.time - start, 3):g}s {one.line}", LONGEST_LINE)
    if not news:
        yield "nothing happened"
