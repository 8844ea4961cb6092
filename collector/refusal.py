"""An answer that says no, as application/problem+json (RFC 9457)."""

from typing import Any

import msgspec
from aiohttp import web


class Refusal(Exception):  # noqa: N818  not a fault: what is asked for cannot be had
    """Raised by whoever cannot do as asked; `more` are further members of the answer."""

    def __init__(self, status: int, title: str, detail: str = "", **more: Any) -> None:
        super().__init__(detail or title)
        self.status = status
        self.content = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}

    def answer(self) -> web.Response:
        body = msgspec.json.encode(self.content)
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        headers["Content-Type"] = "application/problem+json"
        return web.Response(body=body, status=self.status, headers=headers)


def bad(detail: str, **more: Any) -> Refusal:
    """Return the refusal of a request that makes no sense."""
    return Refusal(400, "Bad Request", detail, **more)


def unknown(detail: str) -> Refusal:
    """Return the refusal of what asks for something that nobody knows."""
    return Refusal(404, "Not Found", detail)
