"""The demo as a user runs it: both scenes, every step, on either broker, and nothing left behind."""

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from benchmarks.node import Node
from exhaust.commands.client import Client
from exhaust.configuration import reach
from exhaust.processes import find

WITHIN = 60
FIRST = ["death", "noticed", "fact_opened", "decision", "command", "restarted", "fact_closed", "verdict"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("node"))
    node.start()
    yield node
    node.stop()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a unix socket's has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="x") as path:
        yield Path(path)


async def demo(folder: Path, *more: str) -> asyncio.subprocess.Process:
    argv = (sys.executable, "-m", "exhaust.main", "demo", "--json", *more)
    return await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={"TMPDIR": str(folder), "PATH": ""}
    )


async def told(folder: Path, *more: str) -> tuple[int, list[dict[str, Any]], str]:
    process = await demo(folder, *more)
    async with asyncio.timeout(WITHIN):
        out, err = await process.communicate()
    return process.returncode or 0, [json.loads(line) for line in out.splitlines()], err.decode()


def left(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def rightly(lines: list[dict[str, Any]]) -> None:
    first = [line for line in lines if line["scene"] == 1]
    second = [line for line in lines if line["scene"] == 2]
    assert sorted(line["step"] for line in first) == sorted(FIRST)
    assert all({"scene", "step", "ms", "id"} <= line.keys() for line in lines)
    assert first[-1]["verdict"] == "recovered"
    assert [line["verdict"] for line in second if line["step"] == "verdict"] == ["not_recovered"] * 2
    assert second[-1]["step"] == "notified"


async def test_both_scenes_end_as_they_should_on_the_embedded_broker(folder: Path) -> None:
    code, lines, error = await told(folder)
    assert code == 0, error
    rightly(lines)
    assert left(folder) == []


async def test_both_scenes_end_as_they_should_through_rabbitmq_twice(folder: Path, node: Node) -> None:
    for _ in range(2):
        code, lines, error = await told(folder, "--broker", node.url)
        assert code == 0, error
        rightly(lines)
    assert node.rabbitmqctl("-q", "list_queues", "name").split() in ([], ["name"], ["name", "exhaust.dead"])


async def test_told_to_end_it_ends_what_it_has_started(folder: Path) -> None:
    process = await demo(folder)
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN):
        lines = [json.loads(await process.stdout.readline()) for _ in range(len(FIRST))]
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    (pid,) = {line["pid"] for line in lines if line["step"] == "restarted"}
    assert find(pid) is None
    assert left(folder) == []


async def test_any_id_that_it_prints_explains_the_whole_chain_with_times(folder: Path) -> None:
    process = await demo(folder)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WITHIN):
            lines = [json.loads(await process.stdout.readline()) for _ in range(len(FIRST))]
            state, listen = reach(folder / left(folder)[0].name / "site.yaml")
            async with Client(listen, state / "token") as client:
                ids = {line["step"]: line["id"] for line in lines if line["id"]}
                chains = {step: await client.get(f"/api/v1/explain/{quote(one)}") for step, one in ids.items()}
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert set(chains) == set(FIRST) - {"death"}
    for step, chain in chains.items():
        assert [run["verdict"] for run in chain["executions"]] == ["recovered"], step
        assert [decision["outcome"] for decision in chain["decisions"]] == ["fired"], step
        assert {"record", "fact", "decision", "execution", "task"} <= {one["kind"] for one in chain["steps"]}, step
        assert [one["ms"] for one in chain["steps"]] == sorted(one["ms"] for one in chain["steps"]), step
