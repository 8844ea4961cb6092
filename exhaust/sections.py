"""The documents of a configuration read into its sections: each entry bound by itself, with where it stands."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from exhaust.broker.url import BrokerForm, BrokerUrl
from exhaust.calendars import Calendar
from exhaust.catalogue import Catalogue, Http
from exhaust.documents.binding import bind
from exhaust.documents.draft import Draft, Placed
from exhaust.documents.nodes import Broken, Fault, Node, Scalar, Severity, child, plain, without
from exhaust.documents.nodes import Mapping as MapNode
from exhaust.documents.nodes import Sequence as ListNode
from exhaust.expressions.errors import suggestion
from exhaust.inventory import HOST_NAME, Host
from exhaust.language import Defined, is_alias
from exhaust.people import Person
from exhaust.settings import INVALID

PLANNED = frozenset({"policy", "secrets"})
LISTS = ("hosts", "emitters", "analyzers", "rules", "workflows", "calendars", "adapters", "people")
SINGLES: Mapping[str, Any] = {
    "host": Annotated[str, msgspec.Meta(pattern=HOST_NAME)],
    "state": str,
    "broker": Annotated[str, BrokerForm()] | BrokerUrl,
    "http": Http,
    "host_policy": str,
}


@dataclass(frozen=True)
class Entry:
    """One entry of a list, which is called `name`.

    `settings` are None where it has faults; `rough` are then what could be bound of it, None where that is too little.
    `plugin` is what its `use` names, if that is to be said and is known.
    """

    name: str
    settings: Any
    rough: Any
    plugin: Any
    node: Node
    path: str
    context: Draft
    expressions: tuple[Placed, ...]

    @property
    def defined(self) -> Defined[Any]:
        return Defined(self.settings, plain(self.node))

    def fault(self, key: str, what: str, severity: Severity = "error") -> Fault:
        return self.context.fault(child(self.path, key), what, severity)


class Sections:
    """Takes documents one by one, and adds to `faults` what is wrong with each entry by itself."""

    def __init__(self, catalogue: Catalogue, faults: list[Fault]) -> None:
        self._faults = faults
        self._plugins: Mapping[str, Mapping[str, Any]] = {
            "emitters": catalogue.emitters,
            "analyzers": catalogue.analyzers,
            "adapters": catalogue.adapters,
        }
        self._broken = catalogue.broken
        self._types: dict[str, Any] = {"hosts": Host, "people": Person, "calendars": Calendar}
        self._types |= {"rules": catalogue.rule, "workflows": catalogue.workflow}
        self._single: dict[str, Any] = {}
        self._entries: dict[str, list[Entry]] = {name: [] for name in LISTS}
        self.lists: dict[str, list[Any]] = {}
        self.unread: set[str] = set()  # what is there of these sections is not known as a whole

    def __getitem__(self, section: str) -> list[Entry]:
        """Return the entries of a list, those with faults too."""
        return self._entries[section]

    def sound(self, section: str) -> Iterator[Entry]:
        return (entry for entry in self._entries[section] if entry.settings is not None)

    def value(self, key: str, default: Any) -> Any:
        """Return what is said under one of the keys that hold no list."""
        found = self._single.get(key, default)
        return default if found is INVALID else found

    def read(self, document: MapNode) -> None:
        context = Draft()
        for key, (name, node) in document.entries.items():
            if key in self._entries:
                self._list(key, node, context)
            elif key in SINGLES:
                if key in self._single:
                    self._faults.append(name.at.fault(f"{key!r} is given a second time"))
                self._single[key] = bind(node, SINGLES[key], key, self._faults, context)
            elif key == "lists":
                self._named_lists(node, context)
            else:
                self._stranger(name)

    def _stranger(self, name: Scalar) -> None:
        known, key = [*SINGLES, *LISTS, "lists"], name.text
        what = f"unknown key {key!r}" + (suggestion(key, known) or f"; known are {', '.join(known)}")
        self._faults.append(name.at.fault(f"{key!r} is not built yet" if key in PLANNED else what))
        self.unread.update(difflib.get_close_matches(key, known, 1))

    def _named_lists(self, node: Node, context: Draft) -> None:
        lists = bind(node, dict[str, list[Any]], "lists", self._faults, context)
        if lists is INVALID:
            self.unread.add("lists")
        for name, items in {} if lists is INVALID else lists.items():
            if name in self.lists:
                self._faults.append(context.fault(child("lists", name), f"list {name!r} is given a second time"))
            self.lists[name] = items

    def _list(self, section: str, node: Node, context: Draft) -> None:
        if not isinstance(node, ListNode):
            self.unread.add(section)
            if not isinstance(node, Broken):
                self._faults.append(node.at.fault("expected a list of entries", section))
            return
        context.where[section] = node.at
        for number, item in enumerate(node.items):
            if isinstance(item, Broken):
                self.unread.add(section)
            self._entries[section].append(self._entry(section, item, child(section, number), context))

    def _entry(self, section: str, node: Node, path: str, context: Draft) -> Entry:
        context.where[path] = node.at
        before = len(context.expressions)
        plugin, type_ = None, self._types.get(section)
        if type_ is None:
            plugin = self._plugin(node, section, path, context)
            type_ = plugin and plugin.settings
        settings = INVALID if type_ is None else self._bound(section, node, type_, path, context)
        return Entry(
            _name(section, node),
            None if settings is INVALID else settings,
            context.rough.get(path) if settings is INVALID else settings,
            plugin,
            node,
            path,
            context,
            tuple(context.expressions[before:]),
        )

    def _bound(self, section: str, node: Node, type_: Any, path: str, context: Draft) -> Any:
        if section not in ("emitters", "adapters") or not isinstance(node, MapNode):
            context.names = _aliases(node) if section == "rules" else ()
            return bind(node, type_, path, self._faults, context)
        # Here `use` and `name` are not the plug-in's own keys.
        settings = bind(without(node, "use", "name"), type_, path, self._faults, context)
        name = node.get("name")
        named = None if name is None else bind(name, str, child(path, "name"), self._faults, context)
        return INVALID if named is INVALID else settings

    def _plugin(self, node: Node, section: str, path: str, context: Draft) -> Any:
        """Return what an entry's `use` names, or None with a fault."""
        if isinstance(node, Broken):
            return None
        table = self._plugins[section]
        use = node.get("use") if isinstance(node, MapNode) else None
        if use is None:
            self._faults.append(node.at.fault(f"'use' is needed: one of {', '.join(sorted(table))}", path))
            return None
        name = bind(use, str, child(path, "use"), self._faults, context)
        if name is INVALID or name in table:
            return None if name is INVALID else table[name]
        hint = suggestion(name, table) or f"; there are {', '.join(sorted(table))}"
        what = self._broken.get(f"{section}/{name}", f"nothing is called {name!r} here{hint}")
        self._faults.append(use.at.fault(what, child(path, "use")))
        return None


def text_of(node: Node | None, *keys: str) -> str:
    """Return the text under the first of the keys that there is; empty for none."""
    for key in keys:
        value = node.get(key) if isinstance(node, MapNode) else None
        if isinstance(value, Scalar) and value.text:
            return value.text
    return ""


def _aliases(node: Node) -> tuple[str, ...]:
    """Return the names that a rule gives to other facts; what could not be one is told where it is bound."""
    given = node.get("given") if isinstance(node, MapNode) else None
    return tuple(name for name in given.entries if is_alias(name)) if isinstance(given, MapNode) else ()


def _name(section: str, node: Node) -> str:
    if section == "analyzers":
        return text_of(node, "name") or f"{text_of(node, 'use')}/{text_of(node, 'fact', 'prediction')}"
    return text_of(node, "name", "use")
