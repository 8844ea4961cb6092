"""The commands that read: status, facts, decisions, executions, explain. Each returns its exit code."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, TextIO
from urllib.parse import quote

import msgspec

from exhaust.commands.client import Client
from exhaust.commands.command import Command, Root, client, reaching
from exhaust.commands.rendering import chain_lines, fit, item_lines, status_lines
from exhaust.errors import UsageError

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


def _listing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on with what comes")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many, newest first (100)")
    parser.add_argument(
        "--filter", action="append", default=[], metavar="FIELD=VALUE", help="only those; may be repeated"
    )
    reaching(parser)


def _explaining(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID")
    reaching(parser)


async def _status(options: argparse.Namespace, root: Root) -> int:
    async with client(options, root) as system:
        return await run_status(system, options.json)


async def _explain(options: argparse.Namespace, root: Root) -> int:
    async with client(options, root) as system:
        return await run_explain(system, options.id, options.json)


async def _items(kind: str, options: argparse.Namespace, root: Root) -> int:
    filters = dict(_pair(text) for text in options.filter)
    limit, as_json = options.limit, options.json
    async with client(options, root) as system:
        return await run_items(system, kind, filters, limit=limit, as_json=as_json, follow=options.follow)


def _pair(text: str) -> tuple[str, str]:
    field, found, value = text.partition("=")
    if not found:
        raise UsageError(f"--filter takes FIELD=VALUE, got '{text}'")
    return field, value


COMMANDS = (
    Command("status", "show what the loop is doing", "exhaust status", _status, reaching),
    *(
        Command(kind, text, f"exhaust {kind} --json", partial(_items, kind), _listing)
        for kind, text in (
            ("facts", "list what is and was true"),
            ("decisions", "list what was decided, and why not"),
            ("executions", "list what was run, and its verdicts"),
        )
    ),
    Command(
        "explain",
        "show the whole chain of any id: record, fact, decisions, execution, verdict",
        "exhaust explain ID",
        _explain,
        _explaining,
    ),
)
