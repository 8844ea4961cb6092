"""What can be configured in this installation: the plug-ins, and the types of the other sections."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from exhaust.documents.nodes import Fault, Scalar
from exhaust.plugins import Action, Adapter, Analyzer, Emitter, Settings
from exhaust.settings import Context, Invalid, wrong

_LISTEN = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\]):([0-9]{1,5})")


class ListenForm:
    """Binds where to listen: until there is TLS, on this host alone."""

    expected = "an address of this very host, such as 127.0.0.1:8640"
    takes = (Scalar,)
    schema: ClassVar = {"type": "string", "pattern": f"^{_LISTEN.pattern}$", "description": "such as 127.0.0.1:8640"}

    def bind(self, node: Scalar, path: str, faults: list[Fault], _context: Context) -> str | Invalid:
        found = _LISTEN.fullmatch(node.text)
        return node.text if found and int(found[1]) < 1 << 16 else wrong(node, self.expected, path, faults)


class Http(Settings, frozen=True, kw_only=True):
    """Where the collector answers."""

    planned: ClassVar[frozenset[str]] = frozenset({"tls"})

    listen: Annotated[str, ListenForm()] = "127.0.0.1:8640"

    @property
    def address(self) -> tuple[str, int]:
        """Host, as an IP address, and port of `listen`."""
        host, _, port = self.listen.rpartition(":")
        return "127.0.0.1" if host == "localhost" else host.strip("[]"), int(port)


@dataclass(frozen=True)
class Catalogue:
    """The tables of plug-ins and the types of the other sections, from the composition root.

    `origins` are the distributions of third parties' plug-ins by `<kind>/<name>`, such as `emitters/folder`; `broken`
    says why others cannot be used.
    """

    emitters: Mapping[str, Emitter[Any]]
    analyzers: Mapping[str, Analyzer[Any]]
    adapters: Mapping[str, Adapter[Any]]
    actions: Mapping[str, Action[Any]]
    rule: type[Any]
    workflow: type[Any]
    policy: Callable[[Path], Sequence[Fault]]
    origins: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def implied(self) -> dict[str, Adapter[Any]]:
        """The adapters that need no settings: tasks can use them without an entry under `adapters`."""
        return {
            name: plugin
            for name, plugin in self.adapters.items()
            if not any(field.required for field in msgspec.structs.fields(plugin.settings))
        }
