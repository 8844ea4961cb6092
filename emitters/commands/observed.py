"""Executions as the kernel's process connector tells them: a pid alone, so /proc is read at once, often too late."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from emitters.commands.audited import MOST_BYTES
from emitters.commands.shells import login
from emitters.exits.pacct import tty_name
from emitters.exits.witnessed import look, text_of
from emitters.kernel import connector
from emitters.kernel.channel import Channel
from emitters.kernel.connector import EXEC, Event
from emitters.kernel.netlink import MalformedError

log = logging.getLogger(__name__)

_MOST_WAITING = 10_000  # executions that were looked up and not taken yet


class Observed:
    """Hears executions while it is open. Raises OSError where the connector cannot be had."""

    def __init__(self, arrived: Callable[[], None]) -> None:
        self._socket = connector.listen(EXEC)
        self._arrived = arrived
        self._waiting: list[dict[str, Any]] = []
        self._channel = Channel(self._socket, self._came)

    waiting = False

    def close(self) -> None:
        with suppress(OSError):
            connector.ignore(self._socket)
        self._channel.close()

    def take(self, now: float) -> Iterator[dict[str, Any]]:
        """Yield the fields of the executions that are known by now."""
        self._look()
        taken, self._waiting = self._waiting, []
        yield from taken

    def lost(self) -> int:
        return self._channel.lost()

    def _came(self) -> None:
        self._look()
        self._arrived()

    def _look(self) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            return  # what more there is waits in the channel, and then in the kernel, which counts what it drops
        boot = time.time() - time.monotonic()
        for datagram in self._channel.take():
            try:
                self._waiting += [execution(event, boot) for event in connector.events(datagram)]
            except MalformedError as exc:
                log.debug("an event cannot be read", extra={"error": str(exc)})


def execution(event: Event, boot: float) -> dict[str, Any]:
    """Return the fields of an execution, by what is left of its process; `boot` is when the event's seconds began."""
    pid = event.pid
    found: dict[str, Any] = {"time": boot + event.at, "evidence": "connector", "pid": pid, "complete": False}
    with suppress(OSError):  # first, as it is gone first
        if text := text_of(pid, "cmdline", MOST_BYTES + 1):
            found |= {"argv": _words(text[:MOST_BYTES]), "complete": len(text) <= MOST_BYTES}
            found |= {"cut": True} if len(text) > MOST_BYTES else {}
    if (seen := look(pid)) is None:
        return found
    found |= {"name": seen.command, "ppid": seen.ppid, "uid": seen.uid, "gid": seen.gid, **login(pid)}
    if seen.tty:
        found["tty"] = tty_name(os.major(seen.tty), os.minor(seen.tty))
    for name, link in (("program", b"exe"), ("cwd", b"cwd")):
        with suppress(OSError):  # of others only root may know
            # As bytes, since they may be any; a Path would take time that the process may not have.
            found[name] = os.readlink(b"/proc/%d/%b" % (pid, link)).decode(errors="backslashreplace")  # noqa: PTH115
    return found


def _words(text: bytes) -> list[str]:
    return [word.decode(errors="backslashreplace") for word in text.removesuffix(b"\0").split(b"\0")]
