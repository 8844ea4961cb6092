"""Runs one program to its end, with what it says kept up to a limit; cut off, it is killed with its process group."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from agents.kept import ENVIRONMENT
from exhaust.plugins import ActionError
from exhaust.processes import ended, reap, spawn

_MOST = 65_536
_PIPE_HOLDS = 1 << 20  # at most, see pipe(7)


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program came to: `exit` is its status, negative for a signal."""

    exit: int
    stdout: str
    stderr: str


class _Pipe:
    """The reading end of a pipe: keeps the first 64 KiB, and reads on so that the writer never blocks."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe()
        os.set_blocking(self._read, False)
        self._kept = bytearray()
        self._cut = 0
        asyncio.get_running_loop().add_reader(self._read, self._take)

    def _take(self) -> bool:
        """Read once, lest a program that never stops talking keeps us here; False at the end or where nothing is."""
        try:
            piece = os.read(self._read, _MOST)
        except BlockingIOError:
            return False
        if not piece:
            asyncio.get_running_loop().remove_reader(self._read)
            return False
        room = _MOST - len(self._kept)
        self._kept += piece[:room]
        self._cut += max(0, len(piece) - room)
        return True

    def close(self) -> str:
        """Take what is there (a program's children may hold the pipe open: nobody waits for them), and close."""
        asyncio.get_running_loop().remove_reader(self._read)
        for _ in range(_PIPE_HOLDS // _MOST):
            if not self._take():
                break
        os.close(self._read)
        text = self._kept.decode(errors="replace")
        return f"{text}\n[{self._cut} bytes more were cut]" if self._cut else text


async def run(argv: Sequence[str]) -> Ended:
    """Run a program without input, in a session of its own, with nothing in its environment but PATH and LANG."""
    out, err = _Pipe(), _Pipe()
    try:
        status = await _to_its_end(argv, out, err)
    finally:
        stdout, stderr = out.close(), err.close()
    return Ended(status, stdout, stderr)


async def _to_its_end(argv: Sequence[str], out: _Pipe, err: _Pipe) -> int:
    try:
        process = spawn(argv, env=ENVIRONMENT, cwd="/", stdout=out.write, stderr=err.write)
    except OSError as exc:
        raise ActionError(f"'{argv[0]}' cannot be started: {exc.strerror}") from exc
    finally:
        os.close(out.write)
        os.close(err.write)
    pidfd = os.pidfd_open(process.pid)
    try:
        await ended(pidfd)
    except asyncio.CancelledError:
        # Not yet collected, so the number can belong to nobody else.
        with contextlib.suppress(PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await ended(pidfd)
        raise
    finally:
        status = reap(pidfd)
        os.close(pidfd)
    return 0 if status is None else status
