"""Tells people: in a file and the log of this installation, or by a webhook."""

import asyncio
import errno
import logging
import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

import aiohttp
import msgspec

from exhaust.documents.nodes import Fault, Scalar
from exhaust.errors import AdapterError
from exhaust.plugins import Adapter, Settings, Task
from exhaust.settings import INVALID, Context, Invalid
from exhaust.text import clean

log = logging.getLogger(__name__)

_MOST = 2000
_TAIL = 65_536
_HTTP = re.compile(r"(?i)https?://[^\s/]\S*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class Webhook:
    """An address to post to. Path and query may be as secret as a password: scheme and host are all that is shown."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            raise ValueError("a host is needed")
        self.url = url
        self.shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def __repr__(self) -> str:
        return self.shown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Webhook) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)


class AddressForm:
    """Binds where notices go. What is wrong is not repeated: it may hold a password."""

    expected = "log:, or a URL such as https://host/path"
    schema: ClassVar = {"type": "string", "pattern": "^(log:$|[Hh][Tt][Tt][Pp][Ss]?://)", "description": expected}
    takes = (Scalar,)

    def bind(self, node: Scalar, path: str, faults: list[Fault], _context: Context) -> Any | Invalid:
        if node.text == "log:":
            return node.text
        what = f"expected {self.expected}"
        if "${{" in node.text:
            what = f"'${{{{ … }}}}' is not built yet in settings: {what}"
        elif _HTTP.fullmatch(node.text):
            try:
                return Webhook(node.text)
            except ValueError:  # no host, or no port that there is
                pass
        elif (scheme := _SCHEME.match(node.text)) and scheme[0].lower() not in ("log:", "http:", "https:"):
            what = f"'{scheme[0]}' is not built yet: {what}"
        faults.append(node.at.fault(what, path))
        return INVALID


class Notify(Settings, frozen=True, kw_only=True):
    """Where notices go: `log:` is the service's log and `notices.jsonl` in the installation's state directory."""

    url: Annotated[Literal["log:"] | Webhook, AddressForm()]
    state: str = ""


class Send(Settings, frozen=True, kw_only=True):
    """What a task says under `with`."""

    text: str


async def act(settings: Notify, task: Task) -> dict[str, str]:
    """Tell it: when this returns, the notice is safe on disk, or was taken with a 2xx.

    None is lost: until then the same key is asked for again. In the file a key stands once. By webhook it may come
    twice, if we die before the answer is kept: both have the header `Idempotency-Key`, by which a receiver knows them.
    A retry after an error has a key of its own, and the same `execution`.
    """
    text = clean(str(task.params["text"]), _MOST)
    if isinstance(settings.url, Webhook):
        await _post(settings.url, text, task)
    else:
        line = msgspec.json.encode({"time": task.time, "text": text, "execution": task.execution, "key": task.key})
        if await asyncio.to_thread(_append, Path(settings.state) / "notices.jsonl", line):
            log.warning("notice", extra={"text": text, "execution": task.execution})
    return {"text": text}


async def _post(webhook: Webhook, text: str, task: Task) -> None:
    body = {"text": text, "time": task.time, "execution": task.execution, "key": task.key, "host": task.host}
    headers = {"Content-Type": "application/json", "User-Agent": "exhaust", "Idempotency-Key": task.key}
    content = msgspec.json.encode(body | {"source": "exhaust"})
    # Causes are not kept: some have the whole address in their text.
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=task.timeout), headers=headers) as session,
            session.post(webhook.url, data=content, allow_redirects=False) as answer,
        ):
            status = answer.status  # the body is left unread, however long: closing drops the connection
    except TimeoutError:
        raise AdapterError(f"{webhook} did not answer within {task.timeout:g} s", retry=True) from None
    except aiohttp.InvalidURL:
        raise AdapterError(f"{webhook} is not a usable URL") from None
    except (aiohttp.ClientError, OSError) as exc:
        raise AdapterError(f"{webhook} cannot be reached: {_reason(exc)}", retry=True) from None
    if not 200 <= status < 300:
        hint = ", and redirects are not followed" if 300 <= status < 400 else ""
        raise AdapterError(f"{webhook} answered {status}{hint}", retry=status == 429 or status >= 500)


def _reason(exc: aiohttp.ClientError | OSError) -> str:
    """Say what happened in words that hold no address."""
    return clean((exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__, 200)


def _append(path: Path, line: bytes) -> bool:
    """Add a line, safe on disk, unless its key stands there already; tell whether it was added."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            tail = os.pread(fd, _TAIL, max(0, size - _TAIL))
            new = line[line.rindex(b',"key":') :] + b"\n" not in tail
            if new:
                whole = (b"" if tail.endswith(b"\n") or not tail else b"\n") + line + b"\n"
                if os.write(fd, whole) < len(whole):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        raise AdapterError(f"notice cannot be written to {path}: {exc.strerror}", retry=True) from exc
    return new


NOTIFY = Adapter("notify", Notify, actions={"send": Send}, mutates=False, act=act)
