"""What the variables of each place hold, and which expressions there can never be right because of it."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from exhaust import shapes
from exhaust.checks.streams import Streams
from exhaust.documents.draft import Placed
from exhaust.documents.nodes import Fault, Scalar, child
from exhaust.documents.nodes import Mapping as MapNode
from exhaust.documents.nodes import Sequence as ListNode
from exhaust.expressions import Shape, check_condition, check_types, result_type
from exhaust.expressions.errors import suggestion
from exhaust.expressions.shape import NUMBER, STRING, object_of
from exhaust.expressions.tree import Index, Literal, Name, Node, Presence, Select, walk
from exhaust.ledger import LEDGER
from exhaust.sections import Entry, Sections, text_of

Variables = Mapping[str, Shape]

_CONDITION = re.compile(r"(?:^|\.)(?:when|until|where|if)(?:\[\d+\])?$")
_GROUP = re.compile(r"\(\?P<(\w+)>")
_BEFORE_IT_RUNS = ("with", "host", "if", "for_each")


class Scopes:
    """The variables at each place of a configuration."""

    def __init__(self, sections: Sections, streams: Streams) -> None:
        self._streams = streams
        self._lists: Variables = {} if "lists" in sections.unread else {"lists": shapes.lists_shape(sections.lists)}
        self._known: dict[tuple[int, bool], Variables] = {}
        self._labels: dict[str, set[str] | None] = {name: set(fact.labels) for name, fact in LEDGER.items()}
        self._made: set[str] = set()
        for entry in sections["analyzers"]:
            record = streams.record(text_of(entry.node, "on"))
            self._note_labels(text_of(entry.node, "fact", "prediction"), _labels(entry, record))
        self._all_labels = "analyzers" not in sections.unread

    def _note_labels(self, fact: str, labels: set[str] | None) -> None:
        self._made.add(fact)
        known = self._labels.get(fact, set())
        self._labels[fact] = None if known is None or labels is None else known | labels

    def variables(self, section: str, entry: Entry, path: str) -> Variables:
        """Return what is known of the variables of an expression at a path within an entry."""
        verify = section == "workflows" and path.startswith(child(entry.path, "verify"))
        place = (id(entry), verify)  # all expressions of a place have the same, and an entry may have many
        if place not in self._known:
            self._known[place] = {**self._variables(section, entry, verify=verify), **self._lists}
        return self._known[place]

    def _variables(self, section: str, entry: Entry, *, verify: bool) -> Variables:
        match section:
            case "analyzers":
                return {**shapes.ANALYZER, **self._record(text_of(entry.node, "on"), entry.node)}
            case "rules":
                given = {alias: self._fact(names_under(other, "open")) for alias, other in _given(entry.node)}
                return {**shapes.RULE, "cause": self._fact(names_under(entry.node, "on")), **given}
        return self._verify(entry) if verify else self._workflow(entry)

    def _record(self, on: str, node: Any = None) -> Variables:
        record = self._streams.record(on)
        if record is None:
            return {}
        extract = node.get("extract") if isinstance(node, MapNode) else None
        return {"record": shapes.with_fields(record, _GROUP.findall(text_of(extract, "pattern")))}

    def _verify(self, entry: Entry) -> Variables:
        verify = entry.node.get("verify") if isinstance(entry.node, MapNode) else None
        travelled = {name: shapes.travelled(shape) for name, shape in _inputs(entry).items()}
        return {**shapes.VERIFY, **travelled, **self._record(text_of(verify, "on"))}

    def _workflow(self, entry: Entry) -> Variables:
        tasks = {} if entry.rough is None else {"tasks": shapes.tasks_shape(name for name, _ in _tasks(entry))}
        return {**shapes.WORKFLOW, **_inputs(entry), **tasks}

    def _fact(self, names: Collection[str]) -> Shape:
        """A fact has the labels that its analyzers give it: any of them, where it may be of several names.

        The value of one that the ledger makes is a number.
        """
        labels: set[str] = set()
        for name in names:
            known = self._labels.get(name)
            if known is None or not self._all_labels:
                return shapes.CAUSE
            labels |= known
        fields = dict(shapes.CAUSE.fields or {})
        fields["labels"] = object_of(dict.fromkeys(sorted(labels), STRING))
        if names and set(names) <= LEDGER.keys() - self._made:
            fields["value"] = NUMBER
        return replace(shapes.CAUSE, fields=fields)

    def result(self, section: str, entry: Entry, placed: Placed) -> Shape:
        """Return what an expression yields."""
        return result_type(placed.expression, self.variables(section, entry, placed.path))


def _given(node: Any) -> Iterator[tuple[str, Any]]:
    given = node.get("given") if isinstance(node, MapNode) else None
    return ((name, entry.value) for name, entry in given.entries.items()) if isinstance(given, MapNode) else iter(())


def names_under(node: Any, key: str) -> list[str]:
    """Return the text, or the texts of the list, under a key."""
    value = node.get(key) if isinstance(node, MapNode) else None
    items = value.items if isinstance(value, ListNode) else [value]
    return [item.text for item in items if isinstance(item, Scalar)]


def _inputs(entry: Entry) -> Variables:
    return {} if entry.rough is None else {"inputs": shapes.inputs_shape(entry.rough.types)}


def _labels(entry: Entry, record: Shape | None) -> set[str] | None:
    """Return the labels of an analyzer's facts; None where they cannot be told, or are misspelt."""
    by = entry.node.get("by") if isinstance(entry.node, MapNode) else None
    if entry.settings is None and not isinstance(by, MapNode | ListNode):
        return None
    names = set(by.entries) if isinstance(by, MapNode) else set(names_under(entry.node, "by"))
    if isinstance(by, ListNode) and record is not None and not names <= set(record.fields or ()):
        return None
    return names | set(names_under(entry.node, "of"))


