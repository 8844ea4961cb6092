"""`exhaust test`: unit tests of rules and workflows, in virtual time and without touching anything."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import msgspec

from exhaust.commands.command import Command, Root
from exhaust.documents.nodes import Fault, child
from exhaust.errors import UsageError
from exhaust.rehearsal.rehearsal import Rehearsal
from exhaust.rehearsal.script import Prepared, prepare
from exhaust.rehearsal.stage import Stage


@dataclass(frozen=True)
class Outcome:
    """How one test went; a file that cannot be used stands as one test without a name."""

    file: str
    name: str | None
    faults: Sequence[Fault]

    def line(self) -> str:
        """Return it as one line of JSON."""
        faults = [
            {"file": fault.file, "line": fault.line, "column": fault.column, "what": _what(fault)}
            for fault in self.faults
        ]
        told = {"file": self.file, "name": self.name, "ok": not self.faults, "faults": faults}
        return msgspec.json.encode(told).decode()


def _what(fault: Fault) -> str:
    return str(fault).removeprefix(f"{fault.file}:{fault.line}:{fault.column}: ")


def outcomes(file: str, root: Root) -> Iterator[Outcome]:
    """Play the tests of a file, each from the start."""
    prepared, faults = prepare(file, root.catalogue)
    if prepared is None:
        yield Outcome(file, None, faults)
        return
    for number, case in enumerate(prepared.script.tests):
        yield Outcome(file, case.name, _play(prepared, number, root))


def _play(prepared: Prepared, number: int, root: Root) -> list[Fault]:
    case, configuration = prepared.script.tests[number], prepared.configuration
    rehearsal = Rehearsal(root.deciders(configuration), case.at, agents=case.agents, adapters=case.adapters)
    return Stage(case, child("tests", number), prepared.context, rehearsal, configuration.host).play()


def run_tests(files: Sequence[str], root: Root, *, as_json: bool, out: TextIO | None = None) -> int:
    """Play all tests and tell of those that failed; 1 where one did. Raises UsageError for what is no file."""
    stream = out or sys.stdout
    for file in files:
        if not Path(file).is_file():
            raise UsageError(f"{file}: there is no such file; name files of tests")
    passed = failed = 0
    for file in files:
        for outcome in outcomes(file, root):
            passed, failed = passed + (not outcome.faults), failed + bool(outcome.faults)
            lines = [outcome.line()] if as_json else map(str, outcome.faults)
            stream.writelines(f"{line}\n" for line in lines)
    if not as_json:
        stream.write(f"{passed} passed, {failed} failed\n")
    return 1 if failed else 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file of tests")
    parser.add_argument("--json", action="store_true", help="one JSON object per test")


def _test(options: argparse.Namespace, root: Root) -> int:
    return run_tests(options.files, root, as_json=options.json)


COMMANDS = (
    Command(
        "test",
        "test rules and workflows in virtual time",
        "exhaust test examples/tests/quickstart.yaml",
        _test,
        _arguments,
    ),
)
