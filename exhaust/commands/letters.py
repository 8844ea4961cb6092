"""The command for what could not be handled: dead-letters lists them, shows one, sends them again."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO
from urllib.parse import quote

import msgspec

from exhaust.commands.client import Client
from exhaust.commands.command import Command, Root, client, reaching
from exhaust.commands.reading import filters_of, run_items
from exhaust.commands.rendering import WIDTH, fit, row, when, wrapped
from exhaust.commands.showing import as_line, show
from exhaust.errors import UsageError

KIND = "dead-letters"
_PATH = f"/api/v1/{KIND}"
_ALL = 10_000
_OF_ONE = ("id", "message", "type", "host", "stream", "queue", "reason", "exchange", "key", "attempts", "size")

Item = Mapping[str, Any]


async def run_letter(
    client: Client, name: str, *, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None
) -> int:
    """Show one whole; 1 where there is none."""
    letter = await client.find(f"{_PATH}/{quote(name, safe='')}")
    if letter is None:
        show(err or sys.stderr, [f"no dead letter is called '{fit(name, 60)}': 'exhaust dead-letters' lists them"])
        return 1
    show(out, [as_line(letter)] if as_json else whole_lines(letter))
    return 0


async def run_resend(
    client: Client, names: Sequence[str], *, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None
) -> int:
    """Send them again to the queues that refused them; 1 where one of them stays."""
    stays = 0
    for name in names:
        try:
            sent = await client.post(f"{_PATH}/{quote(name, safe='')}/resend", {})
        except UsageError as exc:
            stays += 1
            show(err or sys.stderr, [f"{fit(name, 60)}: {exc}"])
        else:
            show(out, [as_line(sent) if as_json else fit(f"{name} to {sent['queue']}")])
    return 1 if stays else 0


def whole_lines(letter: Item) -> Iterator[str]:
    """Render one with all that is known of it, its headers and its body."""
    yield row(("time", 9), (when(letter["time"]), 24))
    yield row(("received", 9), (when(letter["received"]), 24))
    for name in _OF_ONE:
        yield from _field(name, letter[name], 9)
    for name, value in letter["headers"].items():
        yield from _field(f"header {fit(name, 40)}", value, 0)
    yield ""
    yield from _body(letter)


def _field(name: str, value: Any, width: int) -> Iterator[str]:
    lead = f"{name:{width}}  "
    for line in wrapped(fit(value, 4 * WIDTH), WIDTH - len(lead)):
        yield lead + line
        lead = " " * len(lead)


def _body(letter: Item) -> Iterator[str]:
    if "body" in letter:
        text = msgspec.json.format(as_line(letter["body"]).encode(), indent=2).decode()
    elif "text" in letter:
        text = str(letter["text"])
    else:
        yield "in base64:"
        text = str(letter["base64"])
    for line in text.split("\n"):
        yield from wrapped(fit(line, 4 * len(line) + 1), WIDTH)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "list what could not be handled, the newest first; with an ID show one whole; with --resend\n"
        "send that one, or all that match, again to the queues that refused them. Look at what you\n"
        "send again: whoever may write to the broker may have put it there"
    )
    parser.add_argument("id", nargs="?", metavar="ID", help="of a dead letter")
    parser.add_argument("--resend", action="store_true", help="send again, and take from the list what is taken")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="list at most so many (100)")
    parser.add_argument(
        "--filter", action="append", default=[], metavar="FIELD=VALUE", help="only those; may be repeated"
    )
    reaching(parser)


async def _letters(options: argparse.Namespace, root: Root) -> int:
    filters = filters_of(options.filter)
    if options.limit < 1:
        raise UsageError(f"--limit is at least 1, got {options.limit}")
    async with client(options, root) as system:
        if options.resend:
            found = [] if options.id else await system.items(KIND, filters, _ALL)
            names = [options.id] if options.id else [letter["id"] for letter in reversed(found)]
            return await run_resend(system, names, as_json=options.json)
        if options.id:
            return await run_letter(system, options.id, as_json=options.json)
        return await run_items(system, KIND, filters, limit=options.limit, as_json=options.json)


COMMANDS = (
    Command(
        "dead-letters",
        "list what could not be handled, show one, send it again",
        "exhaust dead-letters --filter host=web-01",
        _letters,
        _arguments,
    ),
)
