"""What comes in is bad, or what is needed is missing: it is said, and the loop goes on or comes back."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from benchmarks.node import Node, free_port
from exhaust.routing import EXCHANGES
from tests.system.installation import ROOT, Installation

EXHAUST = (sys.executable, "-m", "exhaust.main")
WITHIN = 30.0
# Undecodable, no object, no kind of ours, a kind without its fields, one of a wrong type, deep, and long.
BODIES = (
    b"",
    b"\xff\xfe\x00",
    b"[]",
    b'{"kind": "gossip/9", "id": "a", "time": 1}',
    b'{"kind": "fact/1", "id": "a", "time": 1}',
    b'{"kind": "batch/1", "id": [], "time": "now"}',
    b"[" * 100_000,
    b'{"kind": "fact/1", "id": "' + b"a" * 1_000_000,
)
KEYS = ("home.service.state", "fact.home.service.down", "restart", "home", "order.halt", "execution.restart.ended")


@pytest.fixture
def node() -> Iterator[Node]:
    with Node() as private:
        yield private


async def heals(installation: Installation) -> None:
    """Kill the service: the loop brings it back, and says so."""
    await installation.until(installation.is_ready)
    death, _ = installation.kill_service()
    await installation.rest(death)


async def poison(url: str) -> None:
    """Send every bad body to every exchange with every key, and records that lack what is asked of them."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        numbers = itertools.count()
        for name in EXCHANGES:
            exchange = await channel.get_exchange(name)
            for key, body in itertools.product(KEYS, BODIES):
                message = aio_pika.Message(body, message_id=f"bad-{next(numbers)}", type="fact/1")
                await exchange.publish(message, key, mandatory=False)
        records = [{}, {"service": None}, {"service": "shop", "time": "noon"}, {"service": {"a": []}}]
        batch = {"kind": "batch/1", "id": "lean", "time": time.time(), "host": "home", "emitter": "service"}
        batch |= {"stream": "state", "epoch": 1, "seq": 0, "records": records}
        headers: dict[str, aio_pika.abc.FieldValue] = {
            "host": "home",
            "emitter": "service",
            "stream": "state",
            "epoch": 1,
            "seq": 0,
            "count": 4,
        }
        headers |= {"dropped": 0, "schema": 1}
        telemetry = await channel.get_exchange("exhaust.telemetry")
        lean = aio_pika.Message(json.dumps(batch).encode(), message_id="lean", type="batch/1", headers=headers)
        await telemetry.publish(lean, "home.service.state")


async def test_what_cannot_be_read_is_set_aside_and_the_loop_goes_on(tmp_path: Path, node: Node) -> None:
    async with Installation(tmp_path, node.url) as installation:
        pids = installation.pids()
        await poison(node.url)
        await heals(installation)

        async def refused() -> bool:
            told = [await installation.status(name) for name in ("analyzers", "activator", "orchestrator", "agent")]
            rows = [row for one in told if one for row in one["services"].values()]
            return len(rows) == 4 and all(sum(row["refused"].values()) > 0 for row in rows)

        await installation.until(refused)
        letters = await installation.items("dead-letters")
        readers = {letter["queue"].split(".")[1] for letter in letters if letter["queue"]}
        assert readers >= {"collector", "analyzers", "activator", "orchestrator", "agent"}
        assert all(letter["reason"] for letter in letters if letter["queue"])
        assert sum(letter["size"] for letter in letters) <= 64 << 20
        assert installation.pids() == pids, "nobody died of it"


async def test_a_broker_that_is_not_there_is_said_and_waited_for(tmp_path: Path) -> None:
    port = free_port()
    installation = Installation(tmp_path, f"amqp://guest:guest@127.0.0.1:{port}/")

    async def told() -> bool:
        status = await installation.status("analyzers")
        return status is not None and status["state"] == "not_ready" and "refused" in json.dumps(status)

    try:
        await installation.start()
        await installation.until(told)
        with Node(port=port):
            async with installation:
                await heals(installation)
    finally:
        installation.end()


