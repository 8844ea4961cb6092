"""What one section of the configuration names and another ought to define."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from exhaust.nodes import Fault, child
from exhaust.plugins import Adapter
from exhaust.settings import Context


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about a name that is unknown: the one that is meant perhaps."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean {near[0]!r}?" if near else ""


def rule_faults(
    rule: Any, path: str, context: Context, workflows: Mapping[str, Any], facts: set[str], adapters: set[str]
) -> Iterator[Fault]:
    """Find what a rule names and nobody defines."""
    for number, name in enumerate(rule.names):
        place = child(path, "on") if isinstance(rule.on, str) else child(child(path, "on"), number)
        if not any(char in name for char in "*?[") and name not in facts:
            yield context.fault(place, f"no analyzer makes the fact {name!r}{did_you_mean(name, facts)}", "warning")
    for number, rung in enumerate(rule.ladder):
        place = path if number == 0 else child(child(path, "escalate"), number - 1)
        if rung.run is not None:
            yield from _run_faults(rung, place, context, workflows)
        notice = rung.notify or (rule.notify if number == 0 else None)
        if notice is not None and notice.to not in adapters:
            what = f"no adapter is called {notice.to!r}{did_you_mean(notice.to, adapters)}"
            yield context.fault(child(child(place, "notify"), "to"), what)


def _run_faults(rung: Any, place: str, context: Context, workflows: Mapping[str, Any]) -> Iterator[Fault]:
    if rung.run not in workflows:
        yield context.fault(
            child(place, "run"), f"no workflow is called {rung.run!r}{did_you_mean(rung.run, workflows)}"
        )
        return
    workflow = workflows[rung.run]
    if workflow is None:  # it has faults of its own
        return
    given = rung.with_.source
    for name in given:
        if name not in workflow.inputs:
            what = f"workflow {rung.run!r} has no input {name!r}{did_you_mean(name, workflow.inputs)}"
            yield context.fault(child(child(place, "with"), name), what)
    for name in workflow.required:
        if name not in given:
            yield context.fault(child(place, "run"), f"workflow {rung.run!r} needs the input {name!r} under 'with'")


def workflow_faults(
    workflow: Any,
    path: str,
    context: Context,
    adapters: set[str],
    actions: Mapping[str, Any],
    kinds: Mapping[str, Adapter[Any]],
) -> Iterator[Fault]:
    """Find what a workflow names and nobody defines; `kinds` are the adapters, `actions` those of agents."""
    seen: set[str] = set()
    for place, spec in workflow.placed(path):
        if spec.name in seen:
            yield context.fault(child(place, "name"), f"two tasks are called {spec.name!r}")
        seen.add(spec.name)
        if spec.use not in adapters:
            what = f"no adapter is called {spec.use!r}{did_you_mean(spec.use, adapters)}"
            yield context.fault(child(place, "use"), what)
            continue
        if spec.use not in kinds:  # it has faults of its own
            continue
        known = actions if kinds[spec.use].act is None else kinds[spec.use].actions
        if spec.do not in known:
            what = f"{spec.use!r} cannot do {spec.do!r}{did_you_mean(spec.do, known)}"
            yield context.fault(child(place, "do"), what)
