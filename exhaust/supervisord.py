"""A supervisord, asked and told over its unix socket: one XML-RPC call an HTTP exchange.

What it says is believed only if root or our own user listens there, which the kernel is asked before a byte is sent;
and it is bounded in time and size. So xmlrpc.client's parser, which is not made for hostile XML, meets none that could
cost more than that. It is HTTP/1.0 by hand, because no client library lets the peer be asked for first.
"""

import asyncio
import os
import socket
import struct
import xmlrpc.client
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

import msgspec

from exhaust.errors import ExhaustError, UnreachableError

STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL = 0, 10, 20, 30, 40, 100, 200
BAD_NAME, ALREADY_STARTED, NOT_RUNNING = 10, 60, 70

_CREDENTIALS = struct.Struct("3i")
_MOST_BYTES = 1 << 20
_LONGEST_TEXT = 200
_T = TypeVar("_T")


class SupervisordError(ExhaustError):
    """It answered that it did not do it; `code` is one of its own (`Faults` in supervisor/xmlrpc.py)."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Info(msgspec.Struct, frozen=True):
    """One process as supervisord sees it: `pid` 0 if there is none, `start` 0 (else epoch seconds) if there never was.

    `exitstatus` is -1 after any signal: it does not say which.
    """

    state: int
    statename: str
    pid: int
    start: int
    exitstatus: int
    spawnerr: str = ""


class Config(msgspec.Struct, frozen=True):
    """What it was told of one process; `stopwaitsecs` after being told to stop it is killed."""

    group: str
    name: str
    stopwaitsecs: int


class Supervisord:
    """One supervisord. Each method raises UnreachableError where nobody fit to be believed answers in time."""

    def __init__(self, path: str, *, patience: float = 5.0, users: Collection[int] | None = None) -> None:
        self._path = path
        self._patience = patience
        self._users = (0, os.getuid()) if users is None else users

    async def info(self, name: str) -> Info:
        """Return what it knows of a process, `group:process` or a plain name. Raises SupervisordError."""
        return self._converted(await self.call("supervisor.getProcessInfo", name), Info)

    async def configs(self) -> list[Config]:
        """Return what it was told of all its processes."""
        return self._converted(await self.call("supervisor.getAllConfigInfo"), list[Config])

    async def infos(self, names: Sequence[str]) -> list[Info | SupervisordError]:
        """Return the same of several in one call, in their order."""
        calls = [{"methodName": "supervisor.getProcessInfo", "params": [name]} for name in names]
        found = await self.call("system.multicall", calls)
        if not isinstance(found, list) or len(found) != len(names):
            raise self._unreachable("answers something else than it was asked")
        return [self._info_or_error(item) for item in found]

    async def call(self, method: str, *params: Any) -> Any:
        """Return the answer to one call. Raises SupervisordError where the answer is a refusal."""
        body = xmlrpc.client.dumps(params, method).encode()
        try:
            async with asyncio.timeout(self._patience):
                answer = await self._exchange(body)
        except TimeoutError as exc:
            raise self._unreachable(f"does not answer within {self._patience:g} s") from exc
        except OSError as exc:
            raise self._unreachable(f"cannot be reached: {exc.strerror or exc}") from exc
        try:
            return xmlrpc.client.loads(answer)[0][0]
        except xmlrpc.client.Fault as exc:
            raise self._refusal(exc.faultCode, exc.faultString) from exc
        except Exception as exc:
            raise self._unreachable("answers something that is no XML-RPC") from exc

    async def _exchange(self, body: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            self._trust(writer)
            request = f"POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(request.encode() + body)
            answer = b""
            while chunk := await reader.read(_MOST_BYTES):
                answer += chunk
                if len(answer) > _MOST_BYTES:
                    raise self._unreachable(f"answers more than {_MOST_BYTES} bytes")
        finally:
            writer.close()
        head, _, content = answer.partition(b"\r\n\r\n")
        status = head.partition(b"\r\n")[0]
        if status.split()[1:2] != [b"200"]:
            raise self._unreachable(f"answers '{_text(status.decode(errors='replace'))}'")
        return content

    def _trust(self, writer: asyncio.StreamWriter) -> None:
        """Look who listens (SO_PEERCRED, unix(7)): by its answers we watch processes, and signal them."""
        found = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        uid = _CREDENTIALS.unpack(found)[1]
        if uid not in self._users:
            raise self._unreachable(f"runs as uid {uid}, which is not believed: run it as root, or as our own user")

    def _converted(self, found: Any, type_: type[_T]) -> _T:
        try:
            return msgspec.convert(found, type_)
        except msgspec.ValidationError as exc:
            raise self._unreachable(f"answers what is not understood: {_text(str(exc))}") from exc

    def _info_or_error(self, found: Any) -> Info | SupervisordError:
        if isinstance(found, dict) and "faultCode" in found:
            return self._refusal(found["faultCode"], found.get("faultString"))
        return self._converted(found, Info)

    def _refusal(self, code: Any, text: Any) -> SupervisordError:
        known = code if isinstance(code, int) else 0
        return SupervisordError(f"supervisord at '{self._path}' says '{_text(str(text))}'", known)

    def _unreachable(self, what: str) -> UnreachableError:
        return UnreachableError(f"supervisord at '{self._path}' {what}")


def _text(given: str) -> str:
    """Return what another said so that it fits into one line of ours."""
    return "".join(char if char.isprintable() else " " for char in given[:_LONGEST_TEXT])
