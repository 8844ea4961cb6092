"""Ansible itself, run by its adapter: what is done once, what a value can do, and what is left after the end."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapters.ansible import Ansible, Playbook, act
from adapters.ansible_record import MARK
from exhaust.errors import AdapterError
from exhaust.plugins import Task
from exhaust.processes import spawn

WITHIN = 60.0
EVIL = "{{ lookup('pipe', 'touch %s') }} $(touch %s) `touch %s`; touch %s & | > ' \" \\ \U0001f600\n--- !x y: {% raw %}"

WRITES = """
- hosts: all
  gather_facts: false
  tasks:
    - copy: {content: "{{ text }}|{{ deep.list[0] }}", dest: "{{ out }}"}
"""
FAILS = """
- hosts: all
  gather_facts: false
  tasks:
    - shell: echo once >> "{{ ran }}"
    - {name: refuse, fail: {msg: "not today: {{ text }}"}}
"""
# One child that leaves the session and its parent, and one that does not; then it waits.
HANGS = """
- hosts: all
  gather_facts: false
  tasks:
    - shell: |
        echo once >> "{{ ran }}"
        (setsid sleep 1000 & echo $! > "{{ ran }}.gone")
        sleep 999 & echo $! > "{{ ran }}.pid"
    - wait_for: {path: "{{ go }}", timeout: 900, sleep: 1}
"""


class Place:
    """A catalogue of playbooks, and the tasks that name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran, self.go = folder / "ran", folder / "go"

    def settings(self, **more: Any) -> Ansible:
        playbooks = {}
        for name, text in {"writes": WRITES, "fails": FAILS, "hangs": HANGS}.items():
            file = self.folder / f"{name}.yml"
            file.write_text(text)
            playbooks[name] = Playbook(file=file, vars=["text", "deep", "out", "ran", "go"])
        return Ansible(playbooks=playbooks, modules=["ansible.builtin.ping"], state=str(self.folder / "state"), **more)

    def task(self, playbook: str, *, host: str | None = None, timeout: float = WITHIN, **values: Any) -> Task:
        given = {"ran": str(self.ran), "go": str(self.go)} if playbook == "hangs" else {}
        params = {"playbook": playbook, "vars": given | values}
        return Task("run", "renew", "playbook", params, host, f"key-of-{playbook}", 1_700_000_000.0, timeout)

    async def begun(self) -> list[int]:
        """Wait for the playbook that hangs; return the pids of what it has started."""
        files = [Path(f"{self.ran}.gone"), Path(f"{self.ran}.pid")]
        await until(lambda: all(file.exists() and file.read_text().endswith("\n") for file in files))
        return [int(file.read_text()) for file in files]

    def processes(self) -> list[psutil.Process]:
        """What runs with this place's mark."""
        mark = f"{MARK}={self.folder}".encode()
        return [process for process in psutil.process_iter() if mark in environment(process.pid) and lives(process.pid)]


def environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN):
        while not true():  # noqa: ASYNC110  files and processes have no event
            await asyncio.sleep(0.02)


