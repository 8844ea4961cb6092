"""What people ask for: a run of a workflow, which the same guards keep from doing harm, but no rule decides."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from activator.guards import CONCURRENT
from activator.run import Run
from activator.runs import Runs
from exhaust.halts import Halts
from exhaust.ids import derived_id, execution_of
from exhaust.messages import Activation, Decision, Order, Reason

# A person who asked has seen no answer for so long, and does not count on one any more.
_LIFE = 60.0
_SKEW = 5.0


@dataclass(frozen=True)
class Triggers:
    """Answers orders to run a workflow. `epoch` is the leader's."""

    hosts: Callable[[str], Mapping[str, Any]]
    halts: Halts
    epoch: int

    def answer(self, order: Order, runs: Runs, now: float) -> tuple[Decision, Activation | None, Run | None]:
        """Return the decision and, where it fired, what starts the run and what is remembered of it."""
        reasons = list(self._refusals(order, runs, now))
        decision = self._decision(order, reasons, now)
        if reasons:
            return decision, None, None
        return decision, self._activation(order, decision, now), self._run(order, now)

    def _refusals(self, order: Order, runs: Runs, now: float) -> Iterator[Reason]:
        if order.host is not None and not self.hosts(order.host)["known"]:
            yield Reason("host", order.host, "a host of the inventory")
        if halt := self.halts.over(order.host):
            yield Reason("halt", f"halted by {halt.by}", "not halted")
        if abs(now - order.time) > _LIFE:
            yield Reason("stale", round(now - order.time, 3), f"asked for at most {_LIFE:g} s ago")
        elif order.time > now + _SKEW:
            yield Reason("clock", round(order.time - now, 3), f"at most {_SKEW:g} s ahead of this clock")
        alike = runs.of_rule(_name(order))
        if any(run.identity == _identity(order) for run in alike):
            yield Reason("concurrent", 1, "no other run of the same")
        if len(alike) >= CONCURRENT:
            yield Reason("concurrent", len(alike), f"fewer than {CONCURRENT} of this workflow")

    def _decision(self, order: Order, reasons: list[Reason], now: float) -> Decision:
        return Decision(
            id=derived_id("decision/1", (order.id,), _name(order)),
            time=now,
            causes=(order.id,),
            rule=_name(order),
            rung=0,
            cause=order.id,
            outcome="refused" if reasons else "fired",
            reasons=reasons,
            host=order.host,
            execution=execution_of(order.id),
            last_time=now,
        )

    def _activation(self, order: Order, decision: Decision, now: float) -> Activation:
        return Activation(
            id=derived_id("activation/1", (decision.id,), _name(order)),
            time=now,
            causes=(decision.id,),
            execution=execution_of(order.id),
            workflow=order.target or "",
            inputs=order.inputs,
            rule=None,
            rung=0,
            attempt=1,
            cause=None,
            host=order.host,
            mode="auto",
            expires=now + _LIFE,
            epoch=self.epoch,
        )

    def _run(self, order: Order, now: float) -> Run:
        host = self.hosts(order.host) if order.host is not None else {}
        return Run(
            execution=execution_of(order.id),
            rule=_name(order),
            rung=0,
            identity=_identity(order),
            episode=order.id,
            host=order.host,
            labels=dict(host.get("labels", {})),
            started=now,
        )


def _name(order: Order) -> str:
    """Return what stands where a rule's name would."""
    return f"trigger:{order.target}"


def _identity(order: Order) -> str:
    return json.dumps([order.target, order.host, order.inputs], sort_keys=True)
