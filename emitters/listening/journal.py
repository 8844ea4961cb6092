"""The journal of systemd, by a journalctl that follows it, and is started again after the last cursor when it dies."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from emitters.listening.framing import Frame, Framing
from emitters.listening.intake import Intake
from emitters.listening.message import MOST_BYTES, told
from emitters.listening.priorities import FACILITIES, SEVERITIES, priority
from exhaust.clock import Clock
from exhaust.plugins import Lost, Record

PART = "journal"
_PROGRAM = "journalctl"
_JOURNALD = "/run/systemd/journal/socket"
_MOST_LINE = 1 << 20
_CHUNK = 1 << 16
_MOST_SAID = 4096
_PATIENCE = 2.0
_MOST_VALUE = 1024
_INSIDE = ("_SYSTEMD_UNIT", "_COMM", "_EXE", "_TRANSPORT", "_BOOT_ID")
_SAID = ("MESSAGE", "PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "MESSAGE_ID")
_KNOWN = ("_PID", "_UID", "_GID", "_HOSTNAME", *_INSIDE)

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Entry(NamedTuple):
    """An entry of the journal: its place, when journald took it, whether the kernel wrote it, and its fields."""

    cursor: str
    time: float
    kernel: bool
    fields: dict[str, Any]


def entry_of(line: bytes) -> Entry:
    """Read an entry as `journalctl -o json` prints it. Raises ValueError where it is none."""
    try:
        found = _decode(line)
        cursor, time = found["__CURSOR"], int(found["__REALTIME_TIMESTAMP"]) / 1e6
    except (msgspec.MsgspecError, KeyError, TypeError, OverflowError) as exc:
        raise ValueError(f"no entry of a journal: {exc}") from exc
    if not isinstance(cursor, str):
        raise ValueError("no entry of a journal: its cursor is no text")
    return Entry(cursor, time, found.get("_TRANSPORT") == "kernel", _fields(found))


def _fields(found: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    severity, facility = _number(found.get("PRIORITY")), _number(found.get("SYSLOG_FACILITY"))
    if severity is not None and severity < len(SEVERITIES):
        known = told(priority(8 * (facility if facility is not None and facility < len(FACILITIES) else 0) + severity))
        of_facility = facility is None and found.get("_TRANSPORT") != "kernel"
        fields |= {name: value for name, value in known.items() if not (of_facility and name.startswith("facility"))}
    named = {
        "hostname": "_HOSTNAME",
        "app_name": "SYSLOG_IDENTIFIER" if "SYSLOG_IDENTIFIER" in found else "_COMM",
        "proc_id": "SYSLOG_PID" if "SYSLOG_PID" in found else "_PID",
        "msg_id": "MESSAGE_ID",
    }
    fields |= {field: _text(found[name])[:_MOST_VALUE] for field, name in named.items() if found.get(name) is not None}
    inside = {name: _text(found[name])[:_MOST_VALUE] for name in _INSIDE if found.get(name) is not None}
    if inside:
        fields["structured_data"] = {"journal": inside}
    for field, name in (("peer_pid", "_PID"), ("peer_uid", "_UID"), ("peer_gid", "_GID")):
        if (number := _number(found.get(name))) is not None:
            fields[field] = number
    message = _text(found.get("MESSAGE", ""))
    fields["message"] = message[:MOST_BYTES]
    if len(message) > MOST_BYTES:
        fields["cut"] = True
    return fields


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 12 else None


def _text(value: Any) -> str:
    """Return a value as text: bytes that are none come as a list of numbers, a field that is there twice as a list."""
    if isinstance(value, list):
        if all(isinstance(one, int) and 0 <= one < 256 for one in value):
            return bytes(value).decode(errors="backslashreplace")
        return "\n".join(_text(one) for one in value[:16])
    return value if isinstance(value, str) else ""


class Journal:
    """Reads on after the last cursor; without one, what came since it was made. `skips` tells of whom others hear."""

    name = "journal"

    def __init__(
        self, positions: Mapping[str, Any], skips: Callable[[], bool], intake: Intake, clock: Clock, *, wanted: bool
    ) -> None:
        self.wanted = wanted
        self._skips = skips
        self._intake = intake
        self._clock = clock
        self._since = clock.now()
        cursor = positions.get(PART)
        self._cursor = cursor if isinstance(cursor, str) and cursor else None
        self._process: asyncio.subprocess.Process | None = None
        self._framing = Framing(_MOST_LINE, counted=False)

    def _argv(self, program: str) -> list[str]:
        place = f"--after-cursor={self._cursor}" if self._cursor else f"--since=@{self._since:.6f}"
        fields = ",".join((*_SAID, *_KNOWN))
        how = ["-o", "json", "-f", "--all", "--no-tail", "--no-pager", "--quiet", f"--output-fields={fields}"]
        return [program, *how, place]

    async def open(self) -> None:
        program = shutil.which(_PROGRAM)
        if program is None:
            raise FileNotFoundError(f"there is no {_PROGRAM}")
        self._framing = Framing(_MOST_LINE, counted=False)
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._argv(program), stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=_environment()
        )

    async def serve(self) -> None:
        process = self._process
        if process is None or process.stdout is None or process.stderr is None:
            raise ProcessLookupError(f"{_PROGRAM} was not started")
        saying = asyncio.create_task(_said(process.stderr), name="journal's errors")
        try:
            while data := await process.stdout.read(_CHUNK):
                for frame in self._framing.feed(data):
                    self._take(frame)
                await self._intake.room()
            said = await saying
        finally:
            saying.cancel()
        status = await process.wait()
        if self._cursor and "cursor" in said:  # it is of no use: of a journal that is gone, or damaged
            self._cursor, self._since = None, self._clock.now()
        raise OSError(f"{_PROGRAM} ended with {status}{': ' if said else ''}{said}")

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(ProcessLookupError):
            try:
                await asyncio.wait_for(process.communicate(), _PATIENCE)
            except TimeoutError:
                process.kill()
                await process.communicate()

    def _take(self, frame: Frame) -> None:
        received = self._clock.now()
        if frame.cut:
            self._intake.put(Lost("too_big", 1))
            return
        try:
            entry = entry_of(frame.data)
        except ValueError:
            self._intake.put(Lost("unusable", 1))
            return
        if entry.cursor == self._cursor:
            return
        self._cursor = entry.cursor
        if not (entry.kernel and self._skips()):
            fields = {**entry.fields, "received": received, "transport": "journal"}
            self._intake.put(Record(entry.time, fields, position=(PART, entry.cursor)))


async def _said(errors: asyncio.StreamReader) -> str:
    """Return the end of what a program says is wrong, read to its end so that it never waits for us."""
    said = b""
    while data := await errors.read(_CHUNK):
        said = (said + data)[-_MOST_SAID:]
    return said.decode(errors="backslashreplace").strip().rpartition("\n")[2]


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def why_not() -> str:
    """Return what keeps the journal from being read here."""
    if shutil.which(_PROGRAM) is None:
        return f"there is no {_PROGRAM}"
    return "" if Path(_JOURNALD).exists() else "no journald runs here"
