"""The commands that read: status, the lists, records, explain. Each returns its exit code."""

import argparse
import asyncio
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TextIO
from urllib.parse import quote

from exhaust.commands.client import Client
from exhaust.commands.command import Command, Root, client, reaching
from exhaust.commands.glance import status_lines
from exhaust.commands.rendering import chain_lines, fit, item_lines, record_line
from exhaust.commands.showing import as_line, show
from exhaust.errors import UsageError

_WELL = frozenset(("ready", "leading", "standby"))
_LOOK_AGAIN = 2.0
_HEARD_WITHIN = 10.0
_UNCUT = 4000  # columns, where nobody looks at a terminal
_CLEAR = "\x1b[H\x1b[2J"
_NOTHING = {
    "facts": "no facts: nothing is wrong as far as is known",
    "predictions": "no predictions: nothing is expected as far as is known",
    "decisions": "no decisions: no rule has had anything to answer",
    "executions": "no executions: nothing has been run",
    "dead-letters": "no dead letters: all that came was handled",
    "hosts": "no hosts: the inventory is empty, and nothing has been heard of any",
}


async def run_status(client: Client, as_json: bool, out: TextIO | None = None, *, follow: bool = False) -> int:
    """Show how the system is; 1 where a component is not well. `follow` shows it again and again."""
    while True:
        status = await client.get("/status")
        stream = out or sys.stdout
        if follow and not as_json and stream.isatty():
            stream.write(_CLEAR)
        show(out, [as_line(status)] if as_json else status_lines(status))
        if not follow:
            return 0 if all(one.get("state") in _WELL for one in status["components"].values()) else 1
        await asyncio.sleep(_LOOK_AGAIN)


