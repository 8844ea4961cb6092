"""What the operator has defined, as it is in force: hosts, rules and workflows, and what has become of each."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from collector.model import ReadModel
from collector.refusal import bad, unknown
from exhaust.language import Defined


class HostItem(msgspec.Struct, frozen=True):
    """A host of the inventory (`known`), or one that telemetry came of; `last_heard` is when it last did."""

    id: str
    name: str
    labels: Mapping[str, str]
    known: bool
    last_heard: float | None
    emitters: list[str]
    streams: list[str]
    open_facts: int


class RuleItem(msgspec.Struct, frozen=True):
    """A rule as it was written, and how many of its candidates have which outcome."""

    id: str
    name: str
    hash: str
    source: Any
    decisions: dict[str, int]


class WorkflowItem(msgspec.Struct, frozen=True):
    """A workflow as it was written, and how many of its runs had which verdict, or are under way."""

    id: str
    name: str
    hash: str
    source: Any
    runs: dict[str, int]


DEFINED: Mapping[str, type[msgspec.Struct]] = {"host": HostItem, "rule": RuleItem, "workflow": WorkflowItem}


@dataclass(frozen=True)
class Definitions:
    """One installation's; `hosts` are the inventory's, with their labels."""

    hosts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    rules: Sequence[Defined[Any]] = ()
    workflows: Sequence[Defined[Any]] = ()

    def items(self, kind: str, model: ReadModel, now: float) -> list[dict[str, Any]]:
        """Return all of a kind as plain data, by name."""
        found: Iterable[msgspec.Struct]
        match kind:
            case "host":
                found = self._hosts(model, now)
            case "rule":
                decided = model.tallies["decision"].counts
                found = (RuleItem(*_about(rule), decided(rule.value.name)) for rule in self.rules)
            case _:
                ran = model.tallies["execution"].counts
                found = (WorkflowItem(*_about(flow), ran(flow.value.name)) for flow in self.workflows)
        return sorted(map(msgspec.to_builtins, found), key=lambda item: str(item["id"]))

    def _hosts(self, model: ReadModel, now: float) -> Iterator[HostItem]:
        heard: dict[str, float] = {}
        streams: dict[str, set[tuple[str, str]]] = {}
        for stream in model.telemetry.ledger.streams():
            heard[stream.host] = max(heard.get(stream.host, 0.0), stream.last.last_received)
            if model.telemetry.is_sent(stream, now):
                streams.setdefault(stream.host, set()).add((stream.emitter, stream.stream))
        for name in self.hosts.keys() | heard.keys():
            sent = sorted(streams.get(name, ()))
            yield HostItem(
                name,
                name,
                self.hosts.get(name, {}),
                name in self.hosts,
                heard.get(name),
                sorted({emitter for emitter, _ in sent}),
                [f"{emitter}.{stream}" for emitter, stream in sent],
                sum(model.tallies["fact"].counts(name).values()),
            )

    def workflow(self, name: str) -> Mapping[str, Any]:
        """Return a workflow as it was written. Raises Refusal."""
        sources: dict[str, Mapping[str, Any]] = {flow.value.name: flow.source for flow in self.workflows}
        if name not in sources:
            raise unknown(f"no workflow is called '{name[:80]}'{_near(name, sources)}")
        return sources[name]

    def check_host(self, name: str | None) -> None:
        """Raise Refusal for a host that is not in the inventory; none is fine."""
        if name is not None and name not in self.hosts:
            raise bad(f"host '{name[:80]}' is not in the inventory{_near(name, self.hosts)}")

    def target(self, source: Mapping[str, Any], host: str | None) -> str | None:
        """Return the host that a run is for: where one is needed and there is but one, that. Raises Refusal."""
        self.check_host(host)
        if host is not None or not any(_needs_host(task) for task in _tasks(source)):
            return host
        if len(self.hosts) == 1:
            return next(iter(self.hosts))
        raise bad(f"workflow '{source['name']}' acts on a host: give 'host'")


def check_inputs(source: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise Refusal for inputs that a workflow does not have, or needs and is not given."""
    wanted = source.get("inputs") or {}
    for name in given:
        if name not in wanted:
            known = f": there are {', '.join(wanted)}" if wanted else ": it has none"
            raise bad(f"workflow '{source['name']}' has no input '{name[:80]}'{_near(name, wanted) or known}")
    missing = [name for name, spec in wanted.items() if given.get(name) is None and not _has_default(spec)]
    if missing:
        raise bad(f"workflow '{source['name']}' needs {', '.join(map(repr, missing))}")


def _has_default(spec: Any) -> bool:
    return isinstance(spec, dict) and spec.get("default") is not None


def _tasks(source: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for entry in (*(source.get("tasks") or ()), *(source.get("on_failure") or ())):
        yield from entry.get("parallel", (entry,))


def _needs_host(task: Mapping[str, Any]) -> bool:
    return task.get("use") == "agent" and task.get("host") is None


def _about(defined: Defined[Any]) -> tuple[str, str, str, Any]:
    return defined.value.name, defined.value.name, defined.hash, defined.source


def _near(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f", did you mean '{near[0]}'?" if near else ""
