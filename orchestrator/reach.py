"""How a task reaches its target: by a signed command to an agent, or by an adapter of this process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from exhaust.expressions import Timestamp, Unknown, to_text
from exhaust.ids import derived_id, effect_key
from exhaust.messages import Command
from exhaust.plugins import Adapter, Task
from exhaust.wire import unsendable
from exhaust.worker import Perform
from orchestrator.journal import NOTIFY
from orchestrator.run import Run
from orchestrator.workflows import TaskSpec

COMMAND_LIFE = 60.0

Hosts = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True)
class Doing:
    """A task that an adapter of this process is to do."""

    adapter: str
    task: Task


class Unsayable(Exception):  # noqa: N818  not an error of ours: the task cannot be put into words, and fails
    """Why a task can be neither commanded nor done."""


class Reach:
    """The adapters by name. `epoch` is the leader's; `audience` is the fingerprint of the agents' key."""

    def __init__(
        self,
        adapters: Mapping[str, Adapter[Any]],
        hosts: Hosts,
        lists: Mapping[str, Any],
        epoch: int,
        audience: str,
    ) -> None:
        self._adapters = adapters
        self._hosts = hosts
        self._lists = lists
        self._epoch = epoch
        self._audience = audience
        self._commands = 0

    def mutates(self, run: Run, spec: TaskSpec) -> bool:
        adapter = self._adapter(run, spec)[1]
        return adapter is not None and adapter.mutates

    def waits(self, run: Run, spec: TaskSpec) -> float:
        """Return for how many seconds an answer may be under way: a command may lie unread for all its life."""
        adapter = self._adapter(run, spec)[1]
        return spec.timeout + (COMMAND_LIFE if adapter is not None and adapter.act is None else 0.0)

    def host(self, run: Run, spec: TaskSpec, now: float) -> str | None:
        """Return the host of a task, None where it has none or it cannot be known yet."""
        if spec.host is None:
            return run.activation.host
        named = to_text(spec.host(*self._variables(run, now)))
        return None if isinstance(named, Unknown) else named

    def order(self, run: Run, spec: TaskSpec, now: float) -> Command | Perform:
        """Return what starts the newest attempt of a task. Raises Unsayable."""
        name, adapter = self._adapter(run, spec)
        if adapter is None:
            raise Unsayable(f"no adapter is called '{name}'")
        params, host = self._rendered(run, spec, now)
        key = effect_key(run.id, spec.name, run.task(spec.name).attempt)
        if adapter.mutates and host is not None and not self._hosts(host)["known"]:
            raise Unsayable(f"host '{host}' is not in the inventory")
        if adapter.act is not None:
            return Perform(Doing(name, Task(run.id, spec.name, spec.do, params, host, key, now, spec.timeout)))
        if host is None:
            raise Unsayable("a command needs a host")
        return self._command(run, spec, host, params, key, now)

    def _adapter(self, run: Run, spec: TaskSpec) -> tuple[str, Adapter[Any] | None]:
        name = str(run.inputs.get("to")) if run.workflow.name == NOTIFY else spec.use
        return name, self._adapters.get(name)

    def _command(self, run: Run, spec: TaskSpec, host: str, params: dict[str, Any], key: str, now: float) -> Command:
        command = Command(
            id=derived_id("command/1", (run.id,), spec.name, key, self._epoch, now),
            time=now,
            causes=(run.id,),
            execution=run.id,
            task=spec.name,
            host=host,
            action=spec.do,
            params=params,
            audience=self._audience,
            epoch=self._epoch,
            seq=self._commands + 1,
            expires=now + COMMAND_LIFE,
            key=key,
            timeout=spec.timeout,
        )
        if fault := unsendable(command):
            raise Unsayable(fault)
        self._commands += 1
        return command

    def _rendered(self, run: Run, spec: TaskSpec, now: float) -> tuple[dict[str, Any], str | None]:
        """Return parameters and host of a task."""
        variables = self._variables(run, now)
        host = run.activation.host
        if spec.host is not None:
            named = to_text(spec.host(*variables))
            if isinstance(named, Unknown):
                raise Unsayable(f"host: {named.reason}")
            host = named
        params = spec.with_.render(*variables)
        if isinstance(params, Unknown):
            raise Unsayable(params.reason)
        return params, host

    def _variables(self, run: Run, now: float) -> tuple[Any, ...]:
        """The values of the names that a workflow's expressions may use, in the order of `language.WORKFLOW`."""
        name = run.activation.host
        host = None if name is None else self._hosts(name)
        tasks, execution = run.tasks_variable(), run.execution_variable()
        moment = Timestamp.from_seconds(now)
        return (run.inputs, run.cause_variable(), host, tasks, execution, moment, self._lists)