async def run_items(
    client: Client,
    kind: str,
    filters: Mapping[str, str],
    *,
    limit: int = 20,
    as_json: bool = False,
    follow: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """List the newest of `facts`, `executions` and the like; or each message as it arrives, until interrupted."""
    lines: Callable[[Any], Iterable[str]] = (lambda item: [as_line(item)]) if as_json else partial(item_lines, kind)
    if follow and kind == "hosts":
        return await _follow_hosts(client, filters, lines, out)
    if follow:
        async for message in client.events(kind.removesuffix("s")):
            if all(_said(message, field) == value for field, value in filters.items()):
                show(out, lines(message))
        return 0
    items = await client.items(kind, filters, limit)
    for item in items:
        show(out, lines(item))
    if not items and (out or sys.stdout).isatty():
        show(err or sys.stderr, [f"no {kind} like that" if filters else _NOTHING[kind]])
    return 0


async def _follow_hosts(
    client: Client, filters: Mapping[str, str], lines: Callable[[Any], Iterable[str]], out: TextIO | None
) -> int:
    """Show each host, and again whenever there is more to tell of it than that it was heard."""
    known: dict[str, Any] = {}
    while True:
        for item in await client.items("hosts", filters, sys.maxsize):
            told = {**item, "last_heard": None}
            if known.get(item["id"]) != told:
                known[item["id"]] = told
                show(out, lines(item))
        await asyncio.sleep(_LOOK_AGAIN)


def _said(message: Mapping[str, Any], path: str) -> str:
    """Return a field as a filter names it: `-` for nothing, and what goes into a map as `labels.service`."""
    first, _, rest = path.partition(".")
    value = message.get(first)
    if rest:
        value = value.get(rest) if isinstance(value, dict) else None
    return "-" if value is None else value if isinstance(value, str) else as_line(value)


async def run_records(
    client: Client,
    stream: str,
    host: str | None = None,
    *,
    follow: bool = False,
    as_json: bool = False,
    within: float = _HEARD_WITHIN,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Show what arrives of a stream: the next batch of each host that sends it, for `within` seconds, or all.

    1 where nothing came.
    """
    width = shutil.get_terminal_size().columns if (out or sys.stdout).isatty() else _UNCUT
    awaited = {name for name in await _senders(client, stream) if host in (None, name)}
    heard: set[str] = set()
    try:
        async with asyncio.timeout(None if follow else within):
            batch: list[dict[str, Any]] = []
            async for record in client.records(stream, host):
                if record is not None:
                    batch.append(record)
                    continue
                name = batch[0]["host"]
                if follow or name not in heard:
                    show(out, [as_line(one) if as_json else record_line(one, width) for one in batch])
                heard.add(name)
                batch = []
                if not follow and awaited and awaited <= heard:
                    break
    except TimeoutError:
        pass
    if not heard:
        show(err or sys.stderr, [f"no record of '{fit(stream, 60)}' came: 'exhaust hosts' shows who sends what"])
    return 0 if heard else 1


async def _senders(client: Client, stream: str) -> list[str]:
    """Return the hosts that have sent a stream before."""
    hosts = await client.items("hosts", {}, sys.maxsize)
    return [host["name"] for host in hosts if stream in host["streams"]]


async def run_explain(
    client: Client, name: str, as_json: bool, out: TextIO | None = None, err: TextIO | None = None
) -> int:
    """Show the whole chain that an id belongs to; 1 where nobody has heard of it."""
    chain = await client.find(f"/api/v1/explain/{quote(name, safe='')}")
    if chain is None:
        show(err or sys.stderr, [f"nothing is known of '{fit(name, 60)}': 'exhaust executions' lists ids"])
        return 1
    show(out, [as_line(chain)] if as_json else chain_lines(chain))
    return 0


def _following(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on with what comes")
    reaching(parser)


def _listing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many, newest first (100)")
    parser.add_argument(
        "--filter", action="append", default=[], metavar="FIELD=VALUE", help="only those; may be repeated"
    )
    _following(parser)


def _recording(parser: argparse.ArgumentParser) -> None:
    parser.description = f"""show records as they arrive: of each host that sends them its next batch, then end, after
        {_HEARD_WITHIN:g} s at the latest (exit 1 if nothing came); with --follow all, until interrupted"""
    parser.add_argument("stream", metavar="STREAM", help="such as performance.system, or a pattern, such as 'custom.*'")
    parser.add_argument("--host", metavar="H", help="of this host only")
    _following(parser)


def _explaining(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id", metavar="ID", help="of anything: a record, a message, an order, a run; 8 characters may do"
    )
    reaching(parser)


async def _status(options: argparse.Namespace, root: Root) -> int:
    async with client(options, root) as system:
        return await run_status(system, options.json, follow=options.follow)


async def _explain(options: argparse.Namespace, root: Root) -> int:
    async with client(options, root) as system:
        return await run_explain(system, options.id, options.json)


async def _records(options: argparse.Namespace, root: Root) -> int:
    async with client(options, root) as system:
        return await run_records(system, options.stream, options.host, follow=options.follow, as_json=options.json)


async def _items(kind: str, options: argparse.Namespace, root: Root) -> int:
    filters = filters_of(options.filter)
    limit, as_json = options.limit, options.json
    if limit < 1:
        raise UsageError(f"--limit is at least 1, got {limit}")
    async with client(options, root) as system:
        return await run_items(system, kind, filters, limit=limit, as_json=as_json, follow=options.follow)


def filters_of(texts: Sequence[str]) -> dict[str, str]:
    """Return what is given under `--filter`. Raises UsageError."""
    pairs = [text.partition("=") for text in texts]
    for field, found, _ in pairs:
        if not found:
            raise UsageError(f"--filter takes FIELD=VALUE, got '{field}'")
    return {field: value for field, _, value in pairs}


COMMANDS = (
    Command("status", "show what the loop is doing", "exhaust status", _status, _following),
    *(
        Command(kind, text, example, partial(_items, kind), _listing)
        for kind, text, example in (
            ("facts", "list what is and was true", "exhaust facts --filter state=open"),
            ("predictions", "list what is and was expected", "exhaust predictions --limit 10"),
            ("decisions", "list what was decided, and why not", "exhaust decisions --filter outcome=refused"),
            ("executions", "list what was run, and its verdicts", "exhaust executions --filter verdict=recovered"),
            ("hosts", "list the hosts, what they send and what is wrong with them", "exhaust hosts --json"),
        )
    ),
    Command(
        "records",
        "show what is arriving, live",
        "exhaust records performance.system --follow",
        _records,
        _recording,
    ),
    Command(
        "explain",
        "show the whole chain of any id: record, fact, decisions, execution, verdict",
        "exhaust explain ID",
        _explain,
        _explaining,
    ),
)
