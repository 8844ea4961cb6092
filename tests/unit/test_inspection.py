"""What a process tells of itself over its unix socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from collector.overview import components
from exhaust.clock import VirtualClock
from exhaust.errors import ConfigurationError
from exhaust.inspection import HUNG_AFTER, Inspection


class Idle:
    """A service that does nothing but count."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: dict[str, int] = {"handled": 0}

    async def run(self, until: asyncio.Event) -> None:
        await until.wait()

    def status(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "last_error": ""}


class Process:
    """An inspection that serves in a scratch directory, with a clock that is turned by hand."""

    def __init__(self, run: Path) -> None:
        self.path = run / "analyzers.sock"
        self.checks: Mapping[str, bool] = {"broker": True}
        self.seconds = 0.0
        self.service = Idle("analyzers")
        self.inspection = Inspection(
            self.path, [self.service], VirtualClock(1000.0), ready=lambda: self.checks, about={"restarts": 2},
            monotonic=lambda: self.seconds,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Process"]:
        until = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.inspection.run(until))
            await asyncio.wait_for(self.inspection.answering.wait(), 5)
            yield self
            until.set()

    async def get(self, path: str) -> tuple[int, Any]:
        connector = aiohttp.UnixConnector(str(self.path))
        async with aiohttp.ClientSession(connector=connector) as http, http.get(f"http://local{path}") as answer:
            return answer.status, msgspec.json.decode(await answer.read())


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    async with Process(tmp_path / "run").serving() as serving:
        yield serving


async def test_it_is_healthy_while_its_heart_beats(process: Process) -> None:
    assert (await process.get("/healthz"))[0] == 200
    process.seconds += HUNG_AFTER + 0.1
    assert (await process.get("/healthz"))[0] == 503
    process.inspection.beat()
    assert (await process.get("/healthz"))[0] == 200


async def test_it_is_ready_when_all_that_it_needs_is_in_order(process: Process) -> None:
    assert await process.get("/readyz") == (200, {"broker": True})
    process.checks = {"broker": False, "store": True}
    assert await process.get("/readyz") == (503, {"broker": False, "store": True})
    assert (await process.get("/status"))[1]["state"] == "not_ready"


async def test_its_status_tells_of_the_process_and_of_each_service(process: Process) -> None:
    status = (await process.get("/status"))[1]
    assert (status["state"], status["since"], status["restarts"]) == ("ready", 1000.0, 2)
    assert status["rss"] > 1_000_000
    assert status["services"]["analyzers"]["counts"] == {"handled": 0}


async def test_rates_are_what_was_counted_in_the_last_seconds(process: Process) -> None:
    for seconds, handled in ((5.0, 100), (10.0, 400), (15.0, 1100)):
        process.seconds, process.service.counts["handled"] = seconds, handled
        process.inspection.sample()
    status = (await process.get("/status"))[1]
    assert status["services"]["analyzers"]["rates"] == {"handled": 100.0}


async def test_the_socket_is_its_owners_and_goes_with_the_process(tmp_path: Path) -> None:
    process = Process(tmp_path / "run")
    async with process.serving():
        assert process.path.stat().st_mode & 0o777 == 0o600
        assert process.path.parent.stat().st_mode & 0o777 == 0o700
    assert not process.path.exists()


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    run = tmp_path / "run"
    async with Process(run).serving(), Process(run).serving() as second:
        assert (await second.get("/healthz"))[0] == 200


async def test_a_path_too_long_for_a_socket_is_told_plainly(tmp_path: Path) -> None:
    process = Process(tmp_path / ("x" * 120))
    with pytest.raises(ConfigurationError, match="choose a shorter"):
        await process.inspection.run(asyncio.Event())


async def test_the_collector_shows_who_answers_who_is_down_and_who_hangs(process: Process) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(hang, process.path.with_name("activator.sock")):
        dead = await asyncio.start_unix_server(hang, process.path.with_name("agent.sock"))
        dead.close()
        await dead.wait_closed()
        rows = await components(process.path.parent, ("collector", {"lag": 0.5}))
    assert {name: row["state"] for name, row in rows.items()} == {
        "activator": "hung", "agent": "down", "analyzers": "ready", "collector": "ready",
    }  # fmt: skip
    assert (rows["analyzers"]["restarts"], rows["collector"]["lag"]) == (2, 0.5)


async def test_a_process_that_is_not_ready_says_so_for_all_its_services(process: Process) -> None:
    process.checks = {"broker": False}
    rows = await components(process.path.parent, ("collector", {}))
    assert rows["analyzers"]["state"] == "not_ready"


async def test_other_sockets_beside_it_are_left_alone(process: Process) -> None:
    heard = asyncio.Event()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set()
        writer.close()

    async with await asyncio.start_unix_server(hear, process.path.with_name("helper.commands")):
        rows = await components(process.path.parent, ("collector", {}))
    assert list(rows) == ["analyzers", "collector"]
    assert not heard.is_set()
