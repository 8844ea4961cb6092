"""What a request says, read with distrust: its content type, its JSON, how deep that goes."""

import asyncio
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from aiohttp import hdrs, web

from collector.refusal import Refusal, bad

DEEPEST = 20
LONGEST_LINE = 64 * 1024
_AT_ONCE = 200
# The earliest moment that can only be meant in milliseconds: the year 5138 in seconds.
_TOO_LATE = 1e11
_JSON = frozenset(("application/json",))
_LINES = frozenset(
    ("application/x-ndjson", "application/jsonl", "application/x-jsonlines", "application/json",
     "text/plain", "application/octet-stream")
)  # fmt: skip

T = TypeVar("T")


async def read_json(request: web.Request, type_: type[T]) -> T:
    """Return the one JSON object of a request; an empty body is an empty object. Raises Refusal."""
    _expect(request, _JSON)
    body = await request.read()
    try:
        content = decoded(body) if body.strip() else {}
        return msgspec.convert(content, type_)
    except (ValueError, msgspec.ValidationError) as exc:
        raise bad(str(exc)) from exc


async def read_records(request: web.Request, now: float) -> list[bytes]:
    """Return the records of a request, a JSON object on each line, as JSON; one without `time` is of `now`.

    Raises Refusal with the number of the first line that is none.
    """
    _expect(request, _LINES)
    records: list[bytes] = []
    for number, line in enumerate((await request.read()).split(b"\n"), 1):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)  # what arrives from the loop comes first
        if not line.strip():
            continue
        try:
            records.append(_record(line, now))
        except ValueError as exc:
            raise bad(f"line {number}: {exc}; none of this request was taken", line=number) from exc
    return records


def _record(line: bytes, now: float) -> bytes:
    if len(line) > LONGEST_LINE:
        raise ValueError(f"is of {len(line)} bytes, at most {LONGEST_LINE} are taken")
    record = decoded(line)
    if not isinstance(record, dict):
        raise ValueError("is no JSON object")
    time = record.get("time")
    if time is None:
        return msgspec.json.encode({**record, "time": now})
    if isinstance(time, bool) or not isinstance(time, int | float):
        raise ValueError("'time' is seconds since the epoch, as a number")
    if not 0 <= time < _TOO_LATE:
        raise ValueError(f"'time' is seconds since the epoch, not {time}")
    return msgspec.json.encode(record)


def _expect(request: web.Request, types: frozenset[str]) -> None:
    if hdrs.CONTENT_TYPE in request.headers and request.content_type not in types:
        raise Refusal(415, "Unsupported Media Type", f"send {min(types)}")
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Refusal(415, "Unsupported Media Type", "send UTF-8")


def decoded(body: bytes) -> Any:
    """Return what JSON says. Raises ValueError, also for what no reader after us could take."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise ValueError(f"is no JSON: {exc}") from exc
    except RecursionError:
        raise ValueError(f"goes deeper than {DEEPEST} levels") from None
    _check(content)
    return content


def _check(content: Any) -> None:
    level = [content]
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return
    raise ValueError(f"goes deeper than {DEEPEST} levels")


def _inside(content: Any) -> Iterator[Any]:
    if isinstance(content, dict):
        yield from content.values()
    elif isinstance(content, list):
        yield from content
    elif isinstance(content, int):
        try:
            float(content)
        except OverflowError:
            raise ValueError("holds a number that is too large for a double") from None
