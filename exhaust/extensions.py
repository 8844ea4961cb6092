"""Plug-ins of third parties: found by their entry points, and set aside where they cannot be used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from exhaust.plugins import Action, Adapter, Analyzer, Emitter

KINDS: Mapping[str, type[Any]] = {"emitters": Emitter, "analyzers": Analyzer, "adapters": Adapter, "actions": Action}


@dataclass(frozen=True)
class Extensions:
    """What was found of one kind: `plugins` and their distributions by name; `broken` says why others are not here."""

    plugins: Mapping[str, Any]
    origins: Mapping[str, str]
    broken: Mapping[str, str]


def extensions(kind: str, builtin: Iterable[str], found: Iterable[EntryPoint] | None = None) -> Extensions:
    """Load the entry points of `exhaust.<kind>`. One that fails costs nobody else anything.

    An entry point's name is its plug-in's, and no built-in's.
    """
    plugins: dict[str, Any] = {}
    origins: dict[str, str] = {}
    broken: dict[str, str] = {}
    points = entry_points(group=f"exhaust.{kind}") if found is None else found
    for point in sorted(points, key=lambda point: (point.name, point.value)):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        taken = {*builtin, *plugins}
        plugin = _loaded(point, KINDS[kind], taken)
        if isinstance(plugin, str):
            broken[point.name] = f"{plugin} ({origin})"
        else:
            plugins[point.name], origins[point.name] = plugin, origin
    return Extensions(plugins, origins, broken)


def _loaded(point: EntryPoint, wanted: type[Any], taken: set[str]) -> Any:
    """Return the plug-in, or in words why it cannot be used."""
    if point.name in taken:
        return f"the name '{point.name}' is taken"
    try:
        plugin = point.load()
    except Exception as exc:  # noqa: BLE001  whatever a stranger's module raises when imported
        return f"{point.value} cannot be loaded: {type(exc).__name__}: {exc}"
    if not isinstance(plugin, wanted):
        return f"{point.value} is no {wanted.__name__}, but of type {type(plugin).__name__}"
    if plugin.name != point.name:
        return f"{point.value} calls itself '{plugin.name}'"
    return plugin
