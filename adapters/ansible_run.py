"""The process that runs ansible once: `python -m adapters.ansible_run FOLDER` does what is ordered there.

It outlives who started it, and keeps in the folder how it ended, whatever happens short of SIGKILL.
"""

import ctypes
import json
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml

from adapters.ansible_events import Tail, encoded
from adapters.ansible_record import Order, Outcome, Record, end_all, remains

_SET_CHILD_SUBREAPER = 36  # see prctl(2)
_END_WITHIN = 3.0
_SYSTEM_SETTINGS = Path("/etc/ansible/ansible.cfg")


class _Unsafe(str):
    """Text from outside, which ansible must not take for a template of its own."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Writes YAML for ansible."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


_Dumper.add_representer(_Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text), style='"'))


def _unsafe(value: Any) -> Any:
    """Mark all text in a value, keys as well, with ansible's tag for what is never a template."""
    if isinstance(value, str):
        return _Unsafe(value)
    if isinstance(value, list):
        return [_unsafe(item) for item in value]
    if isinstance(value, dict):
        return {_unsafe(key): _unsafe(item) for key, item in value.items()}
    return value


def lay_out(order: Order, run: Path) -> dict[str, Any]:
    """Write what ansible is to read into a fresh directory; return what the runner is to be called with.

    Values stand in files only: command lines are for all to see.
    """
    run.mkdir(mode=0o700)
    (run / "env").mkdir(mode=0o700)
    (run / "tmp").mkdir(mode=0o700)
    (run / "ansible.cfg").touch()
    inventory = order.inventory or str(_localhost(order, run))
    if order.module is None:
        _dump(run / "env" / "extravars", {name: _unsafe(value) for name, value in order.values.items()})
        playbook = str(order.playbook)
    else:
        task = {"name": order.module, order.module: _unsafe(order.values)}
        hosts = order.host if order.inventory else "localhost"
        playbook = str(run / "play.yml")
        _dump(run / "play.yml", [{"hosts": hosts, "gather_facts": False, "tasks": [task]}])
    called = {"private_data_dir": str(run), "ident": "run", "playbook": playbook, "inventory": inventory}
    if order.inventory and order.host:
        called["limit"] = order.host
    return {**called, "quiet": True, "settings": {"suppress_output_file": True}}


def _localhost(order: Order, run: Path) -> Path:
    """Write the inventory of this host alone, reached without a connection."""
    here = {"ansible_connection": "local", "ansible_python_interpreter": order.python or sys.executable}
    hosts = {"localhost": here | {"ansible_remote_tmp": str(run / "tmp")}}
    path = run / "inventory.json"
    path.write_text(json.dumps({"all": {"hosts": hosts}}))
    return path


def _dump(path: Path, data: Any) -> None:
    path.write_text(yaml.dump(data, Dumper=_Dumper, width=sys.maxsize, sort_keys=False))


def _environment(order: Order, run: Path) -> dict[str, str]:
    """Return what ansible finds in its environment: above all no settings from a directory that others may write."""
    given = {
        "ANSIBLE_CONFIG": str(_SYSTEM_SETTINGS if _SYSTEM_SETTINGS.is_file() else run / "ansible.cfg"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",  # the runner's own default is not to check
        "ANSIBLE_LOCAL_TEMP": str(run / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
    }
    return given | ({"ANSIBLE_PYTHON_INTERPRETER": order.python} if order.python else {})


def _is_one_host(name: str, inventory: str) -> bool:
    """Tell whether it reaches one host that the inventory lists: a group's name reaches all that are in the group."""
    # Only now, since ansible reads its settings from the environment as it is imported; it ships no annotations.
    from ansible.inventory.manager import InventoryManager  # type: ignore[import-untyped]
    from ansible.parsing.dataloader import DataLoader  # type: ignore[import-untyped]
    from ansible.plugins.loader import init_plugin_loader  # type: ignore[import-untyped]

    init_plugin_loader()  # an inventory may be read by a collection's plugin
    found = InventoryManager(DataLoader(), inventory)
    if name not in found.hosts or name in found.groups:  # ansible makes up a localhost that is not listed
        return False
    return [host.name for host in found.list_hosts(name)] == [name]


def play(order: Order, run: Path, tail: Tail, stop: threading.Event) -> Outcome:
    """Run it to its end; once `stop` is set, nothing is started any more."""
    import ansible_runner  # whatever is wrong with it, the outcome tells

    def about_to_start(_status: Any, **_more: Any) -> None:
        if stop.is_set():
            raise InterruptedError("told to stop")

    called = lay_out(order, run)
    os.environ.update(_environment(order, run))
    if order.inventory and order.host and not _is_one_host(order.host, order.inventory):
        return Outcome("failed", reason=f"'{order.host}' is no one host of the inventory")
    done = ansible_runner.run(event_handler=tail.add, status_handler=about_to_start, **called)
    if done.rc == 0:
        return Outcome("successful", 0, tail.stats, tail.events)
    away = tail.stats.get("dark") and not tail.stats.get("failures")
    return Outcome("unreachable" if away else "failed", done.rc, tail.stats, tail.events, tail.reason)


class _Bell:
    """Wakes the main thread: a pipe, since a signal's handler may not take a lock."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def ring(self, why: bytes) -> None:
        os.write(self._write, why)

    def wait(self, until: float) -> bytes:
        """Return why it rang first, or nothing once it is too late."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        return os.read(self._read, 1) if poll.poll(max(0.0, until - time.monotonic()) * 1000) else b""


def main(folder: str) -> None:
    """Do it, unless another process was first."""
    bell = _Bell()
    signal.signal(signal.SIGTERM, lambda _number, _frame: bell.ring(b"c"))
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # whatever its parents do, we find it below us
    record, tail = Record(Path(folder)), Tail()
    order = record.order()
    if not record.begin():
        return
    outcomes: list[Outcome] = []
    stop = threading.Event()

    def work() -> None:
        try:
            outcomes.append(play(order, record.run, tail, stop))
        except BaseException as exc:  # noqa: BLE001  whatever it is, the outcome must be told
            outcomes.append(Outcome("failed", reason=f"{type(exc).__name__}: {exc}"))
        bell.ring(b"d")

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    why = bell.wait(order.until)
    if why == b"d":
        outcome = outcomes[0]
    else:
        stop.set()
        left = "" if _end(record, worker) else ", and not all of its processes could be ended"
        said = "it was told to stop" if why else "it took too long"
        outcome = Outcome("canceled" if why else "timeout", None, tail.stats, tail.events, said + left)
    record.end(encoded(msgspec.to_builtins(outcome)), tidy=not remains(record, os.getpid()))
    os._exit(0)  # the other thread may wait for what could not be ended


def _end(record: Record, worker: threading.Thread) -> bool:
    """End all that was started, and all that is being started; False if something is left."""
    until = time.monotonic() + _END_WITHIN
    while time.monotonic() < until:
        if end_all(record, os.getpid()) and not worker.is_alive():
            return True
        worker.join(0.01)
    return False


if __name__ == "__main__":
    main(sys.argv[1])
