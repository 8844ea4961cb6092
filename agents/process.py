"""The action `process.signal`: a signal to one process, known by pid and start time."""

import asyncio
import contextlib
import os
import pwd
import signal
from collections.abc import Iterator, Set
from pathlib import PurePath
from typing import Annotated, Literal

import msgspec

from exhaust.plugins import Action, ActionError, Limits, Outcome, Settings, Tools
from exhaust.processes import Identity, Process, ended, identify, send
from exhaust.settings import Duration

_ENDING = frozenset({"TERM", "KILL", "INT", "QUIT", "HUP"})
_SURE = frozenset({"TERM", "KILL"})
_LONGEST_NAME = 15  # TASK_COMM_LEN of the kernel, less its NUL
_ENDS_WITHIN = 0.2
_KILLED_WITHIN = 5.0

SignalName = Literal["TERM", "KILL", "HUP", "INT", "QUIT", "USR1", "USR2", "STOP", "CONT"]


class Signal(Settings, frozen=True, kw_only=True):
    """Which process, as PID@START (START is field 22 of /proc/PID/stat), and which signal.

    With `kill_after` one that still lives after that long gets SIGKILL.
    """

    process: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,9}@[0-9]{1,19}$")]
    signal: SignalName
    kill_after: Duration | None = None

    def __post_init__(self) -> None:
        if self.kill_after is not None and self.signal not in _ENDING - {"KILL"}:
            raise ValueError(f"'kill_after' follows a signal that asks a process to end, not {self.signal}")

    @property
    def target(self) -> Process:
        pid, _, started = self.process.partition("@")
        return Process(int(pid), int(started))


class SignalLimits(Limits, frozen=True, kw_only=True):
    """`signal` lists what may be sent: TERM and HUP unless told otherwise; `kill_after` needs KILL among them.

    `user` lists whose processes it may be sent to: left out, anybody's but root's. All of a process's users count: one
    that root's rights were lent to is root's. `name` lists what these may be called, left out anything; a process
    chooses its name itself.
    """

    signal: tuple[SignalName, ...] = ("TERM", "HUP")
    user: tuple[str, ...] | None = None
    name: tuple[str, ...] | None = None

    def forbids(self, params: Signal) -> str | None:
        if params.signal not in self.signal:
            return "signal"
        return "kill_after" if params.kill_after is not None and "KILL" not in self.signal else None

    def excluded(self, users: Set[str]) -> Set[str]:
        """Return those of a process's users for whom it must not be signalled."""
        return users & {"root"} if self.user is None else users - set(self.user)


async def look(params: Signal, tools: Tools) -> bool:
    return params.target.alive


async def send_signal(params: Signal, tools: Tools) -> Outcome:
    """Signal it through a pidfd that was opened before its start time was compared."""
    process = params.target
    pidfd = process.open()
    if pidfd is None:
        if params.signal in _SURE:
            return Outcome(changed=False, output={"pid": process.pid, "ended": True})
        raise ActionError(f"process '{params.process}' has ended")
    try:
        await _check(params, tools.limits)
        send(pidfd, signal.Signals[f"SIG{params.signal}"])
        patience = _KILLED_WITHIN if params.signal == "KILL" else _ENDS_WITHIN
        gone = await _ends(pidfd, patience if params.kill_after is None else params.kill_after)
        if not gone and params.kill_after is not None:
            send(pidfd, signal.SIGKILL)
            gone = await _ends(pidfd, _KILLED_WITHIN)
    except PermissionError as exc:
        raise ActionError(f"process '{params.process}' may not be signalled by this helper: it is not root") from exc
    finally:
        os.close(pidfd)
    return Outcome(changed=True, output={"pid": process.pid, "ended": gone})


def probe(params: Signal, before: bool, tools: Tools) -> Outcome | None:
    """That a process is gone is all that TERM and KILL are for; what others did nobody can know."""
    if params.signal not in _SURE or params.target.alive:
        return None
    return Outcome(changed=before, output={"pid": params.target.pid, "ended": True})


async def _ends(pidfd: int, within: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            await ended(pidfd)
            return True
    return False


async def _check(params: Signal, limits: SignalLimits) -> None:
    """Raise ActionError for a process that is never signalled, or not by this host's policy."""
    found = identify(params.target.pid)
    if found is None:
        return  # it has just ended: the signal will reach nobody
    if why := _untouchable(params.target.pid, found):
        raise ActionError(f"process '{params.process}' is not signalled: it is {why}")
    if limits.name is not None and found.name not in [name[:_LONGEST_NAME] for name in limits.name]:
        raise ActionError(
            f"process '{params.process}' is called '{found.name}', which this host's policy does not allow"
        )
    users = {await asyncio.to_thread(_user, uid) for uid in found.users}  # who knows the names may be far away
    if foreign := limits.excluded(users):
        whose = ", ".join(sorted(foreign))
        raise ActionError(f"process '{params.process}' belongs to {whose}, whom this host's policy does not allow")


def _untouchable(pid: int, found: Identity) -> str | None:
    """Say what makes it a process that no policy can allow to be signalled."""
    if pid == 1:
        return "the first process of this host"
    if found.kernel:
        return "a thread of the kernel"
    if pid == os.getpid() or pid in _ancestors() or _is_exhaust(found.argv):
        return "one that Exhaust itself needs"
    return None


def _ancestors() -> Iterator[int]:
    pid = os.getpid()
    while (found := identify(pid)) is not None and found.parent:
        yield (pid := found.parent)


def _is_exhaust(argv: tuple[str, ...]) -> bool:
    """Tell by its command line: the components are each other's siblings, or no relatives at all."""
    if argv[1:3] == ("-m", "exhaust.main") or argv[1:4] == ("-P", "-m", "adapters.ansible_run"):
        return True
    return len(argv) > 1 and PurePath(argv[1]).name == "exhaust"


def _user(uid: int) -> str:
    if uid == 0:
        return "root"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


SIGNAL = Action("process.signal", Signal, send_signal, limits=SignalLimits, look=look, probe=probe)
