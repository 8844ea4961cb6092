"""What the read model shows: one item per episode, candidate, execution and order, made from all that was said of it.

Each item is a function of the set of its messages, whatever the order in which they came.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from exhaust.ids import execution_of
from exhaust.messages import TERMINAL, Decision, ExecutionEvent, Fact, Order, Prediction, Reason

_PROGRESS = {state: rank for rank, state in enumerate(("pending", "waiting", "running", "verifying"))}


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is its first, `time` when it began, `updated` when the newest of its messages was made."""

    id: str
    time: float
    updated: float
    causes: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing more is expected of it."""
        return True


class FactItem(Item, frozen=True, kw_only=True):
    """An episode of a fact, as last heard of."""

    name: str
    host: str | None
    labels: dict[str, str]
    episode: str
    state: str
    reason: str
    severity: str
    since: float
    valid_until: float
    value: Any
    summary: str
    evidence: list[dict[str, Any]]
    detector: str
    ended: float | None

    @property
    def over(self) -> bool:
        return self.state == "closed"


class PredictionItem(FactItem, frozen=True, kw_only=True):
    """An episode of a prediction, as last heard of."""

    due: float
    probability: float
    horizon: float


class DecisionItem(Item, frozen=True, kw_only=True):
    """What was last decided of a candidate, an episode and a rung of a rule."""

    rule: str
    rung: int
    cause: str
    outcome: str
    reasons: list[Reason]
    host: str | None
    execution: str | None
    count: int
    last_time: float


class TaskItem(msgspec.Struct, frozen=True):
    """One task of an execution."""

    name: str
    state: str
    attempts: int
    output: Any
    error: str | None


class ExecutionItem(Item, frozen=True, kw_only=True):
    """One run of a workflow."""

    workflow: str
    definition: str
    host: str | None
    rule: str | None
    rung: int | None
    cause: str | None
    attempt: int
    mode: str | None
    state: str
    reason: str | None
    error: str | None
    verdict: str | None
    started: float | None
    ended: float | None
    deadline: float | None
    tasks: list[TaskItem]

    @property
    def over(self) -> bool:
        return self.state in TERMINAL


class OrderItem(Item, frozen=True, kw_only=True):
    """What a person wanted, and of a trigger the run that it asked for."""

    order: str
    target: str | None
    by: str
    reason: str
    inputs: dict[str, Any]
    host: str | None
    execution: str | None


ITEMS: dict[str, type[Item]] = {
    "fact": FactItem,
    "prediction": PredictionItem,
    "decision": DecisionItem,
    "execution": ExecutionItem,
    "order": OrderItem,
}


def fact_item(episode: str, facts: Iterable[Fact]) -> FactItem:
    """Show an episode. A closed one never opens again, whatever is heard of it later."""
    told = sorted(facts, key=lambda fact: (fact.time, fact.id))
    newest = max(told, key=lambda fact: (fact.state == "closed", fact.time, fact.id))
    opening = next((fact for fact in told if fact.id == episode), told[0])
    shown: dict[str, Any] = {
        "id": episode,
        "time": opening.time,
        "updated": told[-1].time,
        "causes": opening.causes,
        "name": newest.name,
        "host": newest.host,
        "labels": newest.labels,
        "episode": episode,
        "state": newest.state,
        "reason": newest.reason,
        "severity": newest.severity,
        "since": opening.since,
        "valid_until": newest.valid_until,
        "value": newest.value,
        "summary": newest.summary,
        "evidence": newest.evidence,
        "detector": newest.detector,
        "ended": newest.time if newest.state == "closed" else None,
    }
    if isinstance(newest, Prediction):
        shown |= {"due": newest.due, "probability": newest.probability, "horizon": newest.horizon}
        return PredictionItem(**shown)
    return FactItem(**shown)


def decision_item(first: str, decisions: Iterable[Decision]) -> DecisionItem:
    """Show a candidate: the newest decision counts; `first` is the id by which it became known."""
    told = sorted(decisions, key=lambda one: (max(one.time, one.last_time), one.count, one.id))
    newest = told[-1]
    return DecisionItem(
        id=first,
        time=min(one.time for one in told),
        updated=newest.time,
        causes=newest.causes,
        rule=newest.rule,
        rung=newest.rung,
        cause=newest.cause,
        outcome=newest.outcome,
        reasons=newest.reasons,
        host=newest.host,
        execution=newest.execution or _newest(told, "execution"),
        count=newest.count,
        last_time=newest.last_time or newest.time,
    )


def execution_item(execution: str, events: Iterable[ExecutionEvent]) -> ExecutionItem:
    """Show a run. Its first terminal state stays; a later verdict replaces an earlier one."""
    told = sorted(events, key=in_order)
    run = [event for event in told if event.task is None] or told
    ends = [event for event in run if event.task is None and event.state in TERMINAL]
    now = ends[0] if ends else run[-1]
    return ExecutionItem(
        id=execution,
        time=told[0].time,
        updated=told[-1].time,
        causes=told[0].causes,
        workflow=now.workflow,
        definition=now.definition,
        host=_first(told, "host"),
        rule=_first(told, "rule"),
        rung=_first(told, "rung"),
        cause=_first(told, "cause"),
        attempt=max((event.attempt for event in run if event.task is None), default=1),
        mode=_first(told, "mode"),
        state=now.state if now.task is None else "running",
        reason=now.reason if now.task is None else None,
        error=now.error if now.task is None else None,
        verdict=_newest(run, "verdict"),
        started=_first(run, "started") or next((event.time for event in run if event.state == "running"), None),
        ended=ends[0].time if ends else None,
        deadline=_first(told, "deadline"),
        tasks=_tasks(told),
    )


def order_item(order: Order) -> OrderItem:
    """Show an order."""
    return OrderItem(
        id=order.id,
        time=order.time,
        updated=order.time,
        causes=order.causes,
        order=order.order,
        target=order.target,
        by=order.by,
        reason=order.reason,
        inputs=order.inputs,
        host=order.host,
        execution=execution_of(order.id) if order.order == "trigger" else None,
    )


def in_order(event: ExecutionEvent) -> tuple[float, int, str]:
    """Sort events by time; of one moment, the state that comes earlier in a run first."""
    return event.time, _PROGRESS.get(event.state, len(_PROGRESS)), event.id


def _tasks(told: Sequence[ExecutionEvent]) -> list[TaskItem]:
    by_name: dict[str, list[ExecutionEvent]] = {}
    for event in told:
        if event.task is not None:
            by_name.setdefault(event.task, []).append(event)
    return [_task(name, events) for name, events in by_name.items()]


def _task(name: str, events: Sequence[ExecutionEvent]) -> TaskItem:
    newest = max(events, key=lambda event: (event.attempt, event.state in TERMINAL, *in_order(event)))
    return TaskItem(name, newest.state, newest.attempt, newest.output, newest.error)


def _first(messages: Iterable[Any], field: str) -> Any:
    return next((value for message in messages if (value := getattr(message, field)) is not None), None)


def _newest(messages: Sequence[Any], field: str) -> Any:
    return _first(reversed(messages), field)
