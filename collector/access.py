"""The one gate that every request passes before anything of it is looked at, and what every answer carries."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp import web

from collector.people import SCOPES, Caller, People
from collector.refusal import Refusal
from exhaust.errors import StoreError

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset(("/healthz", "/readyz"))
LARGEST_BODY = 64 * 1024
CALLER = web.RequestKey("caller", Caller)
_BODY_WITHIN = 10.0
_NAMES = frozenset(("127.0.0.1", "localhost", "[::1]"))
_USUAL_PORT = 80
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "exhaust",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Need(NamedTuple):
    """What a route asks of who calls it, and the largest body that it takes."""

    may: str = "read"
    largest: int = LARGEST_BODY


async def harden(request: web.Request, response: web.StreamResponse) -> None:
    """Set what every answer carries."""
    response.headers.update(_HEADERS)


@web.middleware
class Gate:
    """Refuses, in this order: another host's name, another origin, no token, no right to it, a body that is too much.

    `needs` tells, by method and path of the route, what is asked for beyond the right to read.
    """

    def __init__(
        self, people: People, needs: Mapping[tuple[str, str], Need], *, body_within: float = _BODY_WITHIN
    ) -> None:
        self._people = people
        self._needs = needs
        self._body_within = body_within

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._admit(request)
            if request.body_exists:
                async with asyncio.timeout(self._body_within):
                    body = await request.read()
                _limit(len(body), self._need(request).largest)
            return await handler(request)
        except Refusal as refusal:
            return refusal.answer()
        except web.HTTPException as exc:
            answer = Refusal(exc.status, exc.reason).answer()
            if allowed := exc.headers.get("Allow"):
                answer.headers["Allow"] = allowed
            return answer
        except TimeoutError:
            return Refusal(408, "Request Timeout", f"send the body within {self._body_within:g} s").answer()
        except ConnectionError:
            raise
        except StoreError as exc:
            return Refusal(503, "Service Unavailable", f"nothing was taken: {exc}").answer()
        except Exception:  # the one place: a fault of ours costs one answer
            log.exception("request could not be answered", extra={"path": request.path})
            return Refusal(500, "Internal Server Error", "the collector's log says more").answer()

    def _admit(self, request: web.Request) -> None:
        hosts = own_names(_port(request))
        # A page of another site that resolves its name to this host would come with that name.
        if request.headers.get("Host", "").lower() not in hosts:
            raise Refusal(421, "Misdirected Request", "ask by the address that http.listen names")
        if request.headers.get("Origin", "null-if-missing") not in {"null-if-missing", *(f"http://{h}" for h in hosts)}:
            raise Refusal(403, "Forbidden", "requests of other origins are refused")
        need = self._need(request)
        if request.path not in OPEN_PATHS:
            self._identify(request, need)
        _limit(request.content_length or 0, need.largest)
        if "Content-Encoding" in request.headers:
            raise Refusal(415, "Unsupported Media Type", "send the body as it is")

    def _identify(self, request: web.Request, need: Need) -> None:
        caller = self._people.who(request.headers.get("Authorization", ""))
        if caller is None:
            raise Refusal(401, "Unauthorized", "send the token of STATE/token as 'Authorization: Bearer …'")
        if need.may not in caller.may:
            scope = SCOPES[need.may]
            part = "" if scope == need.may else f", of which 'people' gives them no '{need.may}'"
            raise Refusal(403, "Forbidden", f"'{caller.name}' lacks the scope '{scope}'{part}", scope=scope)
        request[CALLER] = caller

    def _need(self, request: web.Request) -> Need:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else ""
        return self._needs.get((request.method, path), Need())


def _limit(size: int, largest: int) -> None:
    if size > largest:
        raise Refusal(413, "Content Too Large", f"at most {largest} bytes")


def _port(request: web.Request) -> int:
    address = request.transport.get_extra_info("sockname") if request.transport else None
    return address[1] if isinstance(address, tuple) else 0


def own_names(port: int) -> frozenset[str]:
    """Return what this host may be called by who asks at a port."""
    whole = frozenset(f"{name}:{port}" for name in _NAMES)
    # Clients leave out the port that HTTP has anyway.
    return whole | _NAMES if port == _USUAL_PORT else whole
