"""What there is once on a host, such as its accounting: changed by one test at a time; and what an emitter yields."""

import asyncio
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

from exhaust.clock import SystemClock
from exhaust.plugins import Emitter, Lost, Record, Settings

ROOT = os.geteuid() == 0
WITHIN = 20.0
NOBODY = 65534
_LOCK = Path("/run/lock/exhaust-host.lock")


@contextmanager
def alone() -> Iterator[None]:
    """Keep others from changing the host as a whole meanwhile. For root."""
    with _LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Told:
    """What an emitter has yielded so far."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.lost = 0
        self._changed = asyncio.Condition()

    async def take(self, found: AsyncGenerator[Record | Lost], fields: set[str]) -> None:
        async with aclosing(found):
            async for one in found:
                if isinstance(one, Record):
                    assert set(one.fields) <= fields, set(one.fields) - fields
                    self.records.append(one)
                else:
                    self.lost += one.count
                async with self._changed:
                    self._changed.notify_all()

    async def until(self, met: Callable[[], Any]) -> Any:
        async with asyncio.timeout(WITHIN), self._changed:
            return await self._changed.wait_for(met)

    def of(self, **fields: Any) -> list[dict[str, Any]]:
        """Return the fields of the records that have these."""
        return [one.fields for one in self.records if fields.items() <= one.fields.items()]


@asynccontextmanager
async def observing(
    emitter: Emitter[Any], settings: Settings, positions: dict[str, Any] | None = None
) -> AsyncIterator[Told]:
    """Run an emitter until this is left. It has begun to observe when this is entered, as a task of its own."""
    told = Told()
    (fields,) = emitter.streams.values()
    found = cast("AsyncGenerator[Record | Lost]", emitter.emit(settings, SystemClock(), positions or {}))
    task = asyncio.create_task(told.take(found, set(fields)))
    try:
        await asyncio.sleep(0)  # up to where it waits for the first time
        yield told
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()):
        raise error


def as_nobody(code: str, *arguments: object) -> Any:
    """Run Python code of the tests as an ordinary user; return what it prints, which is JSON.

    What it needs it must import before it calls `drop`: such a user may not even read where we lie.
    """
    drop = f"import os, sys, json\ndef drop():\n    os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    if not ROOT:
        drop = "import os, sys, json\ndef drop(): pass\n"
    argv = [sys.executable, "-c", drop + code, *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=WITHIN, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def run(*argv: str) -> int:
    """Run a program to its end; return its pid."""
    process = await asyncio.create_subprocess_exec(*argv)
    await process.wait()
    return process.pid


def trues(number: int) -> tuple[str, ...]:
    """Return a program that runs /bin/true so often, one after the other."""
    return "/bin/sh", "-c", f"i=0; while [ $i -lt {number} ]; do /bin/true; i=$((i+1)); done"
