"""The commands that show what there is: plugins, schema."""

import argparse
import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any

from exhaust.commands.command import Command, Root
from exhaust.commands.rendering import fit, row
from exhaust.extensions import KINDS
from exhaust.schema import schema

_BUILT_IN = "built in"


def _plugins_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object per line")


def _plugins(options: argparse.Namespace, root: Root) -> int:
    for plugin in listed(root.catalogue):
        print(json.dumps(plugin) if options.json else _line(plugin))  # noqa: T201
    return 0


def listed(catalogue: Any) -> Iterator[dict[str, Any]]:
    """Yield every plug-in: its kind, name, origin and summary, and `missing`, why it does not work here.

    An emitter with a choice has `sources` too: each with what keeps it from being used here.
    """
    for kind in KINDS:
        for name, plugin in sorted(getattr(catalogue, kind).items()):
            settings = getattr(plugin, "settings", None) or plugin.params
            yield {
                "kind": kind,
                "name": name,
                "origin": catalogue.origins.get(f"{kind}/{name}", _BUILT_IN),
                "summary": inspect.cleandoc(settings.__doc__ or "").partition("\n")[0],
                "missing": plugin.missing(),
                "sources": plugin.sources() if kind == "emitters" else {},
            }
        for path, why in sorted(catalogue.broken.items()):
            if path.startswith(f"{kind}/"):
                yield {
                    "kind": kind,
                    "name": path.partition("/")[2],
                    "origin": "",
                    "summary": "",
                    "missing": why,
                    "sources": {},
                }


def _line(plugin: dict[str, Any]) -> str:
    lead = row((plugin["kind"], 10), (plugin["name"], 20), (plugin["origin"], 22))
    without = "; ".join(f"{source}: {why}" for source, why in plugin["sources"].items() if why)
    works = f"does not work here: {plugin['missing']}" if plugin["missing"] else "works here"
    return f"{lead:54}  {fit(f'{works}, without {without}' if without else works, 200)}"


def _schema(options: argparse.Namespace, root: Root) -> int:
    json.dump(schema(root.catalogue), sys.stdout, indent=2)
    print()  # noqa: T201
    return 0


COMMANDS = (
    Command(
        "plugins",
        "list what can be configured here, and what of it does not work",
        "exhaust plugins",
        _plugins,
        _plugins_arguments,
    ),
    Command(
        "schema",
        "print the JSON Schema of the configuration, for an editor",
        "exhaust schema > exhaust.schema.json",
        _schema,
    ),
)
