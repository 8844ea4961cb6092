"""What the soak plugs in: an emitter that counts, an analyzer that bears witness, an action that leaves a mark.

Each writes what it does to a file outside the system, before or while it does it: a line that was written stays,
whenever the process is killed.
"""

import os
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from exhaust.clock import Clock
from exhaust.plugins import (
    Action,
    Analyzer,
    Emitter,
    Inferring,
    Judgement,
    Outcome,
    Record,
    Settings,
    Tools,
)

STREAMS = ("a", "b")
BEAT = "beat"
_TICK = 0.05
_TICKS_A_BEAT = 5
_LANES = 8
# Of one age, none is ever late: what an outage held up is judged as well, after what is newer.
_LONG_AGO = 1.0


def note(path: Path, line: str, *, durable: bool = False) -> None:
    """Append a line at once, whoever else does."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, line.encode() + b"\n")
        if durable:
            os.fsync(file)
    finally:
        os.close(file)


# The emitter. `starts` has a line for each of its starts: pid, stream, and the number that was safe by then. `yields`
# has one for each range of numbers, before they are yielded.


class Numbers(Settings, frozen=True, kw_only=True):
    """Where its ledgers are, and how many numbers each stream has a second."""

    folder: str
    rate: int = 200


async def emit(settings: Numbers, clock: Clock, positions: Mapping[str, Any]) -> AsyncIterator[Record]:
    """Count on from where each stream is known to be safe."""
    folder, each = Path(settings.folder), max(1, round(settings.rate * _TICK))
    safe = {stream: int(positions.get(stream, 0)) for stream in (*STREAMS, BEAT)}
    for stream, number in safe.items():
        note(folder / "starts", f"{os.getpid()} {stream} {number}")
    ticks = 0
    async for now in clock.every(_TICK):
        for stream in STREAMS:
            first, safe[stream] = safe[stream] + 1, safe[stream] + each
            note(folder / "yields", f"{stream} {first} {safe[stream]}")
            for number in range(first, safe[stream] + 1):
                yield Record(_LONG_AGO, {"n": number}, stream, position=(stream, number))
        ticks += 1
        if ticks % _TICKS_A_BEAT == 0:
            safe[BEAT] += 1
            lane, lit = f"{safe[BEAT] % _LANES}", safe[BEAT] // _LANES % 2 == 1
            yield Record(now, {"lane": lane, "lit": lit}, BEAT, position=(BEAT, safe[BEAT]))


_NUMBER = {"n": "int: one more than the number before it"}
_BEAT = {"lane": "string: one of a few, in turn", "lit": "bool: what it was not the last time"}
EMITTER = Emitter(
    "numbers",
    Numbers,
    emit,
    streams={**dict.fromkeys(STREAMS, _NUMBER), BEAT: _BEAT},
    waits=True,
)


# The analyzer. Its file has a line for each record that it was shown.


class Witness(Inferring, frozen=True, kw_only=True):
    """Where it writes down what it is shown; the fact never opens."""

    file: str


class Judge:
    """Writes the number of each record down."""

    silence: float | None = None

    def __init__(self, settings: Witness, lists: Mapping[str, Any]) -> None:
        self._file = os.open(settings.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def judge(self, record: Mapping[str, Any], time: float, host: Mapping[str, Any]) -> Judgement:
        os.write(self._file, b"%d\n" % record["n"])
        return Judgement(opens=False, clears=True)


ANALYZER = Analyzer("witness", Witness, Judge)


# The action. Its file has a line for each time that it was done: what it was told, by whom it was done, and when.


class Mark(Settings, frozen=True, kw_only=True):
    """Which file, and what to write into it."""

    file: str
    key: str


async def mark(params: Mark, tools: Tools) -> Outcome:
    """Leave one line."""
    note(Path(params.file), f"{params.key} {os.getpid()} {time.monotonic_ns()}", durable=True)
    return Outcome(changed=True)


ACTION = Action("soak.mark", Mark, mark)
