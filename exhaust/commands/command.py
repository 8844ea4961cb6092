"""What a command is, what all of them are handed, and the options that many share."""

import argparse
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exhaust.commands.client import Client
from exhaust.configuration import Catalogue, Configuration, reach
from exhaust.lifecycle.reloading import Reread
from exhaust.worker import Decider

DEFAULT_CONFIG = "/etc/exhaust"
Deciders = Mapping[str, Callable[[], Decider]]


@dataclass(frozen=True)
class Root:
    """What the composition root hands to the command line.

    `run` runs components until told, reading their configuration again when asked to, and returns the exit code;
    `deciders` makes those of analyzers, activator and orchestrator, as often as they are started, for a rehearsal in
    virtual time.
    """

    catalogue: Catalogue
    run: Callable[[Sequence[str], Configuration, Reread | None], Awaitable[int]]
    deciders: Callable[[Configuration], Deciders]


@dataclass(frozen=True)
class Command:
    """One command: `example` is one or more lines as they are typed; `run` returns the exit code."""

    name: str
    text: str
    example: str
    run: Callable[[argparse.Namespace, Root], int | Awaitable[int]]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None


def configured(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the configuration."""
    parser.add_argument(
        "--config",
        default=os.environ.get("EXHAUST_CONFIG", DEFAULT_CONFIG),
        metavar="PATH",
        help="a file or a directory (EXHAUST_CONFIG, else /etc/exhaust)",
    )


def reaching(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that asks a running system."""
    configured(parser)
    parser.add_argument("--token-file", metavar="FILE", help="who you are (STATE/token)")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")


def client(options: argparse.Namespace, root: Root) -> Client:
    """Return the way to the running system that the options name."""
    state, listen = reach(options.config)
    return Client(listen, Path(options.token_file) if options.token_file else state / "token")
