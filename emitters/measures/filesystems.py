"""How full the mounted file systems are. One that does not answer (a lost server, a broken disk) holds up nothing."""

import asyncio
import errno
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from emitters.measures.mounts import Mount, chosen, in_sight, parse, text
from emitters.measures.proc import ProcFile
from exhaust.clock import Clock
from exhaust.plugins import Fields

# These tell from memory what they are asked, whatever their disk does: nobody waits, and no thread is needed.
_FROM_MEMORY = frozenset((b"ext2", b"ext3", b"ext4", b"xfs", b"tmpfs", b"ramfs", b"vfat"))
_AT_ONCE = 0.002  # what answers within this, as nearly all do, spares the event loop some turns

FILESYSTEM: Fields = {
    "mountpoint": "string: where it is mounted",
    "device": "string: what is mounted: a device, a server's export, or a name",
    "type": "string: ext4, xfs, nfs4, …",
    "read_only": "bool: whether it is mounted read-only as a whole, as the kernel does after errors",
    "options": "string: how it is mounted there, such as rw,relatime",
    "hung": "bool: whether it does not answer; then there are no figures, and it is not asked again until it does",
    "error": "string: why there are no figures otherwise: the name of the error, such as EACCES or ESTALE",
    "total_bytes": "int: its size, bytes",
    "used_bytes": "int: what is in use, bytes",
    "available_bytes": "int: what users other than root can still have, bytes",
    "used_percent": "double: share in use of what is used or available, as df has it but not rounded up, percent",
    "inodes_total": "int: files that it can hold; missing where it has no such limit",
    "inodes_used_percent": "double: share of them in use, percent; missing likewise",
}

Answer = os.statvfs_result | OSError


@dataclass(slots=True, eq=False)
class _Call:
    path: bytes
    answer: Future[Answer] = field(default_factory=Future)
    late: bool = False

    def __post_init__(self) -> None:
        self.answer.set_running_or_notify_cancel()  # whoever stops waiting for it does not cancel it


class Asking:
    """Asks mounts in threads of their own: one for all that answer, and one for each whose call hangs.

    A mount is not asked again while a call of it hangs. One such object serves the whole process, since a hung call
    outlives the emitter that made it.
    """

    def __init__(self, statvfs: Callable[[bytes], os.statvfs_result]) -> None:
        self._statvfs = statvfs
        self._calls: dict[bytes, _Call] = {}

    async def ask(self, paths: Sequence[bytes], clock: Clock, patience: float) -> dict[bytes, Answer]:
        """Return the answers that come within `patience` seconds. Mounts known to hang are not waited for."""
        hanging = self._calls.copy()  # any of them may end at any moment
        queue = deque(_Call(path) for path in paths if path not in hanging)
        new = {call.path: call for call in queue}
        self._calls |= new
        calls = [hanging.get(path) or new[path] for path in paths]
        self._work(queue)
        waiting = wait([call.answer for call in calls if not call.late], _AT_ONCE).not_done
        if waiting:
            for _ in range(len(queue)):  # nobody waits behind one that may hang
                self._work(queue)
            await self._wait([asyncio.wrap_future(answer) for answer in waiting], clock, patience)
        answers = {call.path: call.answer.result() for call in calls if call.answer.done()}
        for call in calls:
            call.late = call.path not in answers
        return answers

    def ask_at_once(self, path: bytes) -> Answer:
        """Return the answer of a mount that cannot keep anybody waiting."""
        try:
            return self._statvfs(path)
        except OSError as exc:
            return exc

    @staticmethod
    async def _wait(answers: Sequence[asyncio.Future[Answer]], clock: Clock, patience: float) -> None:
        deadline = asyncio.create_task(clock.until(clock.now() + patience), name="patience")
        everyone = asyncio.create_task(asyncio.wait(answers), name="answers")
        try:
            await asyncio.wait((everyone, deadline), return_when=asyncio.FIRST_COMPLETED)
        finally:
            everyone.cancel()
            deadline.cancel()
            for answer in answers:
                answer.cancel()

    def _work(self, queue: deque[_Call]) -> None:
        """Start a thread that makes the calls of the queue until none is left."""
        try:
            if queue:
                # A daemon: the process must be able to end while a call hangs.
                threading.Thread(target=self._make, args=(queue, self._named), daemon=True).start()
        except RuntimeError:  # there are too many threads
            self._make(queue, _refuse)

    def _make(self, queue: deque[_Call], statvfs: Callable[[bytes], os.statvfs_result]) -> None:
        while True:
            try:
                call = queue.popleft()
            except IndexError:  # others may work at the same queue
                return
            try:
                answer: Answer = statvfs(call.path)
            except OSError as exc:
                answer = exc
            call.answer.set_result(answer)
            del self._calls[call.path]

    def _named(self, path: bytes) -> os.statvfs_result:
        threading.current_thread().name = f"statvfs {text(path)}"  # so that it can be seen which one hangs
        return self._statvfs(path)


