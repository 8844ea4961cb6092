"""What every command must pass, in the agent and once more in the helper, before anything is done."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.params import ParamsError, parse
from agents.policy import PolicyFile
from exhaust.errors import ForgeryError, MessageError
from exhaust.lifecycle.service import Station
from exhaust.messages import AnyMessage, Command
from exhaust.plugins import Action, Limits
from exhaust.signing import Verifier, fingerprint

SKEW = 5.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing is done: a code for programs, `detail` for people."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A command that may be done: its action, its parameters by the action's own type, the policy's limits."""

    action: Action[Any]
    params: Any
    limits: Limits


def untimely(command: Command, now: float) -> Refusal | None:
    """Say whether a command comes too late, or from the future; clocks may differ by 5 s."""
    if command.time > now + SKEW:
        return Refusal("clock", f"signed {command.time - now:.0f} s ahead of this host's clock")
    if command.expires < now - SKEW:
        return Refusal("expired", f"{now - command.expires:.0f} s ago")
    return None


class Gate:
    """One host's checks: signer, addressee, HALT, action, parameters, policy; in this order, and closed by default."""

    def __init__(self, station: Station, policy: Path | None, actions: Mapping[str, Action[Any]]) -> None:
        self._host = station.host
        self._audience = fingerprint(station.keys.public("agent"))
        self._halt = station.state / "HALT"
        self._actions = actions
        self.verifier = Verifier({"command/1": station.keys.public("orchestrator")})
        self.policy = PolicyFile(policy, actions)

    def open(self, envelope: bytes) -> Command:
        """Return the command in an envelope. Raise MessageError or ForgeryError if it is not for us to follow."""
        return self.addressed(self.verifier.open(envelope))

    def addressed(self, message: AnyMessage) -> Command:
        """Return the command if it is one, and ours. A foreign one gets no answer: it may be in another's journal."""
        if not isinstance(message, Command):
            raise MessageError(f"an agent takes commands, not {type(message).__name__}")
        if message.audience != self._audience:
            raise ForgeryError("audience: the command is for another agent's key")
        if message.host != self._host:
            raise ForgeryError(f"host: the command is for '{message.host}', this is '{self._host}'")
        return message

    def admit(self, command: Command) -> Admitted | Refusal:
        """Return what is to be done, or why nothing is."""
        if self._halt.exists():
            return Refusal("halted", f"{self._halt} exists")
        action = self._actions.get(command.action)
        if action is None:
            return Refusal("unknown_action", f"known are {', '.join(sorted(self._actions))}")
        policy = self.policy.current()
        limits = policy.limits.get(action.name)
        if limits is None:
            return Refusal("policy", policy.fault or f"'{action.name}' is not in this host's policy")
        try:
            params = parse(command.params, action.params)
        except ParamsError as exc:
            return Refusal("params", str(exc))
        if parameter := limits.forbids(params):
            return Refusal("policy", f"the value of '{parameter}' is not allowed by this host's policy")
        return Admitted(action, params, limits)
