"""What one section of the configuration names and another ought to define."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from exhaust.catalogue import Catalogue
from exhaust.documents.binding import MOST_SUGGESTIONS
from exhaust.documents.nodes import Fault, Node, Scalar, child
from exhaust.documents.nodes import Mapping as MapNode
from exhaust.documents.nodes import Sequence as ListNode
from exhaust.expressions.errors import suggestion
from exhaust.ledger import LEDGER
from exhaust.sections import Entry, Sections, text_of

GLOB = frozenset("*?[")
_DEFINED: Mapping[str, str] = {
    "workflows": "no workflow is called",
    "adapters": "no adapter is called",
    "rules": "no rule is called",
    "facts": "no analyzer makes the fact",
    "calendars": "no calendar is called",
}


class Names:
    """Everything that is defined, by name: workflows with what is known of them, None where that is too little."""

    def __init__(self, sections: Sections, catalogue: Catalogue) -> None:
        self.workflows = {entry.name: entry.rough for entry in sections["workflows"]}
        self.kinds = {**catalogue.implied, **{entry.name: entry.plugin for entry in sections["adapters"]}}
        facts = {text_of(entry.node, "fact", "prediction") for entry in sections["analyzers"]} | set(LEDGER)
        rules = {entry.name for entry in sections["rules"]}
        calendars = {entry.name for entry in sections["calendars"]}
        self._known = {"workflows": self.workflows, "adapters": self.kinds, "rules": rules, "facts": facts}
        self._known["calendars"] = calendars
        self._unread = sections.unread | ({"facts"} if "analyzers" in sections.unread else set())
        self._undefined = 0
        self._agents = {name: action.params for name, action in catalogue.actions.items()}

    def undefined(self, what: str, name: str) -> str | None:
        """Say that nobody defines a name; None where somebody does, or may in what could not be read."""
        known = self._known[what]
        if name in known or what in self._unread:
            return None
        self._undefined += 1
        return f"{_DEFINED[what]} {name!r}{suggestion(name, known) if self._undefined <= MOST_SUGGESTIONS else ''}"

    def actions(self, adapter: str) -> Mapping[str, Any] | None:
        """Return what an adapter can do, with the type of what it is told; None where that is not known."""
        kind = self.kinds.get(adapter)
        if kind is None:
            return None
        return self._agents if kind.act is None else kind.actions

    def is_for_agents(self, adapter: str) -> bool:
        kind = self.kinds.get(adapter)
        return kind is not None and kind.act is None


def reference_faults(sections: Sections, names: Names) -> Iterator[Fault]:
    """Find what is named somewhere and defined nowhere, or twice."""
    for section in ("rules", "workflows", "adapters", "analyzers", "calendars", "people"):
        yield from _twice(sections[section])
    for entry in sections["analyzers"]:
        yield from _heard(entry, names)
    for entry in sections["rules"]:
        yield from _mentioned(entry, names)
        yield from _timed(entry, names)
        if entry.rough is not None:
            yield from _ladder(entry, names)
    for entry in sections["workflows"]:
        if entry.rough is not None:
            yield from _tasks(entry, names)


def _twice(entries: Iterable[Entry]) -> Iterator[Fault]:
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen and entry.settings is not None:
            remedy = "" if text_of(entry.node, "name") else ": give one a name of its own"
            yield entry.fault("name", f"{entry.name!r} is defined twice{remedy}")
        seen.add(entry.name)


# Facts and rules: who is not here may come to be, so that these are doubts


def _heard(entry: Entry, names: Names) -> Iterator[Fault]:
    on = text_of(entry.node, "on")
    kind, _, name = on.partition(".")
    if kind in ("fact", "prediction") and name:
        yield from _doubt(entry, child(entry.path, "on"), "facts", name, names)


def _mentioned(entry: Entry, names: Names) -> Iterator[Fault]:
    for path, name in _texts(entry.node, entry.path, "on"):
        yield from _doubt(entry, path, "facts", name, names)
    for key in ("given", "unless"):
        for path, other in _items(entry.node, entry.path, key):
            for place, name in _texts(other, path, "open"):
                yield from _doubt(entry, place, "facts", name, names)
    quarantine = entry.node.get("quarantine") if isinstance(entry.node, MapNode) else None
    for path, name in _texts(quarantine, child(entry.path, "quarantine"), "rules"):
        yield from _doubt(entry, path, "rules", name, names)


def _timed(entry: Entry, names: Names) -> Iterator[Fault]:
    for key in ("during", "unless_during"):
        for path, name in _texts(entry.node, entry.path, key):
            if what := names.undefined("calendars", name):
                yield entry.context.fault(path, what)


def _doubt(entry: Entry, path: str, kind: str, name: str, names: Names) -> Iterator[Fault]:
    if GLOB.isdisjoint(name) and (what := names.undefined(kind, name)):
        yield entry.context.fault(path, what, "warning")


def _items(node: Node | None, path: str, key: str) -> Iterator[tuple[str, Node]]:
    """Yield what a list or a map under a key holds, with its path."""
    value = node.get(key) if isinstance(node, MapNode) else None
    place = child(path, key)
    if isinstance(value, ListNode):
        yield from ((child(place, number), item) for number, item in enumerate(value.items))
    elif isinstance(value, MapNode):
        yield from ((child(place, name), entry.value) for name, entry in value.entries.items())


def _texts(node: Node | None, path: str, key: str) -> Iterator[tuple[str, str]]:
    """Yield the text, or the texts of the list, under a key, with its path."""
    value = node.get(key) if isinstance(node, MapNode) else None
    if isinstance(value, Scalar):
        yield child(path, key), value.text
    elif isinstance(value, ListNode):
        yield from ((place, item.text) for place, item in _items(node, path, key) if isinstance(item, Scalar))


# Workflows, adapters and actions


def rungs(entry: Entry) -> Iterator[tuple[str, Any]]:
    """Yield the steps of a rule's ladder with their paths."""
    for number, rung in enumerate(entry.rough.ladder):
        yield entry.path if number == 0 else child(child(entry.path, "escalate"), number - 1), rung


