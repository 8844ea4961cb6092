"""What a command gets of a running system, and what it says where there is none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from exhaust.commands.client import Client
from exhaust.errors import UnreachableError, UsageError

TOKEN = "t" * 43
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def asking(tmp_path: Path, answer: Answer) -> AsyncIterator[Client]:
    """A client of a server that answers everything as told."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        (tmp_path / "token").write_text(TOKEN + "\n")
        async with Client(f"127.0.0.1:{runner.addresses[0][1]}", tmp_path / "token") as client:
            yield client
    finally:
        await runner.cleanup()


def says(content: Any, status: int = 200) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(content, status=status)

    return answer


async def test_it_sends_the_token(tmp_path: Path) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.json_response(request.headers["Authorization"])

    async with asking(tmp_path, echo) as client:
        assert await client.get("/status") == f"Bearer {TOKEN}"


async def test_what_is_not_known_is_nothing(tmp_path: Path) -> None:
    async with asking(tmp_path, says({"title": "Not Found"}, 404)) as client:
        assert await client.find("/api/v1/explain/x") is None


async def test_it_turns_pages_until_it_has_enough(tmp_path: Path) -> None:
    async def pages(request: web.Request) -> web.Response:
        start, limit = int(request.query.get("after", "0")), min(3, int(request.query["limit"]))
        return web.json_response({"items": [{"n": start + i} for i in range(limit)], "next": str(start + limit)})

    async with asking(tmp_path, pages) as client:
        assert [item["n"] for item in await client.items("facts", {}, 8)] == list(range(8))


@pytest.mark.parametrize(
    ("status", "content", "error", "text"),
    [
        (400, {"detail": "no fact has a field 'x'"}, UsageError, "no fact has a field 'x'"),
        (401, {"title": "Unauthorized"}, UnreachableError, "does not accept the token"),
        (404, {"title": "Not Found"}, UnreachableError, "answered 404: Not Found"),
        (500, {"detail": "see the log"}, UnreachableError, "answered 500: see the log"),
        (500, ["?"], UnreachableError, "answered 500"),
    ],
)
async def test_each_refusal_is_one_clear_line(
    tmp_path: Path, status: int, content: Any, error: type[Exception], text: str
) -> None:
    async with asking(tmp_path, says(content, status)) as client:
        with pytest.raises(error, match=text) as caught:
            await client.get("/status")
    assert "\n" not in str(caught.value)


async def test_another_server_is_told_apart(tmp_path: Path) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>")

    async with asking(tmp_path, page) as client:
        with pytest.raises(UnreachableError, match="not as Exhaust does"):
            await client.get("/status")


async def test_nobody_there_says_how_to_start(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    async with Client("127.0.0.1:1", tmp_path / "token") as client:
        with pytest.raises(UnreachableError, match=r"nobody answers at http://127\.0\.0\.1:1: start"):
            await client.get("/status")
        with pytest.raises(UnreachableError, match="nobody answers"):
            await anext(client.events("fact"))


@pytest.mark.parametrize(("content", "text"), [(None, "no token there"), ("", "holds no token"), ("a\nb", "no token")])
async def test_a_missing_or_empty_token_is_told(tmp_path: Path, content: str | None, text: str) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(UnreachableError, match=text):
        async with Client("127.0.0.1:1", tmp_path / "token"):
            pass


async def test_it_follows_until_the_system_stops(tmp_path: Path) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        large = "x" * 300_000
        await response.write(f': hello\n\nid: 1\ndata: {{"n": 1}}\n\ndata: {{"n": 2, "x": "{large}"}}\n\n'.encode())
        return response

    async with asking(tmp_path, stream) as client:
        events = client.events("fact")
        assert (await anext(events))["n"] == 1
        assert (await anext(events))["n"] == 2
        with pytest.raises(UnreachableError, match="has stopped"):
            await asyncio.wait_for(anext(events), 5)