def scope_faults(sections: Sections, streams: Streams, scopes: Scopes) -> Iterator[Fault]:
    """Find streams that nothing emits, and expressions that can never be right."""
    for entry in sections["analyzers"]:
        yield from _stream_faults(entry, child(entry.path, "on"), text_of(entry.node, "on"), streams)
    for entry in sections["workflows"]:
        yield from _verify_faults(entry, streams)
        yield from _too_early(entry)
    for section in ("analyzers", "rules", "workflows"):
        for entry in sections[section]:
            for placed in entry.expressions:
                yield from _type_faults(placed, scopes.variables(section, entry, placed.path))


def _type_faults(placed: Placed, variables: Variables) -> Iterator[Fault]:
    bare = placed.offset == 0
    check = check_condition if bare and _CONDITION.search(placed.path) else check_types
    for fault in check(placed.expression, variables):
        yield placed.fault(fault.column, fault.reason)


def _stream_faults(entry: Entry, path: str, on: str, streams: Streams) -> Iterator[Fault]:
    if not on:
        return
    if (what := streams.unknown(on)) is not None:
        yield entry.context.fault(path, what)
    elif (what := streams.unused(on)) is not None:
        yield entry.context.fault(path, what, "warning")


def _verify_faults(entry: Entry, streams: Streams) -> Iterator[Fault]:
    path = child(entry.path, "verify")
    verify = entry.node.get("verify") if isinstance(entry.node, MapNode) else None
    on = text_of(verify, "on")
    yield from _stream_faults(entry, child(path, "on"), on, streams)
    record = streams.record(on)
    fields = record.fields if record else None
    if fields is None or "labels" in fields:
        return
    for number, name in enumerate(names_under(verify, "same")):
        if name not in fields:
            what = f"the records of {on!r} have no field {name!r}{suggestion(name, fields)}"
            yield entry.context.fault(child(child(path, "same"), number), what)


# Tasks that have not run


def _tasks(entry: Entry) -> Iterable[tuple[str, str]]:
    """Return the tasks' names with their places, in the order of the file."""
    return [(spec.name, place) for place, spec in entry.rough.placed(entry.path)]


def _too_early(entry: Entry) -> Iterator[Fault]:
    """Find where a task reads of one that comes later, or that is started at the same time."""
    if entry.rough is None:
        return
    tasks = dict(_tasks(entry))
    for placed in entry.expressions:
        for name, node in _tasks_read(placed):
            if name in tasks and not _has_run(tasks[name], placed.path, entry.path, own=_own(tasks, placed.path)):
                yield placed.fault(node.column, f"task {name!r} has not run by then: a task sees those before it")


def _tasks_read(placed: Placed) -> Iterator[tuple[str, Node]]:
    if "tasks" not in placed.expression.variables:
        return
    for node, _ in walk(placed.expression.tree):
        match node:
            case (
                Select(operand=Name(name="tasks"), field=name)
                | Presence(operand=Name(name="tasks"), field=name)
                | Index(operand=Name(name="tasks"), key=Literal(value=str(name)))
            ):
                yield name, node


def _own(tasks: Mapping[str, str], path: str) -> str:
    """Return the place of the task that a path is in; empty for none."""
    return next((place for place in tasks.values() if path.startswith(f"{place}.")), "")


def _has_run(other: str, path: str, workflow: str, *, own: str) -> bool:
    if not own:
        return True
    if other == own:
        return path.removeprefix(f"{own}.").partition(".")[0] not in _BEFORE_IT_RUNS
    failed = child(workflow, "on_failure")
    if own.startswith(failed) != other.startswith(failed):
        return own.startswith(failed)
    return _step(other) < _step(own)


def _step(place: str) -> int:
    """Return which step of its part a task belongs to."""
    return int(re.sub(r"\.parallel\[\d+\]$", "", place).rpartition("[")[2].rstrip("]"))
