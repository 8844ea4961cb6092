"""The command that tells why a rule does not act: why-not."""

import argparse
import fnmatch
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO
from urllib.parse import quote

from exhaust.commands.client import Client
from exhaust.commands.command import Command, Root, client, reaching
from exhaust.commands.rendering import WIDTH, fit, row, when, wrapped
from exhaust.commands.showing import as_line, show
from exhaust.expressions.errors import suggestion

_MOST_FACTS = 1000
_MOST_DECISIONS = 1000
_SHOWN = 20

Item = Mapping[str, Any]


async def run_why_not(
    client: Client,
    rule: str,
    host: str | None = None,
    *,
    as_json: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Show what a rule answers to each open fact that it is on, or that there is none; 1 where there is no such rule.

    As JSON an object for each such fact: `fact` (its id, null for the last answer where none is open), `name`, `host`,
    `labels`, `since`, and `decision`, the newest about it, null where there is none.
    """
    defined = await client.find(f"/api/v1/rules/{quote(rule, safe='')}")
    if defined is None:
        known = [one["name"] for one in await client.items("rules", {}, _MOST_FACTS)]
        hint = suggestion(rule, known) or (f"; there are {', '.join(known)}" if known else "; there are none")
        show(err or sys.stderr, [fit(f"no rule is called '{fit(rule, 60)}'{hint}", 400)])
        return 1
    names = _names(defined["source"])
    near = {"host": host} if host else {}
    facts = [fact for fact in await _open(client, names, near) if _on(fact["name"], names)]
    decisions = await client.items("decisions", {"rule": rule, **near}, _MOST_DECISIONS)
    newest = _newest(decisions)
    found = [_about(fact, newest.get(fact["id"])) for fact in facts]
    if not found and decisions:
        found = [_about(None, decisions[0])]
    if as_json:
        show(out, map(as_line, found))
    else:
        show(out, _lines(rule, names, host, facts, found))
    return 0


def _names(source: Item) -> list[str]:
    on = source["on"]
    return [on] if isinstance(on, str) else list(on)


def _on(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


async def _open(client: Client, names: Sequence[str], near: Mapping[str, str]) -> list[Any]:
    """Return what is open that may be meant: by name where no name is a pattern."""
    exact = not any(sign in name for name in names for sign in "*?[")
    filters: list[dict[str, str]] = [{"name": name} for name in names] if exact else [{}]
    found: dict[str, Any] = {}
    for kind in ("facts", "predictions"):
        for chosen in filters:
            items = await client.items(kind, {"state": "open", **near, **chosen}, _MOST_FACTS)
            found |= {item["id"]: item for item in items}
    return list(found.values())


def _newest(decisions: Sequence[Any]) -> dict[str, Any]:
    """Return the newest decision about each fact: of the rung that is furthest."""
    found: dict[str, Any] = {}
    for one in sorted(decisions, key=lambda one: (one["rung"], one["updated"])):
        found[one["cause"]] = one
    return found


def _about(fact: Item | None, decision: Item | None) -> dict[str, Any]:
    told = fact or {}
    about = {key: told.get(key) for key in ("name", "host", "labels", "since")}
    return {"fact": told.get("id"), **about, "decision": decision}


def _lines(
    rule: str, names: Sequence[str], host: str | None, facts: Sequence[Item], found: Sequence[Item]
) -> Iterator[str]:
    if not facts:
        where = f" on {fit(host, 60)}" if host else ""
        yield fit(f"nothing is open that '{fit(rule, 60)}' is on{where}: {', '.join(names)}", 400)
        if found:
            yield from _decision(found[0]["decision"], "the last time")
        return
    for one in found[:_SHOWN]:
        labels = " ".join(f"{name}={value}" for name, value in sorted(one["labels"].items()))
        yield row((one["name"], 30), (one["host"], 14), (labels, 30))
        if one["decision"] is None:
            yield "  nothing was decided about it: does the activator run? 'exhaust status' tells"
        else:
            yield from _decision(one["decision"], "  ")
    if len(found) > _SHOWN:
        yield f"and {len(found) - _SHOWN} more: --json lists them all"


def _decision(decision: Item, lead: str) -> Iterator[str]:
    times = f", {decision['count']} times asked" if decision["count"] > 1 else ""
    lead = lead if not lead.strip() else f"{lead}: "
    yield fit(f"{lead}{decision['outcome']}{times}, {when(decision['last_time'])}, {decision['id']}", 400)
    for reason in decision["reasons"]:
        text = f"{reason['guard']}: {fit(reason['have'], 200)}, wants {fit(reason['want'], 200)}"
        for line in wrapped(text, WIDTH - 4):
            yield f"    {line}"
    if decision["outcome"] == "fired" and decision["execution"]:
        yield f"    its run: exhaust explain {decision['execution']}"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rule", metavar="RULE")
    parser.add_argument("--host", metavar="H", help="only facts of this host")
    reaching(parser)


async def _why_not(options: argparse.Namespace, root: Root) -> int:
    async with client(options, root) as system:
        return await run_why_not(system, options.rule, options.host, as_json=options.json)


COMMANDS = (
    Command(
        "why-not",
        "show why a rule does not act: what is open that it is on, and what holds it back",
        "exhaust why-not restart-dead-service --host web-01",
        _why_not,
        _arguments,
    ),
)
