"""The command line as a whole: the table of commands, its parser, and the exit codes."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Coroutine, Sequence
from importlib.metadata import version
from typing import Any, cast

from exhaust import logs
from exhaust.commands import (
    authoring,
    beginning,
    catalogue,
    evaluating,
    letters,
    operating,
    reading,
    refusing,
    serving,
    testing,
    trying,
)
from exhaust.commands.command import Command, Root
from exhaust.errors import ConfigurationError, ExhaustError, UnreachableError, UsageError

COMMANDS: tuple[Command, ...] = (
    *serving.COMMANDS,
    *beginning.COMMANDS,
    *authoring.COMMANDS,
    *catalogue.COMMANDS,
    *evaluating.COMMANDS,
    *testing.COMMANDS,
    *trying.COMMANDS,
    *reading.COMMANDS,
    *refusing.COMMANDS,
    *letters.COMMANDS,
    *operating.COMMANDS,
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; each command's help ends with an example."""
    top = argparse.ArgumentParser(prog="exhaust", description="An autonomous control loop over Linux hosts.")
    top.add_argument("--version", action="version", version=f"exhaust {version('exhaust-loop')}")
    table = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        lines = "".join(f"\n  {line}" for line in command.example.splitlines())
        one = table.add_parser(
            command.name,
            help=command.text,
            description=command.text,
            epilog=f"example:{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(one)
        one.set_defaults(run=command.run)
    return top


def main(argv: Sequence[str], root: Root) -> None:
    """Parse, run, and leave with the exit code: 0 done, 1 not well, 2 wrong usage, 3 not reached."""
    options = parser().parse_args(argv)
    logs.configure()
    try:
        code = _run(options, root)
        sys.stdout.flush()
    except UnreachableError as exc:
        code = _complain(exc, 3)
    except ConfigurationError as exc:
        code = _complain(exc, 1)
    except UsageError as exc:
        code = _complain(exc, 2)
    except ExhaustError as exc:
        code = _complain(exc, 1)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # whoever read us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as exc:  # ours are told by what raises them: this one is of what we write to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _complain(OSError(f"standard output cannot be written: {exc.strerror}"), 1)
    sys.exit(code)


def _run(options: argparse.Namespace, root: Root) -> int:
    done: int | Awaitable[int] = options.run(options, root)
    return done if isinstance(done, int) else asyncio.run(cast("Coroutine[Any, Any, int]", done))


def _complain(exc: Exception, code: int) -> int:
    print(exc, file=sys.stderr)  # noqa: T201  the command line's own voice
    return code
