"""What a process tells of itself over its unix socket."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from collector.overview import components
from exhaust.clock import VirtualClock
from exhaust.errors import ConfigurationError
from exhaust.lifecycle.inspection import HUNG_AFTER, Inspection, ask


class Idle:
    """A service that does nothing but count."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: dict[str, int] = {"handled": 0}
        self.hangs = ""

    async def run(self, until: asyncio.Event) -> None:
        await until.wait()

    def status(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "last_error": ""}

    def stuck(self) -> str:
        return self.hangs


class Process:
    """An inspection that serves in a scratch directory, with a clock that is turned by hand."""

    def __init__(self, run: Path) -> None:
        self.path = run / "analyzers.sock"
        self.checks: Mapping[str, bool] = {"broker": True}
        self.seconds = 0.0
        self.service = Idle("analyzers")
        self.stuck: Mapping[str, str] = {}
        self.inspection = Inspection(
            self.path, [self.service], VirtualClock(1000.0), ready=lambda: self.checks, about=lambda: {"restarts": 2},
            stuck=lambda: self.stuck, monotonic=lambda: self.seconds,
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


async def test_it_is_not_healthy_while_a_service_hangs(process: Process) -> None:
    process.service.hangs = "nothing done for 90 s"
    assert (await process.get("/healthz"))[0] == 503
    assert process.inspection.fault() == "analyzers: nothing done for 90 s"
    process.service.hangs, process.stuck = "", {"broker": "carries nothing"}
    assert (await process.get("/healthz"))[1]["fault"] == "broker: carries nothing"
    process.stuck = {}
    assert process.inspection.fault() is None


async def test_who_asks_is_told_what_is_wrong(process: Process, tmp_path: Path) -> None:
    assert await ask(process.path, 5.0) is None
    process.service.hangs = "nothing done for 90 s"
    answer = await ask(process.path, 5.0)
    assert answer is not None
    assert answer.startswith("is not well: ")
    assert "nothing done for 90 s" in answer
    assert await ask(tmp_path / "none", 5.0) == "cannot be asked: No such file or directory"


async def test_who_asks_one_that_is_mute_waits_no_longer_than_it_said(tmp_path: Path) -> None:
    mute = socket.socket(socket.AF_UNIX)
    with mute:
        mute.bind(str(tmp_path / "mute"))
        mute.listen()
        assert await ask(tmp_path / "mute", 0.05) == "does not answer"


async def test_it_answers_for_the_services_that_it_was_last_shown(process: Process) -> None:
    process.service.counts["handled"] = 1000
    process.inspection.sample()
    process.inspection.show([other := Idle("agent")])
    for seconds, handled in ((5.0, 0), (10.0, 50)):
        process.seconds, other.counts["handled"] = seconds, handled
        process.inspection.sample()
    assert (await process.get("/status"))[1]["services"] == {
        "agent": {"counts": {"handled": 50}, "last_error": "", "rates": {"handled": 10.0}}
    }


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


@contextlib.asynccontextmanager
async def supervised(run: Path, **children: Any) -> AsyncIterator[None]:
    """A supervisor that tells of children."""
    until = asyncio.Event()
    told = Inspection(run / "supervisor.sock", (), VirtualClock(), about=lambda: {"children": children})
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(told.run(until))
        await asyncio.wait_for(told.answering.wait(), 5)
        yield
        until.set()


def child(state: str, pid: int | None, **more: Any) -> dict[str, Any]:
    return {"state": state, "pid": pid, "since": 1.0, "restarts": 9, "last_exit": 1, "last_error": "exit", **more}


async def test_the_supervisor_tells_of_who_does_not_speak_for_himself(process: Process) -> None:
    run = process.path.parent
    async with supervised(run, analyzers=child("running", os.getpid()), agent=child("crashing", None)):
        rows = await components(run, ("collector", {}))
    assert list(rows) == ["agent", "analyzers", "collector", "supervisor"]
    assert (rows["agent"]["state"], rows["agent"]["last_error"]) == ("crashing", "exit")
    assert (rows["analyzers"]["state"], rows["analyzers"]["restarts"]) == ("ready", 2), "who answers says it himself"
    assert rows["supervisor"]["state"] == "ready"
    assert "children" not in rows["supervisor"]


async def test_who_keeps_ending_is_shown_so_even_while_it_answers(process: Process) -> None:
    run = process.path.parent
    async with supervised(run, analyzers=child("crashing", os.getpid())):
        row = (await components(run, ("collector", {})))["analyzers"]
    assert (row["state"], row["restarts"], row["counts"]) == ("crashing", 9, {"handled": 0})


async def test_one_child_of_all_components_has_no_row_of_its_own_while_it_is_well(process: Process) -> None:
    run = process.path.parent
    async with supervised(run, all=child("running", os.getpid())):
        assert "all" not in await components(run, ("collector", {}))
    async with supervised(run, all=child("running", 1)):
        assert (await components(run, ("collector", {})))["all"]["pid"] == 1
