"""The unix socket between agent and helper: sealed commands one way, answers the other, many in flight."""

import asyncio
import contextlib
import hashlib
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agents.journal import Answer

_SIZE = struct.Struct("!I")
_CREDENTIALS = struct.Struct("3i")
_MOST_BYTES = 1 << 20
NO_HELPER = "no_helper"
_PATIENCE = (0.02, 0.05, 0.1, 0.2, 0.5)


class Reply(msgspec.Struct, frozen=True):
    """An answer with the digest of the envelope that it answers."""

    digest: str
    answer: Answer


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Reply).decode


def digest(envelope: bytes) -> str:
    return hashlib.sha256(envelope).hexdigest()


def frame(body: bytes) -> bytes:
    """Return a body with its length before it."""
    return _SIZE.pack(len(body)) + body


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next body, None at the end of the connection."""
    try:
        (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
        return await reader.readexactly(size) if size <= _MOST_BYTES else None
    except (asyncio.IncompleteReadError, OSError):
        return None


def peer_uid(writer: asyncio.StreamWriter) -> int:
    """Return the user of the other end, as the kernel says (SO_PEERCRED, unix(7))."""
    found = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(found)[1])


@dataclass(slots=True)
class _Request:
    envelope: bytes
    answer: asyncio.Future[Answer | None]
    sent: bool = False


class HelperLine:
    """The agent's end: asks again whenever the connection is new, as the helper does nothing twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: dict[str, _Request] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._leaving = self._over = False
        self.helper_uid: int | None = None

    @property
    def connected(self) -> bool:
        return self._writer is not None

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        failures = 0
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path))
            except OSError:
                await asyncio.sleep(_PATIENCE[min(failures, len(_PATIENCE) - 1)])
                failures += 1
                continue
            failures = 0
            try:
                await self._talk(reader, writer)
            finally:
                self._writer = None
                writer.close()
            if self._leaving:
                self._let_go()
            await asyncio.sleep(_PATIENCE[0])

    async def ask(self, key: str, envelope: bytes, patience: float) -> Answer | None:
        """Return the helper's answer; after `patience` seconds without one, what is known then; None if given up."""
        if self._over:
            return None
        request = _Request(envelope, asyncio.get_running_loop().create_future())
        self._waiting[digest(envelope)] = request
        if self._writer is not None:
            self._send(self._writer, request)
        try:
            async with asyncio.timeout(max(0.0, patience)):
                return await request.answer
        except TimeoutError:
            if request.sent:
                return Answer(key, "indeterminate", "no_answer")
            return Answer(key, "failed", NO_HELPER)
        finally:
            del self._waiting[digest(envelope)]

    async def given_up(self, within: float) -> None:
        """Wait for what is under way, while there is a helper to answer; then let go: the next start asks again."""
        self._leaving = True
        if self._waiting and self.connected:
            await asyncio.wait([request.answer for request in self._waiting.values()], timeout=within)
        self._let_go()

    def _let_go(self) -> None:
        self._over = True
        for request in self._waiting.values():
            if not request.answer.done():
                request.answer.set_result(None)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.helper_uid = peer_uid(writer)
        self._writer = writer
        for request in list(self._waiting.values()):
            self._send(writer, request)
        while (body := await read_frame(reader)) is not None:
            with contextlib.suppress(msgspec.MsgspecError):
                reply = _decode(body)
                asked = self._waiting.get(reply.digest)
                if asked and not asked.answer.done():
                    asked.answer.set_result(reply.answer)

    @staticmethod
    def _send(writer: asyncio.StreamWriter, request: _Request) -> None:
        writer.write(frame(request.envelope))
        request.sent = True

    def status(self) -> dict[str, object]:
        same = self.helper_uid == os.getuid()
        separation = "unknown" if self.helper_uid is None else "none" if same else "users"
        return {"connected": self.connected, "waiting": len(self._waiting), "separation": separation}
