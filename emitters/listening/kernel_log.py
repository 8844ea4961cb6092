"""The kernel's own log, /dev/kmsg: every record has a number, so that it is known what the ring has overwritten."""

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from emitters.listening.intake import Intake
from emitters.listening.message import told, written
from emitters.listening.priorities import FACILITIES, priority
from exhaust.clock import Clock
from exhaust.plugins import Lost, Record

PART = "kmsg"
_DEVICE = "/dev/kmsg"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MOST_BYTES = 16 << 10  # the kernel has at most 8 KiB; less room than a record takes is an error
_MOST_AT_ONCE = 256
_LOOK_AGAIN = 10.0


class Line(NamedTuple):
    """A record of the kernel's log: its number, when it was written in seconds since boot, and its fields."""

    number: int
    uptime: float
    fields: dict[str, Any]


def line_of(data: bytes) -> Line:
    """Read one record. Raises ValueError where it is none (Documentation/ABI/testing/dev-kmsg).

    The kernel has written what is not printable as `\\xNN` itself.
    """
    head, _, text = data.decode(errors="backslashreplace").partition(";")
    message, *behind = text.rstrip("\n").split("\n")
    code, number, microseconds = (int(word) for word in head.split(",")[:3])
    if not 0 <= code < 8 * len(FACILITIES):
        code %= 8
    known = priority(code)
    fields = {**told(known), **({"app_name": "kernel", "message": message} if code < 8 else written(message))}
    named = dict(pair.strip().split("=", 1) for pair in behind if "=" in pair)
    if named:
        fields["structured_data"] = {"kernel": named}
    return Line(number, microseconds / 1e6, fields)


class KernelLog:
    """Reads on from where a position is, its own boot's; without one, from now on, and of another boot from the start.

    A position is the boot's id and the number of the last record that was read.
    """

    name = "kmsg"

    def __init__(
        self, positions: Mapping[str, Any], intake: Intake, clock: Clock, *, path: str = _DEVICE, boot: str = ""
    ) -> None:
        self.wanted = False
        self._intake = intake
        self._clock = clock
        self._path = path
        self._boot = boot or _boot_id()
        self._file: int | None = None
        self._last = _number(positions.get(PART), self._boot)
        self._reading = False
        self._failure: OSError | None = None

    @property
    def heard(self) -> bool:
        """Whether the kernel is heard at first hand."""
        return self._file is not None

    async def open(self) -> None:
        self._failure = None
        self._file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if self._last is None:
            os.lseek(self._file, 0, os.SEEK_END)
        self._intake.add(self)

    async def serve(self) -> None:
        while self._failure is None:
            await self._clock.until(self._clock.now() + _LOOK_AGAIN)
        raise self._failure

    async def close(self) -> None:
        if self._file is not None:
            self._intake.remove(self)
            os.close(self._file)
            self._file = None

    def pause(self) -> None:
        if self._reading and self._file is not None:
            asyncio.get_running_loop().remove_reader(self._file)
        self._reading = False

    def resume(self) -> None:
        if self._file is not None and self._failure is None:
            asyncio.get_running_loop().add_reader(self._file, self._drain, self._file)
            self._reading = True

    def _drain(self, file: int) -> None:
        try:
            for _ in range(_MOST_AT_ONCE):
                with suppress(BrokenPipeError):  # the next ones were overwritten: the numbers tell how many
                    self._take(os.read(file, _MOST_BYTES))
                if not self._reading:
                    break
        except BlockingIOError:
            pass
        except OSError as exc:  # of a callback the event loop would only log it
            self._failure = exc
            self.pause()

    def _take(self, data: bytes) -> None:
        try:
            line = line_of(data)
        except ValueError:
            self._intake.put(Lost("unusable", 1))
            return
        if self._last is not None and line.number <= self._last:
            return
        if self._last is not None and line.number > self._last + 1:
            self._intake.put(Lost("kernel", line.number - self._last - 1))
        self._last = line.number
        received = self._clock.now()
        written_at = min(received, round(received - time.monotonic() + line.uptime, 6))
        fields = {**line.fields, "received": received, "transport": "kmsg"}
        self._intake.put(Record(written_at, fields, position=(PART, [self._boot, line.number])))


def _boot_id() -> str:
    with suppress(OSError):
        return Path(_BOOT_ID).read_text().strip()
    return ""


def _number(position: Any, boot: str) -> int | None:
    """Return the number that a position names; the one before the first, where it is of another boot."""
    match position:
        case [str(known), int(number)]:
            return number if known == boot else -1
    return None


def why_not() -> str:
    """Return what keeps the kernel's log from being read here."""
    try:
        os.close(os.open(_DEVICE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as exc:
        return f"{_DEVICE}: {exc.strerror}"
    return ""
