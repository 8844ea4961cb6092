"""A log that another process writes and rotates as fast as it can, while its reader is killed again and again."""

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from emitters.file import File, emit
from exhaust.clock import SystemClock
from exhaust.plugins import Record

ROTATIONS = 60
LAST = "the last line"

WRITER = f"""
import os, random, sys, time

path, way, seed = sys.argv[1:]
chance, number, log = random.Random(seed), 0, open(path, "a", buffering=1)
for rotation in range({ROTATIONS}):
    for _ in range(chance.randrange(300)):
        log.write(f"line {{number}} {{'x' * chance.randrange(200)}}\\n")
        number += 1
        if chance.random() < 0.01:
            time.sleep(chance.random() * 0.02)
    if way == "numbers":
        for older in reversed(range(1, rotation + 1)):
            os.rename(f"{{path}}.{{older}}", f"{{path}}.{{older + 1}}")
        os.rename(path, f"{{path}}.1")
    else:
        os.rename(path, f"{{path}}-{{time.time_ns()}}")
    if chance.random() < 0.5:
        log.write(f"line {{number}} late\\n")
        number += 1
    log = open(path, "a", buffering=1)
log.write("{LAST}\\n")
"""


class Killed:
    """An emitter that is closed at random moments: what it yielded last is not safe then, and must come again."""

    def __init__(self, settings: File, chance: random.Random) -> None:
        self._settings = settings
        self._chance = chance
        self._positions: dict[str, Any] = {}
        self.safe: list[str] = []
        self.deaths = 0

    async def begin(self) -> None:
        """See the log for the first time, while there is nothing in it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self._collect([])

    async def read(self) -> None:
        """Read until the last line has come and all is safe."""
        while LAST not in self.safe:
            unsafe: list[Record] = []
            try:
                async with asyncio.timeout(self._chance.random() * 0.5):
                    await self._collect(unsafe)
            except TimeoutError:
                self._store(unsafe, self._chance.randrange(len(unsafe) + 1))
                self.deaths += 1

    async def _collect(self, unsafe: list[Record]) -> None:
        records = cast("AsyncGenerator[Record]", emit(self._settings, SystemClock(), self._positions))
        async with aclosing(records):
            async for record in records:
                unsafe.append(record)
                if len(unsafe) >= 50:
                    self._store(unsafe, self._chance.randrange(40))
                    await asyncio.sleep(0)

    def _store(self, unsafe: list[Record], count: int) -> None:
        for record in unsafe[:count]:
            assert record.position is not None
            self._positions[record.position[0]] = record.position[1]
            self.safe.append(record.fields["line"].split(" x")[0].removesuffix(" "))
        del unsafe[:count]


@pytest.mark.parametrize("way", ["numbers", "dates"])
@pytest.mark.parametrize("inotify", [True, False], ids=["notified", "polled"])
async def test_no_line_is_lost_and_none_repeated(way: str, inotify: bool, tmp_path: Path) -> None:
    log, seed = tmp_path / "app.log", random.randrange(1 << 32)
    settings = File(paths=(str(log),), from_="begin", every=0.1, inotify=inotify, state=str(tmp_path / "state"))
    killed = Killed(settings, random.Random(seed))
    log.touch()
    await killed.begin()
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, str(log), way, str(seed))
    async with asyncio.timeout(90):
        await killed.read()
        assert await writer.wait() == 0
    *lines, last = killed.safe
    assert last == LAST, seed
    numbers = [int(line.split()[1]) for line in lines]
    assert sorted(numbers) == list(range(len(numbers))), seed
    assert killed.deaths > 0
