"""The operator's files made one typed configuration, or every fault that is in them."""

import difflib
import itertools
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from exhaust.binding import bind
from exhaust.document import read_tree
from exhaust.errors import ConfigurationError
from exhaust.language import Defined
from exhaust.nodes import Fault, Node, Scalar, Sequence, child
from exhaust.nodes import Mapping as MapNode
from exhaust.plugins import Action, Adapter, Analyzer, Emitter, Inferring, Settings
from exhaust.settings import INVALID, Context

PLANNED = frozenset({"policy", "calendars", "secrets", "people"})
DEFAULT_STATE = "/var/lib/exhaust"


class Http(Settings, frozen=True, kw_only=True):
    """Where the collector answers."""

    planned: ClassVar[frozenset[str]] = frozenset({"tls"})

    listen: Annotated[str, msgspec.Meta(pattern=r"^(127\.0\.0\.1|localhost|\[::1\]):\d{1,5}$")] = "127.0.0.1:8640"


class BrokerUrl(Settings, frozen=True, kw_only=True):
    """A broker with its password in a file of its own."""

    planned: ClassVar[frozenset[str]] = frozenset({"topology"})

    url: str
    password_file: str | None = None


@dataclass(frozen=True)
class Catalogue:
    """What can be configured: the tables of plug-ins and the types of the other sections, from the composition root."""

    emitters: Mapping[str, Emitter[Any]]
    analyzers: Mapping[str, Analyzer[Any]]
    adapters: Mapping[str, Adapter[Any]]
    actions: Mapping[str, Action[Any]]
    rule: type[Any]
    workflow: type[Any]


@dataclass(frozen=True)
class Configuration:
    """What all components of one installation run by."""

    host: str
    state: Path
    broker: str = field(repr=False)  # may hold a password
    http: Http = Http()
    host_policy: Path | None = None
    inventory: Inventory = Inventory({})
    lists: Mapping[str, list[Any]] = field(default_factory=dict)
    emitters: tuple[tuple[Emitter[Any], Settings], ...] = ()
    analyzers: tuple[tuple[Analyzer[Any], Defined[Inferring]], ...] = ()
    rules: tuple[Defined[Any], ...] = ()
    workflows: tuple[Defined[Any], ...] = ()
    adapters: Mapping[str, tuple[Adapter[Any], Settings]] = field(default_factory=dict)

    @property
    def embedded(self) -> bool:
        return self.broker == "embedded"


def load(path: Path | str, catalogue: Catalogue) -> Configuration:
    """Read a file or a directory. Raises ConfigurationError with every fault, in the order of the files."""
    configuration, faults = check(path, catalogue)
    errors = [fault for fault in faults if fault.severity == "error"]
    if configuration is None or errors:
        raise ConfigurationError(errors)
    return configuration


def check(path: Path | str, catalogue: Catalogue) -> tuple[Configuration | None, list[Fault]]:
    """Read a file or a directory; return what it says, if that is sound, and all that is wrong or doubtful."""
    documents, faults = read_tree(path)
    reader = _Reader(catalogue, faults)
    for document in documents:
        reader.read(document)
    configuration = reader.finish(Path(path))
    return configuration, sorted(set(faults))


@dataclass
class _Section:
    """Entries of one list with where they stand, for checks across sections."""

    entries: list[tuple[Any, str, Context]] = field(default_factory=list)

    def values(self) -> list[Any]:
        return [value for value, _, _ in self.entries]


