"""Services that systemd keeps: asked by `systemctl show` at every beat, and at once when the main process of one ends.

A unit is `running` while its main process lives, or where it is active without one that systemd knows. It is `failed`
where systemd says so, or while it waits to be started again after a failure; `stopped` where it is inactive, or has
done what it was there for (active, exited). Where systemctl does not answer, or knows no such unit, nothing is guessed:
one whose process is alive is `running`, one whose process was seen to end is `gone`; and `reason` says why.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from emitters.keepers.watched import Watched
from exhaust.errors import UnreachableError
from exhaust.processes import Process, find

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "NRestarts",
    "ExecMainCode",
    "ExecMainStatus",
    "MemoryCurrent",
    "TasksCurrent",
)
_PATIENCE = 5.0
_LONGEST_REASON = 200
_MOST = (1 << 64) - 1  # what is not counted
_EXITED = 1  # CLD_EXITED: the status is one; else it is the number of a signal


class Shown(msgspec.Struct, frozen=True):
    """What systemd says of a unit (see org.freedesktop.systemd1(5)); None is what it does not say."""

    load: str
    active: str
    sub: str
    result: str
    pid: int = 0
    restarts: int | None = None
    exit: int | None = None
    memory: int | None = None
    tasks: int | None = None

    @property
    def details(self) -> Mapping[str, Any]:
        """What a record has of it beside what it has of any service."""
        told = {"active_state": self.active, "sub_state": self.sub, "result": self.result}
        counted = {"unit_restarts": self.restarts, "unit_memory_bytes": self.memory, "unit_tasks": self.tasks}
        return {name: value for name, value in (told | counted).items() if value not in (None, "")}


def parse(text: str) -> list[Shown]:
    """Read what `systemctl show` prints: a line for each property, and an empty one between units."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    return [_shown(block) for block in blocks if block]


def _shown(said: Mapping[str, str]) -> Shown:
    pid, code, status = _count(said, "MainPID"), _count(said, "ExecMainCode"), _count(said, "ExecMainStatus")
    ended = None if not code or status is None or pid else status if code == _EXITED else -status
    return Shown(
        load=said.get("LoadState", ""),
        active=said.get("ActiveState", ""),
        sub=said.get("SubState", ""),
        result=said.get("Result", ""),
        pid=pid or 0,
        restarts=_count(said, "NRestarts"),
        exit=ended,
        memory=_count(said, "MemoryCurrent"),
        tasks=_count(said, "TasksCurrent"),
    )


def _count(said: Mapping[str, str], name: str) -> int | None:
    """Return a number; None of `[not set]`, of nothing, and of the largest there is, which means the same."""
    text = said.get(name, "")
    return int(text) if text.isdecimal() and int(text) < _MOST else None


class Systemctl:
    """Asks systemd by its own program, which is found in PATH."""

    async def infos(self, names: Sequence[str]) -> Sequence[Shown | Exception]:
        """Return what systemd says of each unit. Raises UnreachableError where it says nothing."""
        said = await self._said(["show", f"--property={','.join(PROPERTIES)}", "--no-pager", "--", *names])
        shown = parse(said)
        if len(shown) != len(names):
            raise UnreachableError(f"systemctl told of {len(shown)} units instead of {len(names)}")
        unknown = UnreachableError("systemd knows no such unit")
        return [unknown if one.load == "not-found" and not one.pid else one for one in shown]

    @staticmethod
    async def _said(argv: Sequence[str]) -> str:
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                "systemctl", *argv, stdin=nothing, stdout=pipe, stderr=pipe, env=_environment()
            )
        except OSError as exc:
            raise UnreachableError(f"systemctl cannot be run: {exc.strerror}") from exc
        try:
            async with asyncio.timeout(_PATIENCE):
                said, error = await process.communicate()
        except TimeoutError:
            raise UnreachableError(f"systemctl does not answer within {_PATIENCE:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            why = error.decode(errors="backslashreplace").strip().partition("\n")[0]
            raise UnreachableError((why or f"systemctl ended with {process.returncode}")[:_LONGEST_REASON])
        return said.decode(errors="backslashreplace")


def _environment() -> Mapping[str, str]:
    return {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"}


class Unit(Watched):
    """A unit of systemd. What was asked before its process was known says nothing against that process."""

    provider = "systemd"

    def __init__(self, name: str, on_end: Callable[[Watched], None], *, wanted: bool) -> None:
        super().__init__(name, on_end, wanted=wanted)
        self._said: str | None = None
        self._taken = 0.0
        self.settled = False

    def hear(self, answer: Shown | Exception, asked: float) -> None:
        """Take what systemd said when it was asked at `asked` (the event loop's time), or why it said nothing."""
        self.settled = False
        if isinstance(answer, Exception):
            self._said, self._reason, self._details = None, str(answer), {}
            return
        self._details = answer.details
        if answer.pid:
            process = find(answer.pid)  # None: it has ended, which systemd has yet to notice
            if process is not None and process != self._process and self._is_newer(process):
                self._take(process)
            self.settled, self._reason = process is not None, ""
        elif self._pidfd is None or asked >= self._taken:
            self.close()
            self._said, self._exit = _meaning(answer), answer.exit
            self._reason = "" if answer.result in ("", "success") else answer.result
            self.settled = answer.active in ("inactive", "failed")

    def _take(self, process: Process) -> None:
        self._taken = asyncio.get_running_loop().time()
        self._said, self._reason = None, ""
        super()._take(process)

    def _at_rest(self) -> str | None:
        known = self._said or ("gone" if self._process is not None else None)
        return "stopped" if known and known != "running" and not self._wanted else known


def _meaning(shown: Shown) -> str:
    """Return the state of a unit without a main process that lives."""
    if shown.active == "failed" or shown.sub in ("auto-restart", "auto-restart-queued"):
        return "failed"
    if shown.active == "inactive" or (shown.active == "active" and shown.sub == "exited"):
        return "stopped"
    return "running"


def why_not(booted: Path = Path("/run/systemd/system")) -> str:
    """Say why systemd cannot be asked here; empty where it can. See sd_booted(3)."""
    if shutil.which("systemctl") is None:
        return "there is no systemctl"
    return "" if booted.is_dir() else "this host was not started by systemd"
