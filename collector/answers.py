"""What is answered where all is well: JSON."""

from typing import Any

import msgspec
from aiohttp import web


def answer(content: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), content_type="application/json", status=status)


def accepted(content: Any) -> web.Response:
    """Answer that what was asked for is on disk, and will be done."""
    return answer(content, 202)
