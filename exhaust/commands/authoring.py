"""The commands for who writes the configuration: check."""

import argparse
import gc
import json
import sys
from collections.abc import Mapping, Sequence

import msgspec

from exhaust.commands.command import Command, Root, configured
from exhaust.configuration import Configuration, check
from exhaust.documents.nodes import Fault


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", metavar="PATH", help="a file or a directory, instead of --config")
    configured(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object per fault")


def _check(options: argparse.Namespace, root: Root) -> int:
    path = options.path or options.config
    gc.disable()  # all that is made stays until the end: to walk it again and again would take a quarter of the time
    try:
        configuration, faults = check(path, root.catalogue)
    finally:
        gc.enable()
    for fault in faults:
        print(json.dumps(msgspec.structs.asdict(fault)) if options.json else _line(fault))  # noqa: T201
    if sys.stderr.isatty():
        print(summary(path, configuration, faults), file=sys.stderr)  # noqa: T201
    return 1 if any(fault.severity == "error" for fault in faults) else 0


def _line(fault: Fault) -> str:
    doubt = msgspec.structs.replace(fault, what=f"warning: {fault.what}")
    return str(doubt if fault.severity == "warning" else fault)


def summary(path: str, configuration: Configuration | None, faults: Sequence[Fault]) -> str:
    """Return one line for whoever sits at a terminal, where silence could mean anything."""
    errors = sum(fault.severity == "error" for fault in faults)
    found = {"fault": errors, "warning": len(faults) - errors}
    if configuration is None or errors:
        return f"{path}: {_counts(found)}"
    there = {
        "host": len(configuration.inventory.hosts),
        "emitter": len(configuration.emitters),
        "analyzer": len(configuration.analyzers),
        "rule": len(configuration.rules),
        "workflow": len(configuration.workflows),
    }
    return ", ".join(filter(None, (f"{path}: ok", _counts(found)))) + f": {_counts(there)}"


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in found.items() if count)


COMMANDS = (
    Command("check", "tell every fault of a configuration", "exhaust check /etc/exhaust", _check, _check_arguments),
)
