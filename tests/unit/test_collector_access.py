"""Who may ask the collector, where it listens, and what it tells to others: nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from collector.access import own_names
from exhaust.people import Person
from tests.unit.collector_system import System, bearer, person


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with System(tmp_path).running() as running:
        yield running


POSTED = {
    "/api/v1/workflows/{id}/trigger": "trigger",
    "/api/v1/halt": "halt",
    "/api/v1/resume": "halt",
    "/api/v1/emit/{stream}": "emit",
    "/api/v1/dead-letters/{id}/resend": "trigger",
}
UNKNOWN = frozenset(("/api/v1/dead-letters/{id}/resend",))


def routes(system: System) -> set[tuple[str, str]]:
    app = system.collector.app
    assert app is not None
    return {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}


def named(path: str) -> str:
    return path.replace("{id}", "restart-service").replace("{stream}", "traffic")


async def test_every_route_but_two_refuses_who_has_no_token(system: System) -> None:
    paths = {path for _, path in routes(system)}
    assert len(paths) >= 20
    async with aiohttp.ClientSession(f"http://127.0.0.1:{system.collector.port}") as nobody:
        for path in {named(path) for path in paths} | {"/", "/nothing", "/api/v1/../status"}:
            for method in ("GET", "POST", "DELETE"):
                async with nobody.request(method, path) as answer:
                    free = 200 if method == "GET" else 405
                    expected = free if path in ("/healthz", "/readyz") else 401
                    assert answer.status == expected, f"{method} {path}"
                    assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401)


async def test_whatever_changes_something_is_known_to_need_more_than_reading(system: System) -> None:
    changing = {path for method, path in routes(system) if method not in ("GET", "HEAD")}
    assert changing == POSTED.keys()


@pytest.mark.parametrize("may", [(), ("approve",), ("trigger",), ("halt",), ("emit",), ("trigger", "halt", "emit")])
async def test_each_may_do_what_is_given_to_them_and_nothing_else(tmp_path: Path, may: tuple[str, ...]) -> None:
    ann = person(tmp_path, "ann", *may)
    async with System(tmp_path, people=(ann,)).running() as system:
        system.http.headers["Authorization"] = bearer(ann)
        await system.get("/api/v1/facts")
        body = {"/api/v1/workflows/{id}/trigger": {"inputs": {"service": "shop"}, "host": "web-01"}}
        for path, needed in POSTED.items():
            allowed = 404 if path in UNKNOWN else 202
            answer = await system.post(named(path), body.get(path), allowed if needed in may else 403)
            if needed not in may:
                scope = "emit" if needed == "emit" else "operate"
                assert answer["scope"] == scope
                assert f"'ann' lacks the scope '{scope}'" in answer["detail"]


async def test_status_tells_whose_token_grants_nothing(tmp_path: Path) -> None:
    gone = Person(name="bob", token_file=str(tmp_path / "none"))
    async with System(tmp_path, people=(person(tmp_path, "ann"), gone)).running() as system:
        told = (await system.get("/status"))["components"]["collector"]["people"]
        assert list(told) == ["bob"]
        assert "No such file" in told["bob"]


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x", "Basic {token}", "{token}", "Bearer {token}x", "Bearer é"]
)
async def test_only_the_whole_token_opens(system: System, header: str) -> None:
    token = (system.state / "token").read_text().strip()
    answer = await system.get("/status", 401, Authorization=header.format(token=token))
    assert answer["title"] == "Unauthorized"


@pytest.mark.parametrize("host", ["evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}", "[::1]"])
async def test_the_name_of_another_host_is_refused(system: System, host: str) -> None:
    name = host.format(port=system.collector.port)
    await system.get("/status", 421, Host=name)
    await system.get("/healthz", 421, Host=name)


async def test_its_own_names_are_taken(system: System) -> None:
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        await system.get("/status", Host=f"{name}:{system.collector.port}")


def test_the_port_that_http_has_anyway_need_not_be_named() -> None:
    assert own_names(80) == {"127.0.0.1:80", "localhost:80", "[::1]:80", "127.0.0.1", "localhost", "[::1]"}
    assert own_names(8640) == {"127.0.0.1:8640", "localhost:8640", "[::1]:8640"}


async def test_other_origins_are_refused_and_no_header_lets_them_in(system: System) -> None:
    for origin in ("http://evil.example", "null", ""):
        await system.get("/status", 403, Origin=origin)
    async with system.http.get("/status", headers={"Origin": f"http://localhost:{system.collector.port}"}) as answer:
        assert answer.status == 200
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_every_answer_carries_the_guarding_headers(system: System) -> None:
    for path, given in (("/status", {}), ("/healthz", {}), ("/nothing", {}), ("/status", {"Host": "evil"})):
        async with system.http.get(path, headers=given) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Content-Security-Policy"] == "default-src 'none'"
            assert answer.headers["Server"] == "exhaust"
            if answer.status != 200:
                assert answer.content_type == "application/problem+json"


async def _raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(reader.read(65536), 5)
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_what_is_no_http_is_told_no_version(system: System) -> None:
    answer = await _raw(system.collector.port, b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
    assert answer.startswith(b"HTTP/1.")
    assert b" 400 " in answer.splitlines()[0]
    assert b"iohttp" not in answer
    assert b"Python" not in answer


async def test_bodies_that_are_too_large_or_packed_are_refused(system: System) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b"x" * 1024

    for data, extra, status in (
        (b"x" * 65537, {}, 413),
        (chunks(), {}, 413),
        (b"x", {"Content-Encoding": "gzip"}, 415),
    ):
        async with system.http.post("/api/v1/facts", data=data, headers=extra) as answer:
            assert answer.status == status