def keeper() -> psutil.Process:
    """Return the process that keeps the run under way."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # a child of another test that has ended
            if "adapters.ansible_run" in child.cmdline():
                return child
    raise AssertionError("no run is under way")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("HOME", str(tmp_path))
    place = Place(tmp_path)
    yield place
    left = place.processes()
    for process in left:
        process.kill()
    assert left == []


async def test_a_value_stays_what_it_is_whatever_it_looks_like(place: Place) -> None:
    evil = EVIL.replace("%s", str(place.folder / "touched"))
    deep = {"list": [evil], evil: 1, "__ansible_unsafe": evil}
    task = place.task("writes", text=evil, deep=deep, out=str(place.folder / "out"))
    output = await act(place.settings(), task)
    assert (place.folder / "out").read_text() == f"{evil}|{evil}"
    assert not (place.folder / "touched").exists()
    assert output["status"] == "successful"
    assert output["stats"]["changed"] == {"localhost": 1}
    kept = place.folder / "state" / "ansible" / "key-of-writes"
    assert sorted(file.name for file in kept.iterdir()) == ["begun.json", "log", "outcome.json"]
    assert kept.stat().st_mode & 0o777 == 0o700


async def test_a_module_is_run_with_its_arguments(place: Place) -> None:
    params = {"module": "ansible.builtin.ping", "args": {"data": "{{ 7 * 7 }} $(x)"}}
    task = Task("run", "ping", "module", params, None, "k", 1_700_000_000.0, WITHIN)
    output = await act(place.settings(python=sys.executable), task)
    assert [event["result"]["ping"] for event in output["events"]] == ["{{ 7 * 7 }} $(x)"]


async def test_what_failed_is_told_and_not_done_again_under_its_key(place: Place) -> None:
    task = place.task("fails", text="too late", ran=str(place.ran))
    for _ in range(2):
        with pytest.raises(AdapterError, match="'fails' failed: 'refuse' on localhost: not today: too late") as failed:
            await act(place.settings(), task)
        assert not failed.value.retry
    assert place.ran.read_text() == "once\n"


async def test_only_the_host_that_is_meant_is_reached_and_an_unreachable_one_may_be_tried_again(place: Place) -> None:
    refusing = place.folder / "ssh"
    refusing.write_text("#!/bin/sh\nexit 255\n")
    refusing.chmod(0o755)
    local = f"ansible_connection=local ansible_remote_tmp={place.folder} ansible_python_interpreter={sys.executable}"
    (place.folder / "hosts").write_text(f"web-1 {local}\nweb-2 ansible_ssh_executable={refusing}\n")
    settings = place.settings(inventory=place.folder / "hosts")
    values: dict[str, Any] = {"text": "a", "deep": {"list": ["b"]}, "out": str(place.folder / "out")}
    here, away = place.task("writes", host="web-1", **values), place.task("fails", host="web-2", ran="x", text="")
    reached, missed = await asyncio.gather(*(act(settings, task) for task in (here, away)), return_exceptions=True)
    assert isinstance(reached, dict)
    assert reached["stats"]["ok"] == {"web-1": 1}
    assert not reached["stats"]["dark"]
    assert isinstance(missed, AdapterError)
    assert str(missed).startswith("'fails' unreachable: ")
    assert missed.retry


@pytest.mark.parametrize("host", ["web", "both", "m3", "localhost"], ids=["group", "host too", "unknown", "implied"])
@pytest.mark.parametrize("do", ["playbook", "module"])
async def test_a_name_that_is_not_one_host_of_the_inventory_reaches_none(place: Place, host: str, do: str) -> None:
    local = f"ansible_connection=local ansible_remote_tmp={place.folder} ansible_python_interpreter={sys.executable}"
    lines = [f"both {local}", "[web]", f"m1 {local}", f"m2 {local}", "[both]", "m1", "m2"]
    (place.folder / "hosts").write_text("\n".join(lines) + "\n")
    task = place.task("fails", host=host, text="", ran=str(place.ran))
    if do == "module":
        task = dataclasses.replace(task, do=do, params={"module": "ansible.builtin.ping"})
    with pytest.raises(AdapterError, match=f"failed: '{host}' is no one host of the inventory") as failed:
        await act(place.settings(inventory=place.folder / "hosts"), task)
    assert not failed.value.retry
    assert failed.value.output == {"status": "failed", "rc": None, "stats": {}, "events": []}
    assert not place.ran.exists()


async def test_one_that_takes_too_long_is_ended_and_its_end_is_known(place: Place) -> None:
    for _ in range(2):
        with pytest.raises(AdapterError, match="'hangs' timeout: it took too long") as failed:
            await act(place.settings(), place.task("hangs", timeout=1.0))
        assert not failed.value.retry
        assert place.processes() == []


async def test_one_that_is_cut_off_is_ended_with_all_that_it_started(place: Place) -> None:
    acting = asyncio.create_task(act(place.settings(), place.task("hangs")))
    pids = await place.begun()
    assert all(map(lives, pids))
    acting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acting
    assert not any(map(lives, pids))
    with pytest.raises(AdapterError, match="canceled: it was told to stop"):
        await act(place.settings(), place.task("hangs"))
    assert place.ran.read_text() == "once\n"


async def test_a_run_outlives_who_asked_for_it_and_is_found_again(place: Place) -> None:
    settings, task = place.settings(), place.task("hangs")
    asking = (
        "import asyncio\nfrom pathlib import Path, PosixPath\nfrom adapters.ansible import *\n"
        f"asyncio.run(act({settings!r}, {task!r}))\n"
    )
    process = spawn([sys.executable, "-c", asking], env=dict(os.environ))
    pids = await place.begun()
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)  # noqa: ASYNC222  it is dead
    acting = asyncio.create_task(act(settings, task))
    place.go.touch()
    output = await acting
    assert output["stats"]["ok"] == {"localhost": 2}
    assert place.ran.read_text() == "once\n"
    for pid in pids:  # what a playbook leaves running on purpose stays
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not any(map(lives, pids)))


async def test_where_nobody_knows_the_end_nothing_is_run_again_and_nothing_goes_on(place: Place) -> None:
    acting = asyncio.create_task(act(place.settings(), place.task("hangs")))
    pids = await place.begun()
    keeper().kill()
    with pytest.raises(AdapterError, match="begun before, and its end is unknown") as failed:
        await acting
    assert not failed.value.retry
    assert not any(map(lives, pids))
    with pytest.raises(AdapterError, match="begun before, and its end is unknown"):
        await act(place.settings(), place.task("hangs"))
    assert place.ran.read_text() == "once\n"
