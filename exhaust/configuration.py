"""The operator's files made one typed configuration, or every fault that is in them."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from exhaust.broker.url import BrokerUrl, with_password
from exhaust.calendars import Calendar
from exhaust.catalogue import Catalogue, Http
from exhaust.checks.deadlines import deadline_faults
from exhaust.checks.parameters import parameter_faults
from exhaust.checks.premises import policy_faults, premise_faults, service_faults
from exhaust.checks.references import Names, reference_faults
from exhaust.checks.scopes import Scopes, scope_faults
from exhaust.checks.streams import Streams
from exhaust.documents.binding import bind
from exhaust.documents.document import read_tree
from exhaust.documents.nodes import Fault, Scalar
from exhaust.documents.nodes import Mapping as MapNode
from exhaust.errors import ConfigurationError
from exhaust.inventory import MOST_HOSTS, Inventory, expand
from exhaust.language import Defined
from exhaust.people import Person
from exhaust.plugins import Adapter, Analyzer, Emitter, Inferring, Settings
from exhaust.sections import LISTS, Sections
from exhaust.settings import INVALID, Context

__all__ = ["Catalogue", "Configuration", "Http", "check", "load", "reach"]

DEFAULT_STATE = "/var/lib/exhaust"


@dataclass(frozen=True)
class Configuration:
    """What all components of one installation run by."""

    host: str
    state: Path
    broker: str = field(repr=False)  # may hold a password
    password_file: Path | None = None
    declares: bool = True
    http: Http = field(default_factory=Http)
    host_policy: Path | None = None
    inventory: Inventory = field(default_factory=lambda: Inventory({}))
    lists: Mapping[str, list[Any]] = field(default_factory=dict)
    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    emitters: tuple[tuple[Emitter[Any], Settings], ...] = ()
    analyzers: tuple[tuple[Analyzer[Any], Defined[Inferring]], ...] = ()
    rules: tuple[Defined[Any], ...] = ()
    workflows: tuple[Defined[Any], ...] = ()
    adapters: Mapping[str, tuple[Adapter[Any], Settings]] = field(default_factory=dict)
    people: tuple[Person, ...] = ()

    @property
    def embedded(self) -> bool:
        return self.broker == "embedded"


def load(path: Path | str, catalogue: Catalogue) -> Configuration:
    """Read a file or a directory. Raises ConfigurationError with every fault, in the order of the files."""
    reading = _Reading(Path(path), str(path), catalogue)
    errors = sorted({fault for fault in reading.faults if fault.severity == "error"})
    if errors:
        raise ConfigurationError(errors)
    configuration = reading.configuration()
    secret = configuration.password_file
    return replace(configuration, broker=with_password(configuration.broker, secret)) if secret else configuration


def reach(path: Path | str) -> tuple[Path, str]:
    """Return the state directory and `http.listen`, which is all that it takes to ask a running system.

    Faults elsewhere are no hindrance: who wants to halt it must be able to. Raises ConfigurationError where these two
    cannot be known.
    """
    documents, faults = read_tree(path)
    context = Context()
    found: dict[str, Any] = {}
    for key, type_ in (("state", str), ("http", Http)):
        for document in documents:
            node = document.get(key)
            if node is not None:
                found[key] = bind(node, type_, key, faults, context)
    if INVALID in found.values() or (faults and "state" not in found):
        raise ConfigurationError(sorted(faults))
    state = _beside(Path(path), found.get("state", DEFAULT_STATE)) or Path(DEFAULT_STATE)
    return state, found.get("http", Http()).listen


def check(path: Path | str, catalogue: Catalogue, own: str | None = None) -> tuple[Configuration | None, list[Fault]]:
    """Read a file or a directory; return what it says, if that is sound, and all that is wrong or doubtful.

    The host's policy is read too, and where the configuration is that of the host `own` (this one), it is asked what is
    there. Secrets are not opened.
    """
    reading = _Reading(Path(path), str(path), catalogue)
    sound = not any(fault.severity == "error" for fault in reading.faults)
    here = reading.host == (own or socket.gethostname())
    faults = {*reading.faults, *reading.premises(here=here)}
    return reading.configuration() if sound else None, sorted(faults)


class _Reading:
    """What the files say, section by section, and `faults`, all that is wrong with it wherever it is used."""

    def __init__(self, path: Path, shown: str, catalogue: Catalogue) -> None:
        self._path, self._shown = path, shown
        self._catalogue = catalogue
        documents, faults = read_tree(shown)
        policies = _policies(documents, path)
        self.faults = [fault for fault in faults if Path(fault.file).absolute() not in policies]
        self._sections = sections = Sections(catalogue, self.faults)
        if {fault.file for fault in self.faults} - {document.at.file for document in documents}:
            sections.unread.update(LISTS, ["lists"])  # a file that could not be read may define anything
        for document in documents:
            if Path(document.at.file).absolute() not in policies:
                sections.read(document)
        self.host: str = sections.value("host", socket.gethostname())
        self._inventory = _inventory(sections, self.host, self.faults)
        self._names = Names(sections, catalogue)
        streams = Streams(catalogue.emitters, sections)
        scopes = Scopes(sections, streams)
        self.faults += reference_faults(sections, self._names)
        self.faults += scope_faults(sections, streams, scopes)
        self.faults += parameter_faults(sections, self._names, scopes)
        self.faults += deadline_faults(sections, streams)
        self.faults += service_faults(sections)

    @property
    def _policy(self) -> Path | None:
        return _beside(self._path, self._sections.value("host_policy", None))

    def premises(self, *, here: bool) -> Iterator[Fault]:
        if self._policy is not None:
            shown = self._sections.value("host_policy", "")
            for fault in self._catalogue.policy(self._policy):
                yield msgspec.structs.replace(fault, file=_as_given(self._shown, shown))
            if self.host in self._inventory.hosts:
                yield from policy_faults(self._sections, self._names, self._policy, self.host)
        if here:
            yield from premise_faults(self._sections)

    def configuration(self) -> Configuration:
        """Put together what is sound."""
        path, sections = self._path, self._sections
        state = _beside(path, sections.value("state", DEFAULT_STATE)) or Path(DEFAULT_STATE)
        broker = sections.value("broker", "embedded")
        adapters = {entry.name: (entry.plugin, _with_state(entry.settings, state)) for entry in sections["adapters"]}
        for name, plugin in self._catalogue.implied.items():
            adapters.setdefault(name, (plugin, _with_state(plugin.settings(), state)))
        return Configuration(
            host=self.host,
            state=state,
            broker=broker.url if isinstance(broker, BrokerUrl) else broker,
            password_file=_beside(path, getattr(broker, "password_file", None)),
            declares=getattr(broker, "topology", "declare") == "declare",
            http=sections.value("http", Http()),
            host_policy=self._policy,
            inventory=self._inventory,
            lists=sections.lists,
            calendars={entry.name: entry.settings for entry in sections["calendars"]},
            emitters=tuple((entry.plugin, _with_state(entry.settings, state)) for entry in sections["emitters"]),
            analyzers=tuple((entry.plugin, entry.defined) for entry in sections["analyzers"]),
            rules=tuple(entry.defined for entry in sections["rules"]),
            workflows=tuple(entry.defined for entry in sections["workflows"]),
            adapters=adapters,
            people=tuple(_with_token(entry.settings, path) for entry in sections["people"]),
        )


def _policies(documents: Sequence[MapNode], path: Path) -> set[Path | None]:
    """Return the files that are named as `host_policy`: one that lies beside the others is not one of them."""
    named = (document.get("host_policy") for document in documents)
    return {_beside(path, node.text) for node in named if isinstance(node, Scalar)}


def _inventory(sections: Sections, own: str, faults: list[Fault]) -> Inventory:
    """Without `hosts` this host alone is known: its agent shares our keys."""
    hosts: dict[str, Mapping[str, str]] = {}
    for entry in sections.sound("hosts"):
        names = list(expand(entry.settings.name))
        if twice := next((name for name in names if name in hosts), None):
            faults.append(entry.fault("name", f"host {twice!r} is given a second time"))
        if len(hosts) + len(names) > MOST_HOSTS:
            faults.append(entry.fault("name", f"there can be {MOST_HOSTS} hosts, not more"))
            break
        hosts |= dict.fromkeys(names, entry.settings.labels)
    return Inventory(hosts or {own: {}})


def _beside(config: Path, name: str | None) -> Path | None:
    """Return a path that the configuration at `config` gives, relative to its directory."""
    return None if name is None else (config if config.is_dir() else config.parent).absolute() / name


def _as_given(shown: str, name: str) -> str:
    """Return the same path as a message names it: beginning as the configuration's own was given."""
    folder = shown.rstrip("/") if Path(shown).is_dir() else shown.rpartition("/")[0]
    return name if Path(name).is_absolute() or not folder else f"{folder}/{name}"


def _with_token(person: Person, config: Path) -> Person:
    """Fill in where the token lies, which is named relative to the configuration."""
    return msgspec.structs.replace(person, token_file=str(_beside(config, person.token_file)))


def _with_state(settings: Settings, state: Path) -> Settings:
    """Fill in where this installation keeps its state, for a plug-in that asks for it and was not told."""
    if getattr(settings, "state", None) == "":
        return msgspec.structs.replace(settings, state=str(state))
    return settings