class _Reader:
    """Takes documents one by one, then puts them together."""

    def __init__(self, catalogue: Catalogue, faults: list[Fault]) -> None:
        self._catalogue = catalogue
        self._faults = faults
        self._single: dict[str, tuple[Any, Context]] = {}
        self._lists: dict[str, list[Any]] = {}
        self._sections = {
            name: _Section() for name in ("hosts", "emitters", "analyzers", "rules", "workflows", "adapters")
        }
        self._singles = {
            "host": str,
            "state": str,
            "broker": str | BrokerUrl,
            "http": Http,
            "host_policy": str,
        }

    def read(self, document: MapNode) -> None:
        context = Context()
        for key, (name, node) in document.entries.items():
            if key in self._sections:
                self._list(key, node, context)
            elif key in self._singles:
                self._one(key, name, node, context)
            elif key == "lists":
                lists = bind(node, dict[str, list[Any]], key, self._faults, context)
                self._lists.update(lists if lists is not INVALID else {})
            else:
                self._faults.append(name.at.fault(self._unknown(key)))

    def _unknown(self, key: str) -> str:
        if key in PLANNED:
            return f"{key!r} is not built yet"
        known = [*self._singles, *self._sections, "lists"]
        near = difflib.get_close_matches(key, known, 1)
        return f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}")

    def _one(self, key: str, name: Scalar, node: Node, context: Context) -> None:
        if key in self._single:
            self._faults.append(name.at.fault(f"{key!r} is given a second time"))
        value = bind(node, self._singles[key], key, self._faults, context)
        self._single[key] = (value, context)

    def _list(self, key: str, node: Node, context: Context) -> None:
        if not isinstance(node, Sequence):
            self._faults.append(node.at.fault("expected a list of entries", key))
            return
        for number, item in enumerate(node.items):
            path = child(key, number)
            context.where[path] = item.at
            value = self._entry(key, item, path, context)
            if value is not INVALID and value is not None:
                self._sections[key].entries.append((value, path, context))

    def _entry(self, key: str, node: Node, path: str, context: Context) -> Any:
        match key:
            case "hosts":
                return bind(node, Host, path, self._faults, context)
            case "emitters":
                return self._plugin(node, self._catalogue.emitters, path, context)
            case "analyzers":
                return self._analyzer(node, path, context)
            case "adapters":
                return self._adapter(node, path, context)
            case "rules":
                return self._defined(node, self._catalogue.rule, path, context)
        return self._defined(node, self._catalogue.workflow, path, context)

    def _defined(self, node: Node, type_: Any, path: str, context: Context) -> Any:
        value = bind(node, type_, path, self._faults, context)
        return INVALID if value is INVALID else Defined(value, _plain(node))

    def _kind(self, node: Node, table: Mapping[str, Any], path: str, context: Context) -> Any:
        """Return the plug-in that an entry's `use` names, or None with a fault."""
        use = node.get("use") if isinstance(node, MapNode) else None
        if use is None:
            self._faults.append(node.at.fault(f"'use' is needed: one of {', '.join(sorted(table))}", path))
            return None
        name = bind(use, str, child(path, "use"), self._faults, context)
        if name is INVALID or name in table:
            return None if name is INVALID else table[name]
        near = difflib.get_close_matches(name, table, 1)
        hint = f", did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(table))}"
        self._faults.append(use.at.fault(f"nothing is called {name!r} here{hint}", child(path, "use")))
        return None

    def _plugin(self, node: Node, table: Mapping[str, Any], path: str, context: Context) -> Any:
        plugin = self._kind(node, table, path, context)
        if plugin is None or not isinstance(node, MapNode):
            return None
        settings = bind(_without(node, "use", "name"), plugin.settings, path, self._faults, context)
        return None if settings is INVALID else (plugin, settings)

    def _analyzer(self, node: Node, path: str, context: Context) -> Any:
        plugin = self._kind(node, self._catalogue.analyzers, path, context)
        if plugin is None:
            return None
        defined = self._defined(node, plugin.settings, path, context)
        return None if defined is INVALID else (plugin, defined)

    def _adapter(self, node: Node, path: str, context: Context) -> Any:
        made = self._plugin(node, self._catalogue.adapters, path, context)
        name = node.get("name") if isinstance(node, MapNode) else None
        label = (
            bind(name, str, child(path, "name"), self._faults, context)
            if name
            else getattr(made and made[0], "name", "")
        )
        return None if made is None or label is INVALID else (label, *made)

    # Putting together

    def finish(self, path: Path) -> Configuration | None:
        state = Path(self._value("state", DEFAULT_STATE))
        if not state.is_absolute():
            state = (path if path.is_dir() else path.parent).absolute() / state
        host = self._value("host", socket.gethostname())
        adapters = {name: (plugin, _with_state(settings, state)) for name, plugin, settings in self._of("adapters")}
        agent = self._catalogue.adapters.get("agent")
        if agent is not None:
            adapters.setdefault("agent", (agent, agent.settings()))
        self._refer(set(adapters))
        if any(fault.severity == "error" for fault in self._faults):
            return None
        policy = self._value("host_policy", None)
        return Configuration(
            host=host,
            state=state,
            broker=self._broker(),
            http=self._value("http", Http()),
            host_policy=None if policy is None else Path(path.parent if path.is_file() else path).absolute() / policy,
            inventory=self._inventory(host),
            lists=self._lists,
            emitters=tuple((plugin, _with_state(settings, state)) for plugin, settings in self._of("emitters")),
            analyzers=tuple(self._of("analyzers")),
            rules=tuple(self._of("rules")),
            workflows=tuple(self._of("workflows")),
            adapters=adapters,
        )

    def _of(self, section: str) -> list[Any]:
        return self._sections[section].values()

    def _value(self, key: str, default: Any) -> Any:
        value = self._single.get(key, (default, None))[0]
        return default if value is INVALID else value

    def _broker(self) -> str:
        given = self._value("broker", "embedded")
        if isinstance(given, str):
            return given
        if given.password_file is None:
            return str(given.url)
        try:
            password = Path(given.password_file).read_text().strip()
        except OSError as exc:
            raise ConfigurationError(
                [f"{given.password_file}: the broker's password cannot be read: {exc.strerror}"]
            ) from exc
        return str(re.sub(r"//([^:@/]+)(:[^@]*)?@", lambda found: f"//{found[1]}:{password}@", given.url))

    def _inventory(self, own: str) -> Inventory:
        """Without `hosts` this host alone is known: its agent shares our keys."""
        if not self._of("hosts"):
            return Inventory({own: {}})
        named = ((name, host.labels) for host in self._of("hosts") for name in expand(host.name))
        return Inventory(dict(itertools.islice(named, _MOST_HOSTS)))

    # Checks across sections

    def _refer(self, adapters: set[str]) -> None:
        """Find what is named somewhere and defined nowhere."""
        for section in ("rules", "workflows"):
            self._unique(section)
        workflows = {defined.value.name: defined.value for defined in self._of("workflows")}
        facts = {defined.value.fact for _, defined in self._of("analyzers")}
        for defined, path, context in self._sections["rules"].entries:
            self._faults.extend(_rule_faults(defined.value, path, context, workflows, facts, adapters))
        for defined, path, context in self._sections["workflows"].entries:
            self._faults.extend(
                _workflow_faults(defined.value, path, context, adapters, self._actions(), self._kinds())
            )

    def _kinds(self) -> dict[str, Adapter[Any]]:
        kinds = {name: plugin for name, plugin, _ in self._of("adapters")}
        return {"agent": self._catalogue.adapters["agent"], **kinds} if "agent" in self._catalogue.adapters else kinds

    def _actions(self) -> dict[str, Any]:
        return {name: action.params for name, action in self._catalogue.actions.items()}

    def _unique(self, section: str) -> None:
        seen: set[str] = set()
        for defined, path, context in self._sections[section].entries:
            if defined.value.name in seen:
                self._faults.append(context.fault(child(path, "name"), f"{defined.value.name!r} is defined twice"))
            seen.add(defined.value.name)


def _with_state(settings: Settings, state: Path) -> Settings:
    """Fill in where this installation keeps its state, for a plug-in that asks for it and was not told."""
    if getattr(settings, "state", None) == "":
        return msgspec.structs.replace(settings, state=str(state))
    return settings


def _without(node: MapNode, *keys: str) -> MapNode:
    return MapNode({key: entry for key, entry in node.entries.items() if key not in keys}, node.at)


def _plain(node: Node) -> Any:
    """Return what a node says as plain data."""
    match node:
        case Scalar():
            return node.value if node.quoted or not isinstance(node.value, str) else node.text
        case Sequence():
            return [_plain(item) for item in node.items]
        case MapNode():
            return {key: _plain(entry.value) for key, entry in node.entries.items()}
    return None
