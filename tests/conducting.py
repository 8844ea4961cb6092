"""An orchestrator by itself in virtual time, with activations, facts and sightings as the test wants them."""

from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from exhaust.messages import Activation, ExecutionEvent, Fact, FactReason, Message, Sighting
from tests.harness import HOST, NOW, Harness

M = TypeVar("M", bound=Message)

RESTART = '{name: restart, use: agent, do: service.restart, with: {service: "${{ inputs.service }}"}}'
TELL = "{name: tell, use: ops, do: send, with: {text: hello}}"
CAUSE = Fact(
    id="episode",
    time=NOW,
    name="service.down",
    host=HOST,
    labels={"service": "shop"},
    episode="episode",
    state="open",
    reason="asserted",
    severity="critical",
    since=NOW,
    valid_until=NOW + 90,
)


class Rig:
    """One workflow, `mend`, of the tasks given, with the lines given."""

    def __init__(self, folder: Path, *lines: str, tasks: str = RESTART) -> None:
        own = ("inputs: {service: string}", f"tasks: [{tasks}]", *lines)
        hosts = f"hosts: [{{name: {HOST}}}, {{name: web-2}}]\nadapters: [{{name: ops, use: notify, url: 'log:'}}]\n"
        self.harness = Harness(folder, f"{hosts}workflows:\n  - name: mend\n" + "".join(f"    {it}\n" for it in own))
        for other in ("analyzers", "activator"):
            del self.harness.desks[other]
        self.cause = CAUSE

    def of(self, type_: type[M]) -> list[M]:
        return self.harness.of(type_)

    def states(self) -> list[tuple[float, str]]:
        """When, in seconds since the start, the run came into which state."""
        return [(one.time - NOW, one.state) for one in self.of(ExecutionEvent) if one.task is None]

    def tasks(self) -> list[tuple[float, str, str]]:
        """When which task came into which state."""
        return [(one.time - NOW, one.task, one.state) for one in self.of(ExecutionEvent) if one.task is not None]

    def end(self) -> tuple[str, str | None, str | None]:
        """State, verdict and reason of the run's newest event."""
        newest = [one for one in self.of(ExecutionEvent) if one.task is None][-1]
        return newest.state, newest.verdict, newest.reason

    def activate(self, cause: Fact | None = CAUSE, **changed: Any) -> Activation:
        now = self.harness.now
        about: dict[str, Any] = {
            "inputs": {"service": "shop"},
            "rule": "r",
            "rung": 0,
            "attempt": 1,
            "host": HOST,
            "mode": "auto",
        }
        about |= {
            "execution": "run",
            "workflow": "mend",
            "expires": now + 60,
            "epoch": 1,
            "id": f"a at {now}",
        } | changed
        activation = Activation(time=now, cause=cause, **about)
        self.harness.send(activation)
        return activation

    def tell(self, **changed: Any) -> Fact:
        """Send another message of the cause's episode, or of a new one where `episode` is given."""
        now = self.harness.now
        about: dict[str, Any] = {"id": f"{changed} at {now}", "time": now, "valid_until": now + 90} | changed
        self.cause = msgspec.structs.replace(self.cause, **about)
        self.harness.send(self.cause)
        return self.cause

    def close(self, reason: FactReason = "cleared", *, at: float | None = None) -> Fact:
        """Let the cause close, since `at`."""
        return self.tell(state="closed", reason=reason, valid_until=self.harness.now if at is None else at)

    def see(self, holds: Literal["true", "false", "unknown"]) -> None:
        now, count = self.harness.now, len(self.of(Sighting))
        self.harness.send(Sighting(id=f"s{count}", time=now, execution="run", host=HOST, holds=holds, samples=1))
