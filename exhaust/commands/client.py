"""Asks a running system over HTTP, as the commands do."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from exhaust.errors import UnreachableError, UsageError

_ANSWER_WITHIN = 10.0
_CONNECT_WITHIN = 3.0
_LONGEST_EVENT = 1 << 20
_LARGEST_PAGE = 1000


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
        return self._content(*await self._ask(path, params))

    async def find(self, path: str) -> Any:
        """Return what is answered; None where nothing is known of it."""
        status, body = await self._ask(path, None)
        return None if status == 404 else self._content(status, body)

    async def _ask(self, path: str, params: Mapping[str, str] | None) -> tuple[int, bytes]:
        try:
            async with self._session.get(self._base + path, params=params, allow_redirects=False) as answer:
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

    async def events(self, kind: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the messages of a kind, such as `fact`, as they arrive, until the system stops."""
        forever = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_WITHIN)
        try:
            async with self._session.get(
                f"{self._base}/api/v1/stream", params={"kind": kind}, timeout=forever
            ) as answer:
                if answer.status != 200:
                    self._content(answer.status, await answer.read())
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        yield self._content(200, line[6:])
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise self._nobody(exc) from exc
        raise UnreachableError(f"{self._base} has stopped: nothing more to follow")

    def _content(self, status: int, body: bytes) -> Any:
        try:
            content = msgspec.json.decode(body)
        except (msgspec.MsgspecError, RecursionError):
            raise UnreachableError(f"{self._base} answers, but not as Exhaust does: is 'http.listen' right?") from None
        if status == 200:
            return content
        detail = f"{content.get('detail') or content.get('title')}" if isinstance(content, dict) else ""
        if status == 400:
            raise UsageError(detail)
        if status == 401:
            raise UnreachableError(f"{self._base} does not accept the token in {self._token_file}: is it of this one?")
        raise UnreachableError(f"{self._base} answered {status}: {detail}")

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
        raise UnreachableError(f"{path}: the token cannot be read: {exc}") from exc
    if not token or not token.isascii() or not token.isprintable():
        raise UnreachableError(f"{path}: holds no token")
    return token
