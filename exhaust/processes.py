"""Processes by pid and start time: spawned without fork, watched by pidfd, never taken for a later one of that pid."""

import asyncio
import errno
import os
import select
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of include/linux/sched.h, in field 9 of /proc/PID/stat


@dataclass(frozen=True, slots=True)
class Process:
    """One process for good: `started` is field 22 of /proc/PID/stat, clock ticks since boot (see proc(5))."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        found = _stat(self.pid)
        return found is not None and found[1] == self.started and found[0] not in "ZX"

    def open(self) -> int | None:
        """Return a pidfd that becomes readable at its end, or None if it has ended already."""
        try:
            fd = os.pidfd_open(self.pid)
        except OSError as exc:
            if exc.errno in (errno.ESRCH, errno.EINVAL):  # nobody there, or a thread
                return None
            raise
        if self.alive:  # asked after opening, so that the descriptor is surely this process's
            return fd
        os.close(fd)
        return None


def _stat(pid: int) -> tuple[str, int] | None:
    """Return state letter and start time, None if nobody has this pid. Raises OSError where that cannot be known.

    The name may hold spaces and parentheses: fields count from the last `)`.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between opening and reading
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return fields[0].decode(), int(fields[19])


def find(pid: int) -> Process | None:
    """Return the process that has this pid now, or None."""
    found = _stat(pid)
    return None if found is None or found[0] in "ZX" else Process(pid, found[1])


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose process it is: `name` is what it calls itself, `users` are its real, effective and saved uid (proc(5))."""

    name: str
    parent: int
    kernel: bool
    users: frozenset[int]
    argv: tuple[str, ...]


def identify(pid: int) -> Identity | None:
    """Return who has this pid now, None if nobody."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        users = _status(f"{pid}")["Uid"].split()[:3]
        argv = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    return Identity(
        os.fsdecode(name),
        int(fields[1]),
        bool(int(fields[6]) & _KERNEL_THREAD),
        frozenset(map(int, users)),
        tuple(os.fsdecode(argv.rstrip(b"\0")).split("\0")) if argv else (),
    )


def heeds(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process catches a signal, or blocks it so as to read it (signalfd(2), sigwait(3)).

    A thread inside sigwait looks as if it did not block: it is taken to, if another thread is seen to.
    """
    bit = number - 1
    try:
        if int(_status(f"{pid}")["SigCgt"], 16) >> bit & 1:
            return True
        threads = [path.name for path in Path(f"/proc/{pid}/task").iterdir()]
        blocking = [int(_status(f"{pid}/task/{thread}")["SigBlk"], 16) >> bit & 1 for thread in threads]
        return any(blocking) and all(
            blocks or _waits_for_signals(f"{pid}/task/{thread}")
            for blocks, thread in zip(blocking, threads, strict=True)
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


def _waits_for_signals(task: str) -> bool:
    try:
        return Path(f"/proc/{task}/wchan").read_text().startswith("do_sigtimedwait")
    except PermissionError:  # only root may know that of others
        return False


def _status(task: str) -> dict[str, str]:
    lines = Path(f"/proc/{task}/status").read_text(errors="replace").splitlines()
    return {name: value for name, _, value in (line.partition(":\t") for line in lines)}


def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    keep: Sequence[int] = (),
) -> Process:
    """Start `argv` in a session of its own, by posix_spawn: quicker than fork, and its cost does not grow with ours.

    Descriptors that are not given are /dev/null; those in `keep` are inherited under their own numbers. Raises OSError
    where the program cannot be started.
    """
    if cwd is not None:  # posix_spawn of Python has no directory: env(1) changes it and then becomes the program
        argv = ("/usr/bin/env", "-C", cwd, *argv)
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    for number, given in ((0, stdin), (1, stdout), (2, stderr)):
        if given is None:
            actions.append((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, given, number))
    actions.extend((os.POSIX_SPAWN_DUP2, fd, fd) for fd in keep)
    program = argv[0]
    every = range(1, signal.NSIG)
    pid = os.posix_spawn(
        program,
        list(argv),
        dict(env),
        file_actions=actions,
        setsid=True,
        setsigmask=(),
        setsigdef=[number for number in every if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33)],
    )
    try:
        found = _stat(pid)
    except OSError:  # a process that nobody can tell from a later one must not stay behind
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return Process(pid, found[1] if found else 0)


async def ended(pidfd: int) -> None:
    """Return when the process behind the pidfd has ended."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not done.done():
            done.set_result(None)

    loop.add_reader(pidfd, tell)
    try:
        await done
    finally:
        loop.remove_reader(pidfd)


def has_ended(pidfd: int) -> bool:
    """Tell at once whether it has ended."""
    poll = select.poll()  # select(2) takes no descriptor above 1023
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def reap(pidfd: int) -> int | None:
    """Collect a child that has ended: its exit status, negative for a signal; None if it is not ours to collect."""
    try:
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if status is None:
        return None
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


def send(pidfd: int, number: signal.Signals) -> bool:
    """Signal exactly the process behind the pidfd; False if it has ended."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True
