"""From any id the whole chain: records, facts, decisions, executions, and what happened when."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from collector.items import in_order
from collector.model import Told, read_history
from collector.refusal import Refusal
from exhaust.messages import TERMINAL, Decision, ExecutionEvent, Fact, Order, Prediction
from exhaust.store import Store

MOST_SUBJECTS = 200
MOST_STEPS = 2000
SHORTEST_PREFIX = 8
_MOST_RECORDS = 64
_MOST_NAMED = 3
_KINDS = ("record", "fact", "prediction", "order", "decision", "execution", "task", "verdict")
_RANK = {kind: rank for rank, kind in enumerate(_KINDS)}


class Step(NamedTuple):
    """Something that happened: when, to which id, and in words."""

    time: float
    kind: str
    id: str
    what: str


def explain(store: Store, name: str) -> dict[str, Any] | None:
    """Return the chain that an id belongs to, or None where nobody has heard of it.

    An id is that of a message, an episode, a candidate's first decision, an execution, an order, a record or a batch;
    its first 8 characters or more do where they begin no other. Raises Refusal where they do.
    """
    subjects = _gather(store, _find(store, name) or _begun(store, name))
    if not subjects:
        return None
    messages = [message for known in subjects.values() for message in known.values()]
    facts = [message for message in messages if isinstance(message, Fact)]
    records = list(_records(facts))[:_MOST_RECORDS]
    steps = sorted(itertools.chain(_record_steps(records), *map(_steps, messages)), key=_order)[:MOST_STEPS]
    return {
        "id": name,
        "records": records,
        "facts": _items(store, subjects, "fact"),
        "predictions": _items(store, subjects, "prediction"),
        "orders": _items(store, subjects, "order"),
        "decisions": _items(store, subjects, "decision"),
        "executions": [
            {**item, "events": _events(subjects[f"execution/{item['id']}"])}
            for item in _items(store, subjects, "execution")
        ],
        "steps": [_timed(step, steps[0].time) for step in steps],
    }


def _find(store: Store, name: str) -> set[str]:
    subject = store.get(f"id/{name}")
    if subject is not None:
        return {msgspec.json.decode(subject, type=str)}
    # Of a run that was asked for, and has not begun or never will, others know.
    prefixes = (f"record/{name}/", f"record/{name}#", f"link/{name}/")
    found = itertools.chain(*map(store.rows, prefixes))
    return {key.split("/", 2)[2] for key, _ in itertools.islice(found, MOST_SUBJECTS)}


def _begun(store: Store, prefix: str) -> set[str]:
    """Return the subjects of the one thing whose ids begin so; all that is said of a subject is one thing."""
    if len(prefix) < SHORTEST_PREFIX:
        return set()
    things = _things(store, prefix)
    if len(things) > 1:
        named = ", ".join(sorted(things)[:_MOST_NAMED])
        raise Refusal(409, "Conflict", f"'{prefix[:80]}' begins more than one id, such as {named}: give more of it")
    return set(itertools.chain(*things.values()))


def _things(store: Store, prefix: str) -> dict[str, set[str]]:
    """Return what has ids that begin so, with its subjects: once it is more than one thing, not all of it."""
    things: dict[str, set[str]] = {}
    for _, value in store.rows(f"id/{prefix}"):
        subject = msgspec.json.decode(value, type=str)
        things[subject.partition("/")[2]] = {subject}
        if len(things) > _MOST_NAMED:
            return things
    for key, _ in itertools.islice(store.rows(f"record/{prefix}"), MOST_SUBJECTS):
        _, record, subject = key.split("/", 2)
        things.setdefault(record.partition("#")[0], set()).add(subject)
    if not things:
        for key, _ in itertools.islice(store.rows(f"link/{prefix}"), MOST_SUBJECTS):
            _, name, subject = key.split("/", 2)
            things.setdefault(name, set()).add(subject)
    return things


def _gather(store: Store, start: Iterable[str]) -> dict[str, Mapping[str, Told]]:
    """Return everything that hangs together with where to start, with its messages."""
    found: dict[str, Mapping[str, Told]] = {}
    upstream: set[str] = set()
    ahead = sorted(start)
    while ahead and len(found) < MOST_SUBJECTS:
        subject = ahead.pop(0)
        if subject in found:
            continue
        messages = read_history(store.rows, subject)
        if messages:
            found[subject] = messages
            upstream |= set(_causes(store, messages.values()))
            ahead += sorted(_neighbours(store, subject, messages))
    # What a fact was made from belongs to its story; what else came of that does not.
    for subject in sorted(upstream - found.keys())[:MOST_SUBJECTS]:
        found[subject] = read_history(store.rows, subject)
    return found


def _neighbours(store: Store, subject: str, messages: Mapping[str, Told]) -> Iterator[str]:
    for name in (subject.partition("/")[2], *messages):
        for key, _ in store.rows(f"link/{name}/"):
            yield "/".join(key.split("/")[2:])
    for message in messages.values():
        for other in {getattr(message, field, None) for field in ("cause", "execution")} - {None}:
            if (row := store.get(f"id/{other}")) is not None:
                yield msgspec.json.decode(row, type=str)


def _causes(store: Store, messages: Iterable[Told]) -> Iterator[str]:
    """Yield the subjects of the facts that facts name as their causes, and of the orders that anything names."""
    for message in messages:
        for cause in message.causes:
            row = store.get(f"id/{cause}")
            subject = "" if row is None else msgspec.json.decode(row, type=str)
            if subject and (isinstance(message, Fact) or subject.startswith("order/")):
                yield subject


def _items(store: Store, subjects: Iterable[str], kind: str) -> list[dict[str, Any]]:
    rows = (store.get(subject) for subject in subjects if subject.startswith(f"{kind}/"))
    items: list[dict[str, Any]] = [msgspec.json.decode(row) for row in rows if row is not None]
    return sorted(items, key=lambda item: (item["time"], item["id"]))


def _events(messages: Mapping[str, Told]) -> list[Any]:
    events = sorted((one for one in messages.values() if isinstance(one, ExecutionEvent)), key=in_order)
    return [msgspec.to_builtins(event) for event in events]


def _records(facts: Iterable[Fact]) -> Iterator[dict[str, Any]]:
    """Yield each record once, with its fields where a fact carries them as evidence."""
    seen: set[str] = set()
    for fact in sorted(facts, key=lambda fact: (fact.time, fact.id)):
        for record in _with_ids(fact):
            name = record["id"] or repr(record)
            if name not in seen:
                seen.add(name)
                yield record


def _with_ids(fact: Fact) -> Iterator[dict[str, Any]]:
    named = [record for record in fact.evidence if isinstance(record.get("id"), str)]
    bare = [record for record in fact.evidence if not isinstance(record.get("id"), str)]
    told = {record["id"] for record in named}
    causes = [cause for cause in fact.causes if "#" in cause and cause not in told]
    yield from named
    if len(bare) == len(causes):
        # Evidence without ids stands in the order of the causes where there is one for each.
        yield from ({**record, "id": cause} for cause, record in zip(causes, bare, strict=True))
    else:
        yield from ({**record, "id": ""} for record in bare)
        yield from ({"id": cause} for cause in causes)


def _record_steps(records: Iterable[dict[str, Any]]) -> Iterator[Step]:
    for record in records:
        fields = {key: value for key, value in record.items() if key not in ("id", "time")}
        time = record.get("time")
        if not isinstance(time, int | float):
            time = _made(record["id"])
        if time is not None:
            what = ", ".join(f"{key}={_short(value)}" for key, value in fields.items())
            yield Step(float(time), "record", record["id"], f"record {what}".rstrip())


def _made(name: str) -> float | None:
    """Return when the batch of a record was made, as its UUIDv7 tells it, to the millisecond."""
    digits = name.replace("-", "")
    if len(name) < 36 or name[14] != "7":
        return None
    try:
        return int(digits[:12], 16) / 1000
    except ValueError:
        return None


def _steps(message: Told) -> Iterator[Step]:
    match message:
        case Prediction():
            yield Step(message.time, "prediction", message.id, _of_prediction(message))
        case Fact():
            yield Step(message.time, "fact", message.id, _of_fact(message))
        case Order():
            yield Step(message.time, "order", message.id, _of_order(message))
        case Decision():
            yield Step(message.time, "decision", message.id, _of_decision(message))
        case ExecutionEvent(task=None):
            if message.verdict is None or message.state not in TERMINAL:
                yield Step(message.time, "execution", message.id, _of_run(message))
            else:
                yield Step(message.time, "verdict", message.id, f"{_of_run(message)}, {message.verdict}")
        case ExecutionEvent():
            yield Step(message.time, "task", message.id, _of_task(message))


def _of_fact(fact: Fact) -> str:
    state = "opened" if fact.id == fact.episode else "holds" if fact.state == "open" else f"closed, {fact.reason}"
    return f"{fact.name} {state}" + (f": {fact.summary}" if fact.summary else "")


def _of_prediction(prediction: Prediction) -> str:
    try:
        due = f"{datetime.fromtimestamp(prediction.due, UTC):%Y-%m-%d %H:%M:%S}Z"
    except (ValueError, OverflowError, OSError):
        due = f"{prediction.due:g}"
    return f"{_of_fact(prediction)}, due {due}, probability {prediction.probability:g}"


def _of_order(order: Order) -> str:
    what = f"{order.order} {order.target}" if order.target is not None else f"{order.order} everything"
    where = f" on {order.host}" if order.host is not None else ""
    return f"{order.by}: {what}{where}" + (f": {order.reason}" if order.reason else "")


def _of_decision(decision: Decision) -> str:
    reasons = "; ".join(f"{one.guard} has {_short(one.have)}, wants {_short(one.want)}" for one in decision.reasons)
    return f"{decision.rule}/{decision.rung} {decision.outcome}" + (f": {reasons}" if reasons else "")


def _of_run(event: ExecutionEvent) -> str:
    why = ": ".join(text for text in (event.reason, event.error) if text)
    return f"{event.workflow} {event.state}" + (f": {why}" if why else "")


def _of_task(event: ExecutionEvent) -> str:
    again = f", attempt {event.attempt}" if event.attempt > 1 else ""
    came = event.error or (_short(event.output) if event.output is not None else "")
    return f"task {event.task} {event.state}{again}" + (f": {came}" if came else "")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 200 else f"{text[:199]}…"


def _order(step: Step) -> tuple[float, int, str]:
    return step.time, _RANK[step.kind], step.id


def _timed(step: Step, start: float) -> dict[str, Any]:
    return {"ms": round((step.time - start) * 1000, 3), **step._asdict()}
