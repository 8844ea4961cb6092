"""The operator's files made one typed configuration, or every fault that is in them."""

import difflib
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from exhaust.binding import bind
from exhaust.broker.url import BrokerForm, BrokerUrl, with_password
from exhaust.document import read_tree
from exhaust.errors import ConfigurationError
from exhaust.inventory import MOST_HOSTS, Host, Inventory, expand
from exhaust.language import Defined
from exhaust.nodes import Broken, Fault, Node, Scalar, child, plain, without
from exhaust.nodes import Mapping as MapNode
from exhaust.nodes import Sequence as ListNode
from exhaust.plugins import Action, Adapter, Analyzer, Emitter, Inferring, Settings
from exhaust.references import rule_faults, workflow_faults
from exhaust.settings import INVALID, Context

PLANNED = frozenset({"policy", "calendars", "secrets", "people"})
DEFAULT_STATE = "/var/lib/exhaust"


class Http(Settings, frozen=True, kw_only=True):
    """Where the collector answers."""

    planned: ClassVar[frozenset[str]] = frozenset({"tls"})

    listen: Annotated[str, msgspec.Meta(pattern=r"^(127\.0\.0\.1|localhost|\[::1\]):\d{1,5}$")] = "127.0.0.1:8640"


@dataclass(frozen=True)
class Catalogue:
    """What can be configured: the tables of plug-ins and the types of the other sections, from the composition root."""

    emitters: Mapping[str, Emitter[Any]]
    analyzers: Mapping[str, Analyzer[Any]]
    adapters: Mapping[str, Adapter[Any]]
    actions: Mapping[str, Action[Any]]
    rule: type[Any]
    workflow: type[Any]
    policy: Callable[[Path], Sequence[Fault]]


@dataclass(frozen=True)
class Configuration:
    """What all components of one installation run by."""

    host: str
    state: Path
    broker: str = field(repr=False)  # may hold a password
    password_file: Path | None = None
    http: Http = field(default_factory=Http)
    host_policy: Path | None = None
    inventory: Inventory = field(default_factory=lambda: Inventory({}))
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
    secret = configuration.password_file
    return replace(configuration, broker=with_password(configuration.broker, secret)) if secret else configuration


def check(path: Path | str, catalogue: Catalogue) -> tuple[Configuration | None, list[Fault]]:
    """Read a file or a directory; return what it says, if that is sound, and all that is wrong or doubtful."""
    documents, faults = read_tree(path)
    policies = _policies(documents, Path(path))
    faults = [fault for fault in faults if Path(fault.file).absolute() not in policies]
    reader = _Reader(catalogue, faults)
    for document in documents:
        if Path(document.at.file).absolute() not in policies:
            reader.read(document)
    configuration = reader.finish(Path(path))
    return configuration, sorted(set(faults))


def _policies(documents: Sequence[MapNode], path: Path) -> set[Path | None]:
    """Return the files that are named as `host_policy`: one that lies beside the others is not one of them."""
    named = (document.get("host_policy") for document in documents)
    return {_beside(path, node.text) for node in named if isinstance(node, Scalar)}


