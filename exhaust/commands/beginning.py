"""The command that writes a first configuration: init."""

import argparse
import os
import re
import socket
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from exhaust.commands.command import Command, Root
from exhaust.errors import UsageError
from exhaust.inventory import HOST_NAME
from exhaust.processes import find

FILES = ("exhaust.yaml", "observe.yaml", "rules.yaml", "policy.yaml")
_MOST_SERVICES = 20
_PORT = 8640
_PLAIN = re.compile(r"[A-Za-z0-9/][A-Za-z0-9/._-]*")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="a directory that is new or empty")


def _init(options: argparse.Namespace, root: Root) -> int:
    folder = Path(options.directory)
    write(folder, values(folder, socket.gethostname(), Path("/run"), os.geteuid()))
    print(f"{folder}: written. Read it, change it, and then:")  # noqa: T201
    print(f"  exhaust check {folder}")  # noqa: T201
    print(f"  exhaust up --config {folder}")  # noqa: T201
    return 0


def values(folder: Path, host: str, run: Path, uid: int) -> dict[str, str]:
    """Return what the templates leave open: host, state directory, and the services that run here by their pidfiles."""
    state = "/var/lib/exhaust" if uid == 0 and folder.absolute() == Path("/etc/exhaust") else "state"
    services = "".join(f"\n      - {{name: {name}, provider: pidfile, pidfile: {path}}}" for name, path in running(run))
    host = host if re.fullmatch(HOST_NAME, host) else "localhost"
    return {"HOST": host, "STATE": state, "PORT": str(_PORT), "SERVICES": services or "[]"}


def running(run: Path) -> Iterator[tuple[str, Path]]:
    """Yield the services that run by their pidfiles under /run: name and file, of each name the first."""
    names: set[str] = set()
    for path in sorted([*run.glob("*.pid"), *run.glob("*/*.pid")]):
        name = path.stem
        if name not in names and len(names) < _MOST_SERVICES and _plain(name) and _plain(str(path)) and _runs(path):
            names.add(name)
            yield name, path


def _runs(path: Path) -> bool:
    try:
        return find(int(path.read_text())) is not None
    except (OSError, ValueError):
        return False


def _plain(text: str) -> bool:
    """Whether it can be written without quotes, whatever the file's name."""
    return _PLAIN.fullmatch(text) is not None


def write(folder: Path, values: Mapping[str, str]) -> None:
    """Write the files. Raises UsageError where something is there already, or cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(entry.name for entry in folder.iterdir())
        if there:
            raise UsageError(f"{folder}: holds {there[0]!r} already: give a directory that is new or empty")
        for name in FILES:
            text = (files("exhaust") / "start" / name).read_text()
            for key, value in values.items():
                text = text.replace(f"@{key}@", value)
            (folder / name).write_text(text)
            (folder / name).chmod(0o644)  # an agent relies on no policy that others may write
    except OSError as exc:
        raise UsageError(f"{folder}: cannot be written: {exc.strerror}") from exc


COMMANDS = (
    Command("init", "write a first configuration for this host", "exhaust init /etc/exhaust", _init, _arguments),
)
