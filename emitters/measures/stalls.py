"""Stalls that the kernel tells of the moment they come: a limit for waiting is given to it, and it wakes us."""

import asyncio
import logging
import os
import select
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from emitters.measures.pressure import FOLDER
from exhaust.plugins import Settings
from exhaust.settings import Duration

log = logging.getLogger(__name__)

_STEP = 2.0  # without CAP_SYS_RESOURCE a window has to be a multiple of this
_LONGEST = 10.0


class Stall(Settings, frozen=True):
    """A resource, and for how long `some` or all (`full`) programs may wait for it `within` which time."""

    resource: Literal["cpu", "io", "memory", "irq"]
    some: Duration | None = None
    full: Duration | None = None
    within: Annotated[Duration, msgspec.Meta(ge=0.5, le=_LONGEST)] = 1.0

    def __post_init__(self) -> None:
        if (self.some is None) == (self.full is None):
            raise ValueError("a stall has either 'some' or 'full', the time to wait for the resource")
        if not 0 < self.limit <= self.within:
            raise ValueError(f"{self.kind!r} is to be more than nothing, and not more than 'within'")

    @property
    def kind(self) -> str:
        return "full" if self.some is None else "some"

    @property
    def limit(self) -> float:
        return self.full or self.some or 0.0


class Stalls:
    """What the kernel wakes us for, until `opened` is closed. One that it refuses is told of in the log."""

    def __init__(self, stalls: Sequence[Stall], opened: ExitStack, folder: Path = FOLDER) -> None:
        self.opened = opened
        self._folder = folder
        self._came: asyncio.Queue[tuple[str, str, float, float]] = asyncio.Queue()
        for stall in stalls:
            try:
                self._watch(stall)
            except OSError as exc:
                refused = {"resource": stall.resource, "kind": stall.kind, "error": exc.strerror}
                log.warning("stalls cannot be watched", extra=refused)

    async def next(self) -> tuple[str, str, float, float]:
        """Wait for the next one; return its resource, its kind, its limit and the window that the kernel looks at."""
        return await self._came.get()

    def _watch(self, stall: Stall) -> None:
        fd, within = registered(stall, self._folder)
        self.opened.callback(os.close, fd)
        if within != stall.within:
            extra = {"resource": stall.resource, "within": within}
            log.warning("without CAP_SYS_RESOURCE stalls are looked for within a longer time", extra=extra)
        # The event loop waits for what can be read; that there is something urgent it is told by an epoll of its own.
        urgent = self.opened.enter_context(select.epoll())
        urgent.register(fd, select.EPOLLPRI)
        loop = asyncio.get_running_loop()
        loop.add_reader(urgent, self._wake, urgent, stall, within)
        self.opened.callback(loop.remove_reader, urgent)

    def _wake(self, urgent: select.epoll, stall: Stall, within: float) -> None:
        urgent.poll(0)
        self._came.put_nowait((stall.resource, stall.kind, stall.limit, within))


def registered(stall: Stall, folder: Path = FOLDER) -> tuple[int, float]:
    """Return a descriptor on which the kernel tells of a stall, and the window. Raises OSError where it refuses."""
    longer = min(_LONGEST, -(-stall.within // _STEP) * _STEP)
    for within in (stall.within, longer):
        fd = os.open(folder / stall.resource, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fd, b"%s %d %d\0" % (stall.kind.encode(), round(stall.limit * 1e6), round(within * 1e6)))
        except OSError:
            os.close(fd)
            if within == longer:
                raise
        else:
            return fd, within
    raise AssertionError("one of them was refused")


def why_not(folder: Path = FOLDER) -> str:
    """Say why no stall can be watched here; empty where some can."""
    try:
        fd, within = registered(Stall(resource="memory", some=0.5, within=1.0), folder)
    except OSError as exc:
        return f"the kernel refuses a trigger: {exc.strerror}"
    os.close(fd)
    return "" if within == 1.0 else f"only within multiples of {_STEP:g} s: no CAP_SYS_RESOURCE"