def _ladder(entry: Entry, names: Names) -> Iterator[Fault]:
    for path, rung in rungs(entry):
        if rung.run is not None:
            yield from _run(entry, path, rung, names)
        notice = rung.notify or (entry.rough.notify if path == entry.path else None)
        if notice is not None and (what := names.undefined("adapters", notice.to)):
            yield entry.context.fault(child(child(path, "notify"), "to"), what)


def _run(entry: Entry, path: str, rung: Any, names: Names) -> Iterator[Fault]:
    run = child(path, "run")
    if what := names.undefined("workflows", rung.run):
        yield entry.context.fault(run, what)
    workflow = names.workflows.get(rung.run)
    if workflow is None:  # too little could be made of it, if it is there
        return
    given = rung.with_.source
    for name in given:
        if name not in workflow.inputs:
            what = f"workflow {rung.run!r} has no input {name!r}{suggestion(name, workflow.inputs)}"
            yield entry.context.fault(child(child(path, "with"), name), what)
    for name in workflow.required:
        if name not in given:
            yield entry.context.fault(run, f"workflow {rung.run!r} needs the input {name!r} under 'with'")


def _tasks(entry: Entry, names: Names) -> Iterator[Fault]:
    seen: set[str] = set()
    for path, spec in entry.rough.placed(entry.path):
        if spec.name in seen:
            yield entry.context.fault(child(path, "name"), f"two tasks are called {spec.name!r}")
        seen.add(spec.name)
        if what := names.undefined("adapters", spec.use):
            yield entry.context.fault(child(path, "use"), what)
        known = names.actions(spec.use)
        if known is not None and spec.do not in known:
            what = f"{spec.use!r} cannot do {spec.do!r}{suggestion(spec.do, known)}"
            yield entry.context.fault(child(path, "do"), what)
