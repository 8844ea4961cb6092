"""An emitter, an analyzer and an action of one's own: files that pile up in a folder are moved away."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from exhaust.clock import Clock
from exhaust.plugins import (
    Action,
    ActionError,
    Analyzer,
    Emitter,
    Inferring,
    Judgement,
    Limits,
    Outcome,
    Record,
    Settings,
    Tools,
)
from exhaust.settings import Duration

# An emitter yields records; it knows neither broker nor host.


class Folders(Settings, frozen=True, kw_only=True):
    """Which folders to count the files of, and how often."""

    paths: list[str]
    every: Annotated[Duration, msgspec.Meta(ge=0.1)] = 10.0


async def emit(settings: Folders, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
    async for now in clock.every(settings.every):
        for path in settings.paths:
            files = await asyncio.to_thread(_files, Path(path))
            yield Record(now, {"path": path, "files": len(files)})


def _files(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else []


EMITTER = Emitter(
    "folder",
    Folders,
    emit,
    streams={"count": {"path": "string: the folder", "files": "int: files that lie in it"}},
)


# An analyzer judges one record after the other; whether and for how long a fact is open follows from that.


class Above(Inferring, frozen=True, kw_only=True):
    """The fact holds while `field` is above `limit`."""

    field: str
    limit: float


class Judge:
    """Says whether a record is above the limit; one without the field says nothing."""

    silence: float | None = None

    def __init__(self, settings: Above, lists: Mapping[str, Any]) -> None:
        self._settings = settings

    def judge(self, record: Mapping[str, Any], time: float, host: Mapping[str, Any]) -> Judgement:
        value = record.get(self._settings.field)
        if not isinstance(value, int | float):
            return Judgement(opens=None, clears=None)
        return Judgement(value > self._settings.limit, value <= self._settings.limit, value)


ANALYZER = Analyzer("above", Above, Judge)


# An action is done by the agent's helper, once, and only within what the host's own policy allows.


class Move(Settings, frozen=True, kw_only=True):
    """From which folder to which."""

    path: str
    to: str


class MoveLimits(Limits, frozen=True, kw_only=True):
    """`from_` (in YAML `from`) lists the folders that may be emptied, `to` those that may take the files."""

    from_: list[str] = []
    to: list[str] = []

    def forbids(self, params: Move) -> str | None:
        if params.path not in self.from_:
            return "path"
        return None if params.to in self.to else "to"


async def move(params: Move, tools: Tools) -> Outcome:
    try:
        moved = await asyncio.to_thread(_move, Path(params.path), Path(params.to))
    except OSError as exc:
        raise ActionError(f"'{params.path}' cannot be emptied: {exc.strerror}") from exc
    return Outcome(changed=bool(moved), output={"moved": moved})


def _move(path: Path, to: Path) -> int:
    to.mkdir(parents=True, exist_ok=True)
    files = _files(path)
    for file in files:
        file.rename(to / file.name)
    return len(files)


ACTION = Action("folder.move", Move, move, limits=MoveLimits, idempotent=True)