def _refuse(path: bytes) -> os.statvfs_result:
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


class Filesystems:
    """A record of each file system at each look; of those whose mountpoints match `patterns`, if there are any."""

    def __init__(
        self, patterns: Sequence[str], asking: Asking, clock: Clock, patience: float, opened: ExitStack
    ) -> None:
        self._patterns = patterns
        self._asking = asking
        self._clock = clock
        self._patience = patience
        self._mountinfo = ProcFile("/proc/self/mountinfo", opened)
        self._changes = select.poll()
        self._changes.register(self._mountinfo.fd, select.POLLPRI)  # see proc_pid_mounts(5)
        self._read_only: frozenset[bytes] = frozenset()
        self._mounts: list[Mount] = []
        self._refresh()

    async def look(self, now: float) -> list[dict[str, Any]]:
        if self._changes.poll(0):
            self._refresh()
        answers = {mount.path: self._asking.ask_at_once(mount.path) for mount in self._mounts if _at_hand(mount)}
        if rest := [mount.path for mount in self._mounts if not _at_hand(mount)]:
            answers |= await self._asking.ask(rest, self._clock, self._patience)
        if (read_only := _read_only(answers)) != self._read_only:  # not everything that makes one so is announced
            self._read_only = read_only
            self._refresh()
        found = [(mount, answers.get(mount.path)) for mount in self._mounts]
        return [_described(mount) | _told(answer) for mount, answer in found if self._counts(answer)]

    def _refresh(self) -> None:
        self._mounts = chosen(in_sight(list(parse(self._mountinfo.lines()))), self._patterns)

    def _counts(self, answer: Answer | None) -> bool:
        """Tell whether it is still there and, unless it was named, has any size."""
        if isinstance(answer, OSError):
            return answer.errno not in (errno.ENOENT, errno.ENOTDIR)
        return answer is None or answer.f_blocks > 0 or bool(self._patterns)


def _at_hand(mount: Mount) -> bool:
    return mount.type in _FROM_MEMORY


def _read_only(answers: Mapping[bytes, Answer]) -> frozenset[bytes]:
    return frozenset(
        path for path, answer in answers.items() if not isinstance(answer, OSError) and answer.f_flag & os.ST_RDONLY
    )


def _described(mount: Mount) -> dict[str, Any]:
    return {
        "mountpoint": mount.mountpoint,
        "device": text(mount.device),
        "type": text(mount.type),
        "read_only": mount.read_only,
        "options": mount.options.decode(errors="backslashreplace"),
    }


def _told(answer: Answer | None) -> dict[str, Any]:
    if answer is None:
        return {"hung": True}
    if isinstance(answer, OSError):
        return {"hung": False, "error": errno.errorcode.get(answer.errno or 0, str(answer.errno))}
    return {"hung": False} | figures(answer)


def figures(found: os.statvfs_result) -> dict[str, Any]:
    """Return what statvfs(3) says of size and inodes, by the arithmetic of df."""
    used, available = found.f_blocks - found.f_bfree, found.f_bavail
    told: dict[str, Any] = {
        "total_bytes": found.f_blocks * found.f_frsize,
        "used_bytes": used * found.f_frsize,
        "available_bytes": available * found.f_frsize,
    }
    if used + available:
        told["used_percent"] = round(100 * used / (used + available), 3)
    if found.f_files:
        told["inodes_total"] = found.f_files
        told["inodes_used_percent"] = round(100 * (found.f_files - found.f_ffree) / found.f_files, 3)
    return told
