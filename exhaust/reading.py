"""The commands that read: status, facts, decisions, executions, explain. Each returns its exit code."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO
from urllib.parse import quote

import msgspec

from exhaust.client import Client
from exhaust.rendering import chain_lines, fit, item_lines, status_lines

_WELL = frozenset(("ready", "leading", "standby"))


async def run_status(client: Client, as_json: bool, out: TextIO | None = None) -> int:
    """Show how the system is; 1 where a component is not well."""
    status = await client.get("/status")
    _show(out, [_line(status)] if as_json else status_lines(status))
    return 0 if all(one.get("state") in _WELL for one in status["components"].values()) else 1


async def run_items(
    client: Client,
    kind: str,
    filters: Mapping[str, str],
    *,
    limit: int = 20,
    as_json: bool = False,
    follow: bool = False,
    out: TextIO | None = None,
) -> int:
    """List the newest of `facts`, `decisions` or `executions`; or each message as it arrives, until interrupted."""
    if not follow:
        for item in await client.items(kind, filters, limit):
            _show(out, [_line(item)] if as_json else item_lines(kind, item))
        return 0
    async for message in client.events(kind.removesuffix("s")):
        if all(str(message.get(field)) == value for field, value in filters.items()):
            _show(out, [_line(message)] if as_json else item_lines(kind, message))
    return 0


async def run_explain(
    client: Client, name: str, as_json: bool, out: TextIO | None = None, err: TextIO | None = None
) -> int:
    """Show the whole chain that an id belongs to; 1 where nobody has heard of it."""
    chain = await client.find(f"/api/v1/explain/{quote(name, safe='')}")
    if chain is None:
        _show(err or sys.stderr, [f"nothing is known of '{fit(name, 60)}': 'exhaust executions' lists ids"])
        return 1
    _show(out, [_line(chain)] if as_json else chain_lines(chain))
    return 0


def _line(content: Any) -> str:
    """Return JSON that a terminal shows as it stands: what is not ASCII is escaped."""
    return _ascii(msgspec.json.encode(content).decode())


def _ascii(text: str) -> str:
    # Outside strings JSON is ASCII, so every other character stands inside one, where an escape means the same.
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(c if " " <= c < "\x7f" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _show(out: TextIO | None, lines: Iterable[str]) -> None:
    stream = out or sys.stdout
    for line in lines:
        stream.write(f"{line}\n")
    stream.flush()
