"""Reaches hosts through Ansible: playbooks and modules from a catalogue, each run in a process of its own."""

import asyncio
import importlib.util
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec

from adapters.ansible_record import MARK, Order, Outcome, Record, end_all, prune
from exhaust.documents.nodes import Fault, Scalar
from exhaust.errors import AdapterError
from exhaust.plugins import Adapter, Settings, Task
from exhaust.processes import Process, ended, has_ended, reap, send, spawn
from exhaust.settings import INVALID, Context, Invalid
from exhaust.text import clean

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOST = re.compile(r"(?!(?:all|ungrouped)$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")  # never a pattern of several
_ARGUMENT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # what begins with _ steers ansible itself
_MOST = 500
_PATIENCE = 8.0


class FileForm:
    """Binds the path of a file that lies beside the configuration, or anywhere if it is absolute."""

    expected = "a path"
    schema: ClassVar = {"type": "string", "minLength": 1}
    takes = (Scalar,)

    def bind(self, node: Scalar, path: str, faults: list[Fault], _context: Context) -> Path | Invalid:
        if isinstance(node.value, str) and node.value and "\0" not in node.value:
            return Path(node.at.file).absolute().parent / node.value
        faults.append(node.at.fault(f"expected {self.expected}", path))
        return INVALID


Variable = Annotated[str, msgspec.Meta(pattern=r"^(?!ansible_)[A-Za-z_][A-Za-z0-9_]*$")]  # those steer connections
ModuleName = Annotated[str, msgspec.Meta(pattern=r"^[a-z_][a-z0-9_]*(\.[a-z0-9_]+){0,9}$")]


class Playbook(Settings, frozen=True, kw_only=True):
    """A playbook that may be run, and the variables that it may be given."""

    file: Annotated[Path, FileForm()]
    vars: list[Variable] = []


class Ansible(Settings, frozen=True, kw_only=True):
    """What may be run, by name, and where: without an inventory on this host alone, by no connection at all.

    `python` is the interpreter for modules on the hosts, unless the inventory names one.
    """

    playbooks: dict[str, Playbook] = {}
    modules: list[ModuleName] = []
    inventory: Annotated[Path, FileForm()] | None = None
    python: Annotated[str, msgspec.Meta(pattern="^/")] | None = None
    state: str = ""


class Play(Settings, frozen=True, kw_only=True):
    """What a task says under `with` to run a playbook. Values are never taken for templates."""

    playbook: str
    vars: dict[str, Any] = {}


class Module(Settings, frozen=True, kw_only=True):
    """What a task says under `with` to run one module on the task's host. Values are never taken for templates."""

    module: str
    args: dict[str, Any] = {}


def _missing() -> str:
    """Looked for, not imported: that takes a third of a second."""
    there = importlib.util.find_spec("ansible") and importlib.util.find_spec("ansible_runner")
    return "" if there else "ansible is not installed here: pip install 'exhaust-loop[ansible]'"


async def act(settings: Ansible, task: Task) -> dict[str, Any]:
    """Run it, or return what became of it if this key was done before; `{status, rc, stats, events}`.

    A run outlives us if we die: asked for its key again, we wait for it. Cut off, it is ended with all its processes.
    Raises AdapterError where it failed, with `retry` where hosts were unreachable, and nothing else went wrong.
    """
    record = Record(Path(settings.state) / "ansible" / task.key)
    await asyncio.to_thread(prune, record.folder.parent, task.time)
    known = await _look(record)
    if known is None:
        order = _order(settings, task)
        await asyncio.to_thread(_prepare, record, order)
        await _attend(os.pidfd_open(_start(record).pid), record)
        known = await _look(record)
    if isinstance(known, Process):
        pidfd = known.open()
        if pidfd is not None:
            await _attend(pidfd, record)
        known = await _look(record)
    return _told(known, task, record)


async def _look(record: Record) -> Outcome | Process | None:
    try:
        return await asyncio.to_thread(record.look)
    except AdapterError:  # who was at it is gone; what it started must not go on unseen
        await asyncio.to_thread(end_all, record)
        raise


def _told(outcome: Outcome | Process | None, task: Task, record: Record) -> dict[str, Any]:
    if not isinstance(outcome, Outcome):
        raise AdapterError(f"ansible could not be started: {_last_line(record.log)}")
    output = {"status": outcome.status, "rc": outcome.rc, "stats": outcome.stats, "events": outcome.events}
    if outcome.status != "successful":
        what = task.params.get("playbook") or task.params.get("module")
        reason = clean(outcome.reason or f"exit {outcome.rc}", _MOST)
        again = outcome.status == "unreachable"
        raise AdapterError(f"'{what}' {outcome.status}: {reason}", retry=again, output=output)
    return output


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace")[-_MOST:].split("\n")
    except OSError:
        lines = []
    return clean(next((line for line in reversed(lines) if line.strip()), "it said nothing"), _MOST)


