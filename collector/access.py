"""Who may ask: the token's file, and the one gate that every request passes before anything of it is looked at."""

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web

from exhaust.errors import ConfigurationError

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset(("/healthz", "/readyz"))
LARGEST_BODY = 64 * 1024
_BODY_WITHIN = 10.0
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "exhaust",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_token(path: Path) -> str:
    """Return the token in a file that only its owner can read; it is made if there is none."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(32) + "\n")
        # Of several processes that try at once, the first one's stays, and nobody reads half a token.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(fresh)
        fresh.unlink()
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError([f"{path}: others may read this token: chmod 600 it, or remove it to have a new one"])
    token = path.read_text().strip()
    if len(token) < 32:
        raise ConfigurationError([f"{path}: holds no token: remove it to have a new one"])
    return token


def problem(status: int, title: str, detail: str = "") -> web.Response:
    """Return an error as application/problem+json (RFC 9457)."""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return web.Response(body=msgspec.json.encode(content), content_type="application/problem+json", status=status)


async def harden(request: web.Request, response: web.StreamResponse) -> None:
    """Set what every answer carries."""
    response.headers.update(_HEADERS)


@web.middleware
class Gate:
    """Refuses, in this order: another host's name, another origin, no token, a body that is too much."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            refusal = self._refusal(request)
            if refusal is not None:
                return refusal
            if request.body_exists:
                async with asyncio.timeout(_BODY_WITHIN):
                    await request.read()
            return await handler(request)
        except web.HTTPException as exc:
            return problem(exc.status, exc.reason)
        except TimeoutError:
            return problem(408, "Request Timeout")
        except ConnectionError:
            raise
        except Exception:  # the one place: a fault of ours costs one answer
            log.exception("request could not be answered", extra={"path": request.path})
            return problem(500, "Internal Server Error", "the collector's log says more")

    def _refusal(self, request: web.Request) -> web.Response | None:
        hosts = _own_names(request)
        # A page of another site that resolves its name to this host would come with that name.
        if request.headers.get("Host", "").lower() not in hosts:
            return problem(421, "Misdirected Request", "ask by the address that http.listen names")
        if request.headers.get("Origin", "null-if-missing") not in {"null-if-missing", *(f"http://{h}" for h in hosts)}:
            return problem(403, "Forbidden", "requests of other origins are refused")
        if request.path not in OPEN_PATHS and not self._knows(request.headers.get("Authorization", "")):
            refusal = problem(401, "Unauthorized", "send the token of STATE/token as 'Authorization: Bearer …'")
            refusal.headers["WWW-Authenticate"] = "Bearer"
            return refusal
        if (request.content_length or 0) > LARGEST_BODY:
            return problem(413, "Content Too Large", f"at most {LARGEST_BODY} bytes")
        if "Content-Encoding" in request.headers:
            return problem(415, "Unsupported Media Type", "send the body as it is")
        return None

    def _knows(self, header: str) -> bool:
        scheme, _, given = header.partition(" ")
        told = given.strip().encode("utf-8", "surrogateescape")
        return scheme.lower() == "bearer" and hmac.compare_digest(told, self._token)


def _own_names(request: web.Request) -> frozenset[str]:
    address = request.transport.get_extra_info("sockname") if request.transport else None
    port = address[1] if isinstance(address, tuple) else 0
    return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))