@dataclass
class _Section:
    """Entries of one list with where they stand, for checks across sections."""

    entries: list[tuple[Any, str, Context]] = field(default_factory=list)
    unsound: set[str] = field(default_factory=set)  # what entries with faults are called, or make

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
            "broker": Annotated[str, BrokerForm()] | BrokerUrl,
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
                self._named_lists(node, context)
            else:
                self._faults.append(name.at.fault(self._unknown(key)))

    def _unknown(self, key: str) -> str:
        if key in PLANNED:
            return f"{key!r} is not built yet"
        known = [*self._singles, *self._sections, "lists"]
        near = difflib.get_close_matches(key, known, 1)
        return f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}")

    def _named_lists(self, node: Node, context: Context) -> None:
        lists = bind(node, dict[str, list[Any]], "lists", self._faults, context)
        for name, items in {} if lists is INVALID else lists.items():
            if name in self._lists:
                self._faults.append(context.fault(child("lists", name), f"list {name!r} is given a second time"))
            self._lists[name] = items

    def _one(self, key: str, name: Scalar, node: Node, context: Context) -> None:
        if key in self._single:
            self._faults.append(name.at.fault(f"{key!r} is given a second time"))
        value = bind(node, self._singles[key], key, self._faults, context)
        self._single[key] = (value, context)

    def _list(self, key: str, node: Node, context: Context) -> None:
        if isinstance(node, Broken):
            return
        if not isinstance(node, ListNode):
            self._faults.append(node.at.fault("expected a list of entries", key))
            return
        for number, item in enumerate(node.items):
            path = child(key, number)
            context.where[path] = item.at
            value = self._entry(key, item, path, context)
            if value is not INVALID and value is not None:
                self._sections[key].entries.append((value, path, context))
            else:
                self._sections[key].unsound.update(_called(item))

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
        return INVALID if value is INVALID else Defined(value, plain(node))

    def _kind(self, node: Node, table: Mapping[str, Any], path: str, context: Context) -> Any:
        """Return the plug-in that an entry's `use` names, or None with a fault."""
        if isinstance(node, Broken):
            return None
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
        settings = bind(without(node, "use", "name"), plugin.settings, path, self._faults, context)
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
        state = _beside(path, self._value("state", DEFAULT_STATE)) or Path(DEFAULT_STATE)
        host = self._value("host", socket.gethostname())
        adapters = {name: (plugin, _with_state(settings, state)) for name, plugin, settings in self._of("adapters")}
        agent = self._catalogue.adapters.get("agent")
        if agent is not None:
            adapters.setdefault("agent", (agent, agent.settings()))
        self._refer(set(adapters))
        inventory = self._inventory(host)
        if any(fault.severity == "error" for fault in self._faults):
            return None
        broker = self._value("broker", "embedded")
        return Configuration(
            host=host,
            state=state,
            broker=broker.url if isinstance(broker, BrokerUrl) else broker,
            password_file=_beside(path, getattr(broker, "password_file", None)),
            http=self._value("http", Http()),
            host_policy=_beside(path, self._value("host_policy", None)),
            inventory=inventory,
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
        hosts: dict[str, Mapping[str, str]] = {}
        for host, path, context in self._sections["hosts"].entries:
            names = list(expand(host.name))
            if twice := next((name for name in names if name in hosts), None):
                self._faults.append(context.fault(child(path, "name"), f"host {twice!r} is given a second time"))
            if len(hosts) + len(names) > MOST_HOSTS:
                self._faults.append(context.fault(child(path, "name"), f"there can be {MOST_HOSTS} hosts, not more"))
                break
            hosts |= dict.fromkeys(names, host.labels)
        return Inventory(hosts or {own: {}})

    # Checks across sections

    def _refer(self, adapters: set[str]) -> None:
        """Find what is named somewhere and defined nowhere."""
        self._unique("rules", lambda rule: rule.value.name)
        self._unique("workflows", lambda workflow: workflow.value.name)
        self._unique("adapters", lambda adapter: adapter[0])
        self._unique("analyzers", lambda analyzer: _analyzer_name(analyzer[1].value))
        workflows = {defined.value.name: defined.value for defined in self._of("workflows")}
        workflows |= dict.fromkeys(self._sections["workflows"].unsound - set(workflows))
        facts = {defined.value.fact for _, defined in self._of("analyzers")} | self._sections["analyzers"].unsound
        adapters = adapters | self._sections["adapters"].unsound
        for defined, path, context in self._sections["rules"].entries:
            self._faults.extend(rule_faults(defined.value, path, context, workflows, facts, adapters))
        for defined, path, context in self._sections["workflows"].entries:
            self._faults.extend(workflow_faults(defined.value, path, context, adapters, self._actions(), self._kinds()))

    def _kinds(self) -> dict[str, Adapter[Any]]:
        kinds = {name: plugin for name, plugin, _ in self._of("adapters")}
        return {"agent": self._catalogue.adapters["agent"], **kinds} if "agent" in self._catalogue.adapters else kinds

    def _actions(self) -> dict[str, Any]:
        return {name: action.params for name, action in self._catalogue.actions.items()}

    def _unique(self, section: str, name_of: Callable[[Any], str]) -> None:
        seen: set[str] = set()
        for entry, path, context in self._sections[section].entries:
            name = name_of(entry)
            if name in seen:
                self._faults.append(context.fault(child(path, "name"), f"{name!r} is defined twice"))
            seen.add(name)


def _analyzer_name(settings: Inferring) -> str:
    return settings.name or f"{settings.use}/{settings.fact}"


def _beside(config: Path, name: str | None) -> Path | None:
    """Return a path that the configuration at `config` gives, relative to its directory."""
    return None if name is None else (config if config.is_dir() else config.parent).absolute() / name


def _called(node: Node) -> Iterator[str]:
    """Yield what an entry that is not sound would have been known by."""
    for key in ("name", "use", "fact"):
        value = node.get(key) if isinstance(node, MapNode) else None
        if isinstance(value, Scalar):
            yield value.text


def _with_state(settings: Settings, state: Path) -> Settings:
    """Fill in where this installation keeps its state, for a plug-in that asks for it and was not told."""
    if getattr(settings, "state", None) == "":
        return msgspec.structs.replace(settings, state=str(state))
    return settings
