"""The commands for who writes the configuration: check."""

import argparse

from exhaust.commands.command import Command, Root
from exhaust.configuration import check


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH")


def _check(options: argparse.Namespace, root: Root) -> int:
    configuration, faults = check(options.path, root.catalogue)
    if configuration is not None and configuration.host_policy is not None:
        faults += root.catalogue.policy(configuration.host_policy)
    for fault in faults:
        warning = "warning: " if fault.severity == "warning" else ""
        print(str(fault).replace(": ", f": {warning}", 1))  # noqa: T201
    return 1 if any(fault.severity == "error" for fault in faults) else 0


COMMANDS = (
    Command("check", "tell every fault of a configuration", "exhaust check /etc/exhaust", _check, _check_arguments),
)
