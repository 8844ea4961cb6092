"""Probes of http: a GET by hand over asyncio's streams, HTTP/1.1 (RFC 9112).

A client library would follow, decode and pool; what is needed here is the time of each step, a bound on all that is
read, the certificate where it is not trusted, and a connection that is gone when the time is up.
"""

import asyncio
import re
import time

from emitters.probing.attempt import Attempt, ProbeError
from emitters.probing.handshake import secured, streams
from emitters.probing.probe import Url, url

_MOST_HEAD = 1 << 16
_MOST_BODY = 1 << 20
_MOST_BYTES = 2 * _MOST_BODY  # as they come, with what chunks add
_PIECE = 1 << 16
_MOST_CHUNK_HEAD = 256
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([^\r\n]*))?\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,15})[ \t]*\r?$")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding:[^\r\n]*\bchunked[ \t]*\r?$")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]{0,200}\r?\n")


async def http(attempt: Attempt) -> None:
    there = url(attempt.probe.http)
    async with secured(attempt, there.place) if there.secure else streams(attempt, there.place) as (reader, writer):
        writer.write(_request(there))
        since = time.monotonic()
        read = Reading(reader)
        await read.more()
        attempt.took("first_byte", since)
        head = await read.head()
        status, reason = int(head[1]), (head[2] or b"").decode(errors="backslashreplace")
        attempt.found["status"] = status
        expected = attempt.probe.expect
        well = status in expected if isinstance(expected, tuple) and expected else 200 <= status < 400
        if not well:
            raise ProbeError("status", f"{status} {reason}".strip())
        if isinstance(expected, str) and not await read.finds(expected.encode()):
            raise ProbeError("body", f"what is expected is not in the {len(read.body)} bytes of the body")


def _request(there: Url) -> bytes:
    lines = (
        f"GET {there.target} HTTP/1.1",
        f"Host: {there.authority}",
        "User-Agent: exhaust",
        "Accept: */*",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


class Reading:
    """An answer as far as it was read: `raw` is what is not taken apart yet, `body` the content; none is read twice."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._ended = False
        self._head = b""
        self._count = 0
        self.raw = bytearray()
        self.body = bytearray()

    async def more(self) -> None:
        """Read on. Raises ProbeError where there was nothing at all."""
        piece = await self._reader.read(_PIECE)
        self._ended = not piece
        self._count += len(piece)
        self.raw += piece
        if not self.raw and not self._head:
            raise ProbeError("closed", "the connection was closed without an answer")

    async def head(self) -> re.Match[bytes]:
        """Return status and reason of the final answer. Raises ProbeError where it is not HTTP."""
        while True:
            looked = 0
            while (end := _HEAD_END.search(self.raw, looked)) is None:
                if self._ended or len(self.raw) > _MOST_HEAD or not b"HTTP/1.".startswith(self.raw[:7]):
                    raise ProbeError("protocol", "the answer is not HTTP/1")
                looked = max(0, len(self.raw) - 3)
                await self.more()
            self._head = bytes(self.raw[: end.end()])
            del self.raw[: end.end()]
            found = _STATUS.match(self._head)
            if found is None:
                raise ProbeError("protocol", "the answer is not HTTP/1")
            if not found[1].startswith(b"1"):
                return found

    async def finds(self, text: bytes) -> bool:
        """Read the body until a text has come; up to its end, or its first MiB."""
        length = _LENGTH.search(self._head)
        chunked, complete, looked = _CHUNKED.search(self._head) is not None, False, 0
        most = min(int(length[1]), _MOST_BODY) if length and not chunked else _MOST_BODY
        while True:
            if chunked:
                complete = unchunk(self.raw, self.body)
            else:
                self.body += self.raw
                self.raw.clear()
            if self.body.find(text, looked) >= 0:
                return True
            if complete or self._ended or len(self.body) >= most or self._count > _MOST_BYTES:
                return False
            looked = max(0, len(self.body) - len(text) + 1)
            await self.more()


def unchunk(raw: bytearray, body: bytearray) -> bool:
    """Move the content of whole chunks from one to the other; return whether that is all, or no more can come of it."""
    place, last = 0, False
    while not last and (chunk := _CHUNK.match(raw, place)) is not None:
        size, start = int(chunk[1], 16), chunk.end()
        if len(raw) < start + size + 2:
            break
        body += raw[start : start + size]
        place, last = start + size + 2, size == 0
    del raw[:place]
    head = raw[:_MOST_CHUNK_HEAD]
    return last or (len(head) == _MOST_CHUNK_HEAD and _CHUNK.match(head) is None)
