"""Asks a running system over HTTP, as the commands do."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import msgspec

from exhaust.errors import UnreachableError, UsageError

_ANSWER_WITHIN = 10.0
_CONNECT_WITHIN = 3.0
_LONGEST_EVENT = 1 << 20
_LARGEST_PAGE = 1000
_ASKED_WRONG = frozenset((400, 403, 409, 413, 415))


class Client:
    """Open with `async with`. Every method raises UnreachableError where nobody answers as expected.

    `listen` is the `http.listen` of the system's configuration; the token is read when the client is opened.
    """

    def __init__(self, listen: str, token_file: Path) -> None:
        self._base = f"http://{listen}"
        self._token_file = token_file

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {_read_token(self._token_file)}"},
            timeout=aiohttp.ClientTimeout(total=_ANSWER_WITHIN, sock_connect=_CONNECT_WITHIN),
            read_bufsize=_LONGEST_EVENT,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Return what is answered."""
        return self._content(*await self._ask("GET", path, params=params))

    async def find(self, path: str) -> Any:
        """Return what is answered; None where nothing is known of it."""
        status, body = await self._ask("GET", path)
        return None if status == 404 else self._content(status, body)

    async def waits_for(self) -> list[str]:
        """Return what is not in order just now for work to flow, such as `broker`."""
        _, body = await self._ask("GET", "/readyz")
        return [name for name, well in self._decoded(body).items() if not well]

    async def post(self, path: str, content: Any) -> Any:
        """Return what is answered to something that is to be done."""
        body, type_ = msgspec.json.encode(content), {"Content-Type": "application/json"}
        status, answer = await self._ask("POST", path, data=body, headers=type_)
        # Here an unknown path is an unknown name: that of a workflow.
        return self._content(400 if status == 404 else status, answer)

    async def emit(self, stream: str, lines: bytes, before: int = 0) -> int:
        """Send JSON lines, which follow as many that were sent; return how many became records."""
        type_ = {"Content-Type": "application/x-ndjson"}
        status, body = await self._ask("POST", f"/api/v1/emit/{quote(stream, safe='')}", data=lines, headers=type_)
        refused = self._decoded(body) if status == 400 else {}
        if line := refused.get("line"):
            what = str(refused["detail"]).replace(f"line {line}", f"line {line + before}", 1)
            raise UsageError(what)
        return int(self._content(status, body)["records"])

    async def _ask(self, method: str, path: str, **more: Any) -> tuple[int, bytes]:
        try:
            async with self._session.request(method, self._base + path, allow_redirects=False, **more) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, OSError) as exc:
            raise self._nobody(exc) from exc

    async def items(self, kind: str, filters: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
        """Return the newest items, such as of `facts`, as many as asked for."""
        items: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while len(items) < limit:
            ask = {**filters, **after, "limit": str(min(limit - len(items), _LARGEST_PAGE))}
            page = await self.get(f"/api/v1/{kind}", ask)
            items += page["items"]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        return items

    async def events(self, *kinds: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the messages of these kinds, such as `fact`, as they arrive, until the system stops."""
        async for line in self._lines([("kind", kind) for kind in kinds]):
            if line.startswith(b"data: "):
                yield self._content(200, line[6:])

    async def records(self, stream: str, host: str | None) -> AsyncIterator[dict[str, Any] | None]:
        """Yield the records of a stream, or of those that a pattern matches, as they arrive; None ends a batch."""
        params = [("kind", "record"), ("stream", stream), *([("host", host)] if host is not None else [])]
        async for line in self._lines(params):
            if line.startswith(b"data: "):
                yield self._content(200, line[6:])
            elif line.startswith(b": that was a batch"):
                yield None

    async def _lines(self, params: Sequence[tuple[str, str]]) -> AsyncIterator[bytes]:
        """Yield what the stream of events is made of; the first line as soon as it is followed."""
        forever = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_WITHIN)
        try:
            async with self._session.get(f"{self._base}/api/v1/stream", params=params, timeout=forever) as answer:
                if answer.status != 200:
                    self._content(answer.status, await answer.read())
                async for line in answer.content:
                    yield line
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise self._nobody(exc) from exc
        raise UnreachableError(f"{self._base} has stopped: nothing more to follow")

    def _content(self, status: int, body: bytes) -> Any:
        content = self._decoded(body)
        if status in (200, 202):
            return content
        detail = f"{content.get('detail') or content.get('title')}" if isinstance(content, dict) else ""
        if status in _ASKED_WRONG:
            raise UsageError(detail)
        if status == 401:
            raise UnreachableError(f"{self._base} does not accept the token in {self._token_file}: is it of this one?")
        raise UnreachableError(f"{self._base} answered {status}: {detail}")

    def _decoded(self, body: bytes) -> Any:
        try:
            return msgspec.json.decode(body)
        except (msgspec.MsgspecError, RecursionError):
            raise UnreachableError(f"{self._base} answers, but not as Exhaust does: is 'http.listen' right?") from None

    def _nobody(self, exc: Exception) -> UnreachableError:
        if isinstance(exc, TimeoutError):
            return UnreachableError(f"{self._base} does not answer in time: see what its log says")
        if isinstance(exc, aiohttp.ClientConnectorError | ConnectionRefusedError):
            return UnreachableError(f"nobody answers at {self._base}: start the system with 'exhaust up'")
        return UnreachableError(f"{self._base} broke off: {exc or type(exc).__name__}")


def _read_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        raise UnreachableError(f"{path}: no token there: start the system with 'exhaust up', which makes it") from None
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or "it is no text"
        raise UnreachableError(f"{path}: the token cannot be read: {why}") from exc
    if not token or not token.isascii() or not token.isprintable():
        raise UnreachableError(f"{path}: holds no token")
    return token
