"""Notices: what a webhook is sent and what its answer means, what is never shown, and one line a key in the file."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from adapters.notify import Notify, Webhook, act
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.errors import AdapterError
from exhaust.plugins import Task
from exhaust.settings import INVALID, Context

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def task(text: str = "disk is full", *, key: str = "k1", timeout: float = 30.0) -> Task:
    return Task("run-1", "notify", "send", {"text": text}, "web-1", key, 1_700_000_000.25, timeout)


@asynccontextmanager
async def receiver(answer: Answer) -> AsyncIterator[str]:
    """The address of a server that answers everything as told, credentials and all."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://ann:secret1@127.0.0.1:{runner.addresses[0][1]}/hooks/secret2?token=secret3"
    finally:
        await runner.cleanup()


def says(status: int, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    return answer


async def failing(url: str, within: float = 30.0) -> AdapterError:
    """What comes of a notice that cannot be sent, in which no secret is told."""
    settings = Notify(url=Webhook(url))
    with pytest.raises(AdapterError) as failed:
        await act(settings, task(timeout=within))
    assert "secret" not in f"{failed.value!r} {failed.value.__cause__} {settings!r} {settings.url}"
    assert "127.0.0.1" in str(failed.value)
    return failed.value


async def test_a_webhook_is_sent_who_what_and_when() -> None:
    seen: list[tuple[dict[str, object], str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((await request.json(), request.headers["Idempotency-Key"], request.headers["Authorization"]))
        return web.Response(status=202)

    async with receiver(answer) as url:
        assert await act(Notify(url=Webhook(url)), task("full\n\x1b[2J")) == {"text": "full\\n\\x1b[2J"}
    body = {"text": "full\\n\\x1b[2J", "time": 1_700_000_000.25, "execution": "run-1", "key": "k1", "host": "web-1"}
    assert seen == [(body | {"source": "exhaust"}, "k1", "Basic " + b64encode(b"ann:secret1").decode())]


@pytest.mark.parametrize(
    ("status", "retry"), [(429, True), (500, True), (503, True), (400, False), (404, False), (410, False)]
)
async def test_what_is_not_taken_is_tried_again_only_where_that_may_help(status: int, retry: bool) -> None:
    async with receiver(says(status)) as url:
        failed = await failing(url)
    assert str(failed).endswith(f" answered {status}")
    assert failed.retry == retry


async def test_a_redirect_is_not_followed() -> None:
    async with receiver(says(200)) as elsewhere, receiver(says(307, Location=elsewhere)) as url:
        failed = await failing(url)
    assert not failed.retry


async def test_a_receiver_that_is_away_is_tried_again() -> None:
    async with receiver(says(200)) as url:
        pass
    assert (await failing(url)).retry


async def test_a_receiver_that_says_nothing_is_left_after_the_time_out() -> None:
    gone = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        await gone.wait()
        return web.Response()

    async with receiver(answer) as url:
        assert (await failing(url, within=0.2)).retry
        gone.set()


async def test_a_receiver_that_speaks_no_http_is_tried_again() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0 hello\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        assert (await failing(f"http://a:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/secret")).retry


async def test_an_answer_without_end_is_not_read() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        except ConnectionError:
            return response

    async with receiver(answer) as url:
        await act(Notify(url=Webhook(url)), task())


async def test_in_the_file_a_key_stands_once(tmp_path: Path) -> None:
    settings = Notify(url="log:", state=str(tmp_path))
    for key in ("k1", "k2", "k1", "k2", "k3"):
        await act(settings, task(f'of ,"key":"k3"}} {key}', key=key))
    lines = [json.loads(line) for line in (tmp_path / "notices.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == ["k1", "k2", "k3"]
    assert lines[0] == {
        "time": 1_700_000_000.25,
        "text": 'of ,"key":"k3"} k1',
        "execution": "run-1",
        "key": "k1",
    }


async def test_a_line_that_was_cut_off_by_a_crash_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "notices.jsonl"
    await act(Notify(url="log:", state=str(tmp_path)), task())
    whole = file.read_text()
    file.write_text(whole[:-3])
    await act(Notify(url="log:", state=str(tmp_path)), task())
    assert file.read_text() == f"{whole[:-3]}\n{whole}"


async def test_a_file_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "notices.jsonl").mkdir()
    with pytest.raises(AdapterError, match=r"notice cannot be written to .*: Is a directory") as failed:
        await act(Notify(url="log:", state=str(tmp_path)), task())
    assert failed.value.retry


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("mailto://mail.internal/?to=secret", "'mailto:' is not built yet: expected log:, or a URL such as "),
        ("slack:secret", "'slack:' is not built yet: expected log:, or a URL such as https://host/path"),
        ("${{ secret.oncall_url }}", "'${{ … }}' is not built yet in settings: expected log:, or a URL"),
        ("http://:80/secret", "expected log:, or a URL such as https://host/path"),
        ("https://host:99999/secret", "expected log:, or a URL such as https://host/path"),
        ("https:secret", "expected log:, or a URL such as https://host/path"),
        ("secret", "expected log:, or a URL such as https://host/path"),
    ],
)
def test_an_address_that_cannot_be_is_refused_and_not_repeated(url: str, what: str) -> None:
    document, faults = compose(f'url: "{url}"'.encode(), "f.yaml")
    assert document is not None
    assert bind(document, Notify, "", faults, Context()) is INVALID
    assert [fault.what[: len(what)] for fault in faults] == [what]
    assert "secret" not in str(faults[0]).replace("secret.oncall_url", "")


@pytest.mark.parametrize(
    ("url", "shown"), [("log:", "log:"), ("HTTPS://a:b@Host.example:8443/x?y#z", "https://Host.example:8443")]
)
def test_of_an_address_only_scheme_and_host_are_shown(url: str, shown: str) -> None:
    document, faults = compose(f'url: "{url}"'.encode(), "f.yaml")
    assert document is not None
    settings = bind(document, Notify, "", faults, Context())
    assert str(settings.url) == shown
    assert faults == []
    assert settings == bind(document, Notify, "", faults, Context())  # or it would seem changed when read again
