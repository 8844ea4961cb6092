"""An activator by itself in virtual time, with facts and the ends of runs as the test wants them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from exhaust.messages import Activation, Decision, ExecutionEvent, ExecutionState, Fact, FactReason, Message, Verdict
from tests.harness import HOST, NOW, Harness

M = TypeVar("M", bound=Message)

_HOSTS = """hosts:
  - {name: "web-[1:3]", labels: {role: web}}
  - {name: db-1, labels: {role: db}}
"""
_FRAME = """
adapters: [{name: ops, use: notify, url: "log:"}]
workflows:
  - name: mend
    inputs: {service: string}
    tasks: [{name: restart, use: agent, do: service.restart, with: {service: "${{ inputs.service }}"}}]
rules:
"""


class Rig:
    """One rule, `restart`, with the lines given, and `more` rules; `above` are sections of its file."""

    def __init__(
        self,
        folder: Path,
        *lines: str,
        mode: str = "auto",
        on: str = "service.down",
        more: Sequence[str] = (),
        above: str = "",
        hosts: str = _HOSTS,
    ) -> None:
        own = (f"on: {on}", "run: mend", 'with: {service: "${{ cause.labels.service }}"}', f"mode: {mode}", *lines)
        rule = "  - name: restart\n" + "".join(f"    {line}\n" for line in own)
        self.harness = Harness(folder, above + hosts + _FRAME + rule + "".join(f"  - {entry}\n" for entry in more))
        for other in ("analyzers", "orchestrator"):
            del self.harness.desks[other]
        self._facts = 0

    def of(self, type_: type[M]) -> list[M]:
        return self.harness.of(type_)

    @property
    def told(self) -> list[tuple[float, str, list[str]]]:
        """When, in seconds since the start, what was decided, and which guards refused."""
        return [(one.time - NOW, one.outcome, [reason.guard for reason in one.reasons]) for one in self.of(Decision)]

    def open(self, *, name: str = "service.down", **given: Any) -> Fact:
        self._facts += 1
        episode, now = f"episode-{self._facts}", self.harness.now
        about: dict[str, Any] = {"host": HOST, "labels": {"service": "shop"}, "severity": "critical", "since": now}
        about |= {"valid_until": now + 90} | given
        fact = Fact(id=episode, time=now, name=name, episode=episode, state="open", reason="asserted", **about)
        self.harness.send(fact)
        return fact

    def reassert(self, fact: Fact, **changed: Any) -> Fact:
        now = self.harness.now
        about = {"id": f"{fact.episode} at {now}", "time": now, "valid_until": now + 90} | changed
        again = msgspec.structs.replace(fact, **about)
        self.harness.send(again)
        return again

    def close(self, fact: Fact, reason: FactReason = "cleared") -> Fact:
        return self.reassert(fact, state="closed", reason=reason, valid_until=self.harness.now)

    def event(self, state: ExecutionState, verdict: Verdict | None = None, *, run: int = -1) -> ExecutionEvent:
        """Return what the orchestrator tells of a run, by default of the newest activation's."""
        given = self.of(Activation)[run]
        identifier = f"{given.execution} {state} {verdict}"
        about: dict[str, Any] = {"execution": given.execution, "workflow": given.workflow, "definition": "d"}
        return ExecutionEvent(id=identifier, time=self.harness.now, state=state, verdict=verdict, **about)

    def end(self, verdict: Verdict, *, run: int = -1) -> ExecutionEvent:
        event = self.event("succeeded" if verdict in ("recovered", "relapsed") else "failed", verdict, run=run)
        self.harness.send(event)
        return event

    def running(self) -> None:
        self.harness.send(self.event("running"))
