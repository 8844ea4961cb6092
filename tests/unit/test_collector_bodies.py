"""Requests that mean no good, or were only written badly: each is refused by what is wrong with it."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from collector.access import Gate
from collector.people import People
from tests.unit.collector_system import System

TRIGGER = "/api/v1/workflows/restart-service/trigger"


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with System(tmp_path).running() as running:
        yield running


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "is no JSON"),
        (b'{"inputs": {"service": "shop"}', "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b'{"reason": "\\ud800"}', "is no JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b'{"inputs": []}', "$.inputs"),
        (b'{"inputs": "x"}', "$.inputs"),
        (b'{"host": 1}', "$.host"),
        (b'{"reason": {}}', "$.reason"),
        (b'{"inputs": {"service": ' + b"[" * 30 + b"]" * 30 + b"}}", "goes deeper than 20 levels"),
        (b'{"inputs": {"service": ' + b"[" * 20_000 + b"]" * 20_000 + b"}}", "goes deeper than 20 levels"),
        (b'{"inputs": {"service": 1e999}}', "is no JSON"),
        (b'{"inputs": {"service": ' + b"9" * 400 + b"}}", "too large for a double"),
    ],
)
async def test_what_is_no_sensible_json_is_a_bad_request(system: System, body: bytes, detail: str) -> None:
    answer = await system.post(TRIGGER, body, 400)
    assert detail in answer["detail"]


async def test_a_key_given_twice_counts_as_it_stood_last(system: System) -> None:
    await system.post(TRIGGER, b'{"inputs": {"service": "a"}, "host": "db-1", "host": "web-01"}')
    assert (await system.order()).host == "web-01"


@pytest.mark.parametrize(
    "type_",
    ["text/html", "application/x-www-form-urlencoded", "multipart/form-data", "application/json; charset=utf-16"],
)
@pytest.mark.parametrize("path", [TRIGGER, "/api/v1/emit/traffic"])
async def test_other_types_of_content_are_refused(system: System, path: str, type_: str) -> None:
    await system.post(path, b'{"inputs": {"service": "shop"}}', 415, **{"Content-Type": type_})


async def test_a_body_has_bounds_of_its_own_on_each_path(system: System) -> None:
    await system.post(TRIGGER, b" " * 65_537, 413)
    await system.post("/api/v1/emit/traffic", b'{"x": 1}\n' * 7300)
    for size in ((1 << 20) + 1, 2 << 20):
        async with system.http.post("/api/v1/emit/traffic", data=io.BytesIO(b" " * size)) as answer:
            assert answer.status == 413


async def test_a_body_that_comes_in_pieces_has_the_same_bounds(system: System) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b" " * 1024

    async with system.http.post("/api/v1/halt", data=pieces(), headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 413
    async with system.http.post("/api/v1/emit/traffic", data=pieces()) as answer:
        assert answer.status == 202


async def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t" * 43)
    (tmp_path / "token").chmod(0o600)
    app = web.Application(middlewares=[Gate(People(tmp_path / "token"), {}, body_within=0.1)])
    runner = web.AppRunner(app, lingering_time=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /x HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {'t' * 43}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
    line = await asyncio.wait_for(reader.readline(), 5)
    assert b" 408 " in line
    writer.close()
    await runner.cleanup()


async def test_the_method_that_a_path_does_not_have_is_told_which_it_has(system: System) -> None:
    async with system.http.get("/api/v1/halt") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
