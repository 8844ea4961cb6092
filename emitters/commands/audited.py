"""Executions as the kernel audits them: the records of an event put together, and audit set up for that."""

import errno
import logging
import platform
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emitters.commands.before import Before
from emitters.kernel import audit
from emitters.kernel.audit import CWD, END, EXECVE, PATH, SYSCALL, Line, fields, plain
from emitters.kernel.channel import Channel
from emitters.kernel.netlink import MalformedError

log = logging.getLogger(__name__)

KEY = "exhaust"
MOST_BYTES = 96 << 10  # of an event's arguments
_MOST_EVENTS = 1000
_PATIENCE = 2.0  # seconds for the rest of an event
_BACKLOG = 8192
_REST = 0.25  # seconds for which records may gather in the kernel: an execution has seven of them
_ASK_AGAIN = 10.0
_UNSET = 0xFFFFFFFF
_ARGUMENT = re.compile(rb"a([0-9]{1,9})(?:\[[0-9]{1,9}\])?")
_TERMINAL = re.compile(r"(pts)([0-9]+)")


@dataclass(slots=True)
class _Event:
    time: float
    came: float
    call: Mapping[bytes, bytes]
    arguments: list[tuple[int, bytes]] = field(default_factory=list)
    size: int = 0
    cut: bool = False
    cwd: bytes = b""
    path: bytes = b""


class Events:
    """Puts together what the kernel tells of an execution in several records, each by itself among those of others."""

    def __init__(self) -> None:
        self._events: OrderedDict[int, _Event] = OrderedDict()

    def __len__(self) -> int:
        return len(self._events)

    def add(self, line: Line, now: float) -> Iterator[dict[str, Any]]:
        """Take a record in; yield the fields of the execution that it completes, or that had to make room for it."""
        if line.kind == SYSCALL:
            call = dict(fields(line.text))
            if not audit.executes(call.get(b"arch", b""), call.get(b"syscall", b"")):
                return
            if len(self._events) >= _MOST_EVENTS:
                yield _execution(self._events.popitem(last=False)[1], ended=False)
            self._events[line.serial] = _Event(line.time, now, call)
        elif (event := self._events.get(line.serial)) is None:
            return
        elif line.kind == END:
            yield _execution(self._events.pop(line.serial), ended=True)
        else:
            _note(event, line)

    def aged(self, now: float) -> Iterator[dict[str, Any]]:
        """Yield those of which the rest was to be waited for in vain."""
        for serial, event in list(self._events.items()):
            if not event.came <= now < event.came + _PATIENCE:
                yield _execution(self._events.pop(serial), ended=False)


def _note(event: _Event, line: Line) -> None:
    if line.kind == EXECVE:
        for name, value in fields(line.text):
            if (found := _ARGUMENT.fullmatch(name)) is None:
                continue
            event.size += len(value) + 8
            if event.size > MOST_BYTES:
                event.cut = True
                return
            event.arguments.append((int(found[1]), plain(value)))
    elif line.kind == CWD:
        event.cwd = plain(dict(fields(line.text)).get(b"cwd", b""))
    elif line.kind == PATH and not event.path:
        event.path = plain(dict(fields(line.text)).get(b"name", b""))


def _execution(event: _Event, *, ended: bool) -> dict[str, Any]:
    """Return the fields of an execution; `argv` is missing where its record is."""
    call = event.call
    found: dict[str, Any] = {"time": event.time, "evidence": "audit"}
    for name, known in ((b"pid", "pid"), (b"ppid", "ppid"), (b"uid", "uid"), (b"gid", "gid"), (b"auid", "login_uid")):
        with suppress(ValueError):
            number = int(call.get(name, b""))
            if number != _UNSET:
                found[known] = number
    with suppress(ValueError):
        code = -int(call.get(b"exit", b"0"))
        if code > 0:
            found["error"] = errno.errorcode.get(code, str(code))
    failed = "error" in found
    program = event.path if failed else plain(call.get(b"exe", b""))
    texts = {"program": program, "cwd": event.cwd, "name": b"" if failed else plain(call.get(b"comm", b""))}
    found |= {name: _text(value) for name, value in texts.items() if value}
    if (terminal := plain_terminal(call.get(b"tty", b""))) != "":
        found["tty"] = terminal
    arguments: dict[int, bytes] = {}
    for at, value in event.arguments:
        arguments[at] = arguments.get(at, b"") + value
    if arguments:
        found["argv"] = [_text(arguments[at]) for at in sorted(arguments)]
    found["complete"] = ended and (bool(arguments) or failed) and not event.cut
    return found | ({"cut": True} if event.cut else {})


def plain_terminal(value: bytes) -> str:
    """Return a terminal by the name that it has in /dev; audit leaves out the slash."""
    name = _text(plain(value)) if value.startswith(b'"') else _text(value)
    return "" if name in ("(none)", "?") else _TERMINAL.sub(r"\1/\2", name)


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


class Audited:
    """Hears executions while it is open. Raises OSError where audit cannot be had, or is locked without our rule.

    What was found is there again at the end: whether audit was on, the rules, and how it treats who makes records
    faster than they are taken: without a daemon nobody is to wait for us. Then the kernel also prints some records to
    its own log, ten lines in five seconds at most. What was found is written to `note`, if that is given, for
    `Before.put_back_noted`.
    """

    def __init__(self, arrived: Callable[[], None], note: Path | None = None) -> None:
        self._events = Events()
        self._found = audit.status()
        self._note = note
        self._channel = Channel(audit.listen(), arrived, rest=_REST)
        self._told, self._asked, self._backlog_lost = self._found.lost, 0.0, 0
        self._before = Before.of(self._found, [])
        try:
            for rule in audit.rules(KEY):
                if audit.add(rule):
                    self._before = Before.of(self._found, [*self._before.rules, rule])
                    self._before.note(note)
            self._before.note(note)
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        if self._found.pid == 0:
            audit.set_up(backlog=max(_BACKLOG, self._found.backlog_limit), patience=0)
        if not self._found.enabled:
            audit.set_up(enabled=1)

    def close(self) -> None:
        """Put everything back that is not as it was found."""
        self._before.put_back(self._note)
        self._channel.close()

    def take(self, now: float) -> Iterator[dict[str, Any]]:
        """Yield the fields of the executions that are known by now."""
        for datagram in self._channel.take():
            try:
                yield from self._events.add(audit.line(datagram), now)
            except MalformedError as exc:
                log.debug("a record of the audit cannot be read", extra={"error": str(exc)})
        yield from self._events.aged(now)
        if not self._asked <= now < self._asked + _ASK_AGAIN:
            self._asked = now
            self._ask()

    @property
    def waiting(self) -> bool:
        """Whether more records of some event are to come."""
        return len(self._events) > 0

    def lost(self) -> int:
        """Return how many executions were lost since the last call, which is known by their records, so rounded up."""
        records, self._backlog_lost = self._channel.lost() + self._backlog_lost, 0
        return -(-records // audit.MESSAGES)

    def _ask(self) -> None:
        """Ask how many records had no room in audit itself, before they came to anybody."""
        with suppress(OSError):
            lost = audit.status().lost
            self._backlog_lost += max(0, lost - self._told)
            self._told = lost


def why_not() -> str:
    """Say what keeps audit from being used; '' if nothing does."""
    if not audit.rules(KEY):
        return f"audit's numbers on {platform.machine()} are not known here"
    try:
        status = audit.status()
        audit.listen().close()
    except OSError as exc:
        return f"the kernel refuses it: {exc.strerror or exc}"
    return "audit is locked until the next boot" if status.enabled > 1 else ""