def exhaust(*argv: str, config: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; one that goes on for too long is stopped, as an operator would."""
    (folder / "site.yaml").write_text(config)
    with subprocess.Popen(
        [*EXHAUST, *argv, "--config", str(folder / "site.yaml")],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=WITHIN)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=WITHIN)
            pytest.fail(f"it did not end by itself: {out}{err}")
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


@pytest.mark.parametrize("command", [("up",), ("run", "collector")])
def test_a_state_directory_that_cannot_be_made_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    broker = "embedded" if command == ("up",) else "amqp://127.0.0.1:1/"
    done = exhaust(*command, config=f"state: file/state\nbroker: '{broker}'\n", folder=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert re.search(r"file/state.*: Not a directory", line)


@pytest.mark.parametrize("command", [("up",), ("run", "collector")])
def test_a_bad_configuration_starts_and_makes_nothing(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = exhaust(*command, config="state: state\nrules: [{name: a, on: b, run: c}]\n", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no workflow is called 'c'" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["site.yaml"]


async def test_a_port_that_is_in_use_is_said_and_the_loop_heals_without_it(tmp_path: Path) -> None:
    installation = Installation(tmp_path, "embedded")
    taken = f"127.0.0.1:{installation.port}: "
    with socket.socket() as other:
        other.bind(("127.0.0.1", installation.port))
        other.listen()
        await installation.start()

        async def told() -> bool:
            status = await installation.status("all")
            return status is not None and taken in json.dumps(status["services"]["collector"])

        async def restarted() -> bool:
            return len(installation.alive()) == 1 and len(installation.starts()) == 2

        try:
            await installation.until(told)
            os.kill(installation.starts()[0].pid, signal.SIGKILL)
            await installation.until(restarted)
        except BaseException:
            installation.end()
            raise
    async with installation:
        await heals(installation)


def mount(*options: str) -> None:
    subprocess.run(["/usr/bin/mount", *options], check=True)


def unmount(path: Path) -> None:
    subprocess.run(["/usr/bin/umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    """Take all the room that there is."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as out:
        while out.write(bytes(4096)):
            pass


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk to fill")
    path.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path))
    try:
        yield
    finally:
        unmount(path)


async def test_a_full_disk_is_said_and_once_there_is_room_the_loop_heals_as_before(tmp_path: Path) -> None:
    disk = tmp_path / "state"
    with small_disk(disk, "64m"):
        async with Installation(tmp_path, "embedded") as installation:
            filler = disk / "filler"
            fill(filler)
            installation.kill_service()

            async def said() -> bool:
                told = installation.log.read_text()
                return "No space left on device" in told or "disk is full" in told

            await installation.until(said)
            filler.unlink()
            await installation.until(installation.is_ready)
            assert len(installation.alive()) == 1
            await heals(installation)


async def test_a_spool_that_has_no_room_says_so_and_goes_on_once_there_is(tmp_path: Path, node: Node) -> None:
    disk = tmp_path / "state" / "spool"
    with small_disk(disk, "4m"):
        installation = Installation(tmp_path, node.url)

        async def spool() -> dict[str, Any]:
            status = await installation.status("emitters")
            found: dict[str, Any] = (status or {"services": {}})["services"].get("emitters", {}).get("spool", {})
            return found

        async def refused() -> bool:
            told = await spool()
            return "No space left on device" in told.get("last_error", "") and told["dropped"].get("disk_full", 0) > 0

        try:
            await installation.start()
            await installation.until(refused)
            pid = installation.pids()["emitters"]
            mount("-o", "remount,size=64m", str(disk))
            async with installation:
                await heals(installation)
                assert installation.pids()["emitters"] == pid, "it stayed up"
                assert (await spool())["last_error"] == ""
        finally:
            installation.end()