# What is ordered

T = TypeVar("T", Play, Module)


def _order(settings: Ansible, task: Task) -> Order:
    """Return what is to be run. Raises AdapterError where the catalogue does not have it."""
    if what := _missing():
        raise AdapterError(what)
    if settings.inventory is not None and task.host is not None and not _HOST.fullmatch(task.host):
        raise AdapterError(f"'{clean(task.host, 100)}' is no name of one host")
    until = time.monotonic() + task.timeout - min(1.0, task.timeout / 10)  # so that we know its end
    where = {"inventory": _text(settings.inventory), "host": task.host, "python": settings.python}
    if task.do == "playbook":
        given = _params(task, Play)
        playbook = settings.playbooks.get(given.playbook)
        if playbook is None:
            raise AdapterError(_unknown("playbook", given.playbook, settings.playbooks))
        if extra := sorted(set(given.vars) - set(playbook.vars)):
            raise AdapterError(_unknown(f"variable of '{given.playbook}'", extra[0], playbook.vars))
        return Order(given.vars, until, playbook=str(playbook.file), **where)
    wanted = _params(task, Module)
    if wanted.module not in settings.modules:
        raise AdapterError(_unknown("module", wanted.module, settings.modules))
    if wrong := next((name for name in wanted.args if not _ARGUMENT.fullmatch(name)), None):
        raise AdapterError(f"'{clean(wrong, 100)}' is no argument of a module")
    if settings.inventory is not None and task.host is None:
        raise AdapterError("a module needs the host that it is to run on: give the task a 'host'")
    return Order(wanted.args, until, module=wanted.module, **where)


def _params(task: Task, type_: type[T]) -> T:
    try:
        if extra := set(task.params) - {field.name for field in msgspec.structs.fields(type_)}:
            raise AdapterError(f"'{clean(min(extra), 100)}' is unknown to '{task.do}'")
        return msgspec.convert(task.params, type_)
    except msgspec.ValidationError as exc:
        raise AdapterError(f"'{task.do}' cannot be done so: {exc}") from exc


def _unknown(what: str, name: str, known: Any) -> str:
    listed = ", ".join(sorted(known)) or "nothing"
    return f"{what} '{clean(name, 100)}' is not in the catalogue: there is {listed}"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


# The process


def _prepare(record: Record, order: Order) -> None:
    for path in filter(None, (order.playbook, order.inventory)):
        if not Path(path).exists():
            raise AdapterError(f"{path}: there is no such file")
    try:
        record.prepare(order)
    except OSError as exc:
        raise AdapterError(f"{record.folder} cannot be written: {exc.strerror}", retry=True) from exc
    except TypeError as exc:
        raise AdapterError(f"values must be plain data: {exc}") from exc


def _start(record: Record) -> Process:
    """Start the process that does what was prepared; it has nothing of our environment."""
    home = {"HOME": str(Path.home()), "LANG": "C.UTF-8", MARK: str(record.folder)}
    env = {"PATH": f"{Path(sys.executable).parent}:{_PATH}", **home}
    argv = [sys.executable, "-P", "-m", "adapters.ansible_run", str(record.folder)]
    try:
        log = os.open(record.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            return spawn(argv, env=env, cwd=str(record.folder), stdout=log, stderr=log)
        finally:
            os.close(log)
    except OSError as exc:
        raise AdapterError(f"ansible could not be started: {exc.strerror}", retry=True) from exc


async def _attend(pidfd: int, record: Record) -> None:
    """Return when it has ended. If we are cut off, it is, with all that it started."""
    try:
        await ended(pidfd)
    except asyncio.CancelledError:
        await _cut_off(pidfd, record)
        raise
    finally:
        if has_ended(pidfd):
            reap(pidfd)
        os.close(pidfd)


async def _cut_off(pidfd: int, record: Record) -> None:
    send(pidfd, signal.SIGTERM)
    try:
        async with asyncio.timeout(_PATIENCE):
            await ended(pidfd)
    except TimeoutError:
        send(pidfd, signal.SIGKILL)
        await asyncio.to_thread(end_all, record)


ANSIBLE = Adapter(
    "ansible", Ansible, actions={"playbook": Play, "module": Module}, mutates=True, act=act, missing=_missing
)
