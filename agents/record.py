"""What the helper says of a service: a file of it, which is replaced at each change, and a datagram to who listens."""

import asyncio
import contextlib
import logging
import socket
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

_TRY_AGAIN = 1.0


class Record(msgspec.Struct, frozen=True):
    """A service as it is: `started` is field 22 of /proc/PID/stat, `exit` the status, negative for a signal.

    `exit` is None while it runs, and for one that ended unseen or as another's child.
    """

    name: str
    argv: tuple[str, ...]
    cwd: str | None
    env: dict[str, str]
    wanted: bool
    pid: int | None = None
    started: int | None = None
    exit: int | None = None


_record = msgspec.json.Decoder(Record).decode


class Records:
    """The records of a host's services, in `folder`; `listener` is the socket of who wants to hear of changes."""

    def __init__(self, folder: Path, listener: Path) -> None:
        self.folder = folder
        self._retries: dict[str, asyncio.TimerHandle] = {}
        self._listener = listener

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def read(self, name: str) -> Record | None:
        """Return the record of a service, None if there is none, or it was cut short by a loss of power."""
        try:
            return _record(self.path(name).read_bytes())
        except (OSError, msgspec.MsgspecError):
            return None

    def write(self, record: Record) -> None:
        """Tell whoever listens, at once, as the loop's news of a start begins here; then replace the record.

        Where the disk does not take it, what was done stands all the same, and it is tried again until it does.
        """
        text = msgspec.json.encode(record)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out,
            contextlib.suppress(OSError),
        ):
            out.sendto(text, str(self._listener))
        self._put(record)

    def close(self) -> None:
        """Give up what the disk has not taken: whoever comes next finds the processes by themselves."""
        for retry in self._retries.values():
            retry.cancel()
        self._retries = {}

    def _put(self, record: Record) -> None:
        retry = self._retries.pop(record.name, None)
        if retry is not None:
            retry.cancel()
        fresh = self.path(record.name).with_suffix(".fresh")
        try:
            fresh.write_bytes(msgspec.json.encode(record))
            fresh.replace(self.path(record.name))
        except OSError as exc:
            if retry is None:
                log.error("record cannot be written", extra={"service": record.name, "error": str(exc)})
            again = asyncio.get_running_loop().call_later(_TRY_AGAIN, self._put, record)
            self._retries[record.name] = again
