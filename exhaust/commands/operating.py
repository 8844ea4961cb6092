"""The commands by which people take part: trigger, halt, resume, emit. Each returns its exit code."""

import argparse
import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from exhaust.commands.client import Client
from exhaust.commands.command import Command, Root, client, reaching
from exhaust.commands.rendering import WIDTH, fit, wrapped
from exhaust.commands.showing import as_line, show
from exhaust.configuration import reach
from exhaust.errors import UnreachableError, UsageError

_GIVEN = re.compile(r"([^=:\s]+)(:=|=)(.*)", re.DOTALL)
_LOOK_AGAIN = 1.0
# A collector that is killed is back within 15 s.
_AWAY = 30.0
_CHUNK = 512 * 1024
_LONGEST_LINE = 64 * 1024


async def run_trigger(
    client: Client,
    workflow: str,
    wish: Mapping[str, Any],
    *,
    wait: bool = False,
    as_json: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Ask for a run and show its id; with `wait` until it has ended: 0 only if it succeeded then."""
    asked = await client.post(f"/api/v1/workflows/{quote(workflow, safe='')}/trigger", wish)
    show(out, [as_line(asked) if as_json else asked["execution"]])
    if not wait:
        return 0
    ended = await _end_of(client, asked["execution"], err or sys.stderr)
    show(out, [as_line({**asked, **ended})] if as_json else _end_lines(ended))
    return 0 if ended["state"] == "succeeded" else 1


async def _end_of(client: Client, execution: str, err: TextIO) -> dict[str, Any]:
    """Wait for the end of a run, or for its refusal."""
    news = asyncio.Event()
    following = asyncio.create_task(_listen(client, news), name="follow")
    told, answered = "", time.monotonic()
    try:
        while True:
            news.clear()
            try:
                chain = await client.find(f"/api/v1/explain/{execution}")
                answered = time.monotonic()
            except UnreachableError:
                if time.monotonic() - answered > _AWAY:
                    raise
                chain = None
            if ended := _ended(chain or {}):
                return ended
            if (now := _progress(chain or {})) and now != told:
                told = now
                if err.isatty():
                    show(err, [told])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN):
                    await news.wait()
    finally:
        following.cancel()


async def _listen(client: Client, news: asyncio.Event) -> None:
    """Tell of whatever is decided or run; while nobody tells, the one who waits looks now and then."""
    with contextlib.suppress(UnreachableError):
        async for _ in client.events("decision", "execution"):
            news.set()


def _ended(chain: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how a run ended, or that it was refused; None where neither is so yet."""
    for run in chain.get("executions", ()):
        if run["ended"] is not None:
            return {key: run[key] for key in ("state", "verdict", "reason", "error", "tasks")}
    for decision in chain.get("decisions", ()):
        if decision["outcome"] == "refused":
            return {"state": "refused", "verdict": None, "reasons": decision["reasons"]}
    return None


def _progress(chain: Mapping[str, Any]) -> str:
    for run in chain.get("executions", ()):
        tasks = [task["name"] for task in run["tasks"] if task["state"] == "running"]
        return fit(": ".join(filter(None, (run["state"], ", ".join(tasks) or run["reason"]))))
    return "decided" if chain.get("decisions") else ""


def _end_lines(ended: Mapping[str, Any]) -> Iterator[str]:
    if ended["state"] == "refused":
        yield "refused"
        for reason in ended["reasons"]:
            have, want = fit(reason["have"], 200), fit(reason["want"], 200)
            yield fit(f"  {fit(reason['guard'], 20)}: {have}, wants {want}")
        return
    why = ": ".join(filter(None, (ended["reason"], ended["error"])))
    yield fit(f"{ended['state']}, {ended['verdict'] or 'no verdict'}" + (f": {fit(why, 200)}" if why else ""))
    for task in ended["tasks"]:
        if task["error"]:
            for line in wrapped(f"{fit(task['name'], 40)}: {fit(task['error'], 400)}", WIDTH - 2):
                yield f"  {line}"


async def run_hold(
    client: Client,
    what: str,
    host: str | None,
    reason: str,
    *,
    as_json: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Halt or resume everything, or one host; 1 where nobody hears of it yet."""
    answer = await client.post(f"/api/v1/{what}", {"host": host, "reason": reason})
    done = {"halt": "halted", "resume": "resumed"}[what]
    show(out, [as_line(answer) if as_json else fit(f"{done}: {'everything' if host is None else host}")])
    if "broker" not in await client.waits_for():
        return 0
    show(err or sys.stderr, ["the broker is away: who acts hears of it when it is back, and not before"])
    return 1


async def run_emit(
    client: Client,
    stream: str,
    source: int,
    *,
    as_json: bool = False,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Send the JSON lines that a descriptor gives, as they come; 0 once the last of them is on disk."""
    lines = records = 0
    watching = (err or sys.stderr).isatty()
    try:
        async for part in _whole_lines(source):
            records += await client.emit(stream, part, lines)
            lines += part.count(b"\n")
            if watching:
                (err or sys.stderr).write(f"\r{records} records")
    except (UsageError, UnreachableError) as exc:
        raise type(exc)(f"{exc}; {records} records before were taken" if records else str(exc)) from exc
    finally:
        if watching and records:
            (err or sys.stderr).write("\n")
    show(out, [as_line({"records": records}) if as_json else f"{records} record{'s' * (records != 1)} taken"])
    return 0


async def _whole_lines(source: int) -> AsyncIterator[bytes]:
    """Yield what has come so far, cut after a line; what comes slowly is not waited for."""
    rest, lines = b"", 0
    while True:
        await _readable(source)
        try:
            chunk = os.read(source, _CHUNK)
        except OSError as exc:
            raise UsageError(f"what is to be emitted cannot be read: {exc.strerror}") from exc
        if not chunk:
            break
        whole, found, rest = (rest + chunk).rpartition(b"\n")
        if found:
            lines += whole.count(b"\n") + 1
            yield whole + found
        if len(rest) > _LONGEST_LINE:
            raise UsageError(f"line {lines + 1}: is of more than {_LONGEST_LINE} bytes")
    if rest or not lines:  # of nothing, too, it is said whether it would have been taken
        yield rest


async def _readable(source: int) -> None:
    """Wait until there is something to read, without keeping the process from being interrupted."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(source, ready.set)
    except PermissionError:  # a file can always be read
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(source)


def given(words: Sequence[str]) -> dict[str, Any]:
    """Return inputs: `k=v` is text, `k:=v` is JSON. Raises UsageError."""
    inputs: dict[str, Any] = {}
    for word in words:
        found = _GIVEN.fullmatch(word)
        if found is None:
            raise UsageError(f"expected an input such as service=shop or count:=3, got '{word}'")
        name, sign, text = found.groups()
        if name in inputs:
            raise UsageError(f"input '{name}' is given twice")
        try:
            inputs[name] = json.loads(text) if sign == ":=" else text
        except ValueError as exc:
            raise UsageError(f"input '{name}': '{text}' is no JSON: {exc}") from exc
    return inputs


def _trigger_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="H", help="the host that it acts on; needed unless there is only one")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for who reads it later")
    parser.add_argument("--wait", action="store_true", help="wait for its end; exit 0 only if it succeeded")
    reaching(parser)


def _trigger_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workflow", metavar="WORKFLOW")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="k=v", help="inputs: k=v is text, k:=v is JSON")
    _trigger_options(parser)


async def _trigger(options: argparse.Namespace, root: Root) -> int:
    # Options and inputs may stand in any order after the workflow, which argparse's subcommands cannot do themselves.
    after = argparse.ArgumentParser(prog="exhaust trigger", add_help=False, argument_default=argparse.SUPPRESS)
    _trigger_options(after)
    after.add_argument("inputs", nargs="*", default=[], metavar="k=v")
    options = after.parse_intermixed_args(options.rest, options)
    wish = {"inputs": given(options.inputs), "host": options.host, "reason": options.reason}
    async with client(options, root) as system:
        return await run_trigger(system, options.workflow, wish, wait=options.wait, as_json=options.json)


def _hold_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="H", help="this host only")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for who reads it later")
    reaching(parser)


async def _hold(what: str, options: argparse.Namespace, root: Root) -> int:
    try:
        async with client(options, root) as system:
            return await run_hold(system, what, options.host, options.reason, as_json=options.json)
    except UnreachableError as exc:
        file = reach(options.config)[0] / "HALT"
        way = f"'touch {file}' halts this host" if what == "halt" else f"'rm {file}' lifts what that file halts"
        raise UnreachableError(f"{exc}; without it {way}") from exc


def _emit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="STREAM", help="records become those of custom.STREAM")
    parser.add_argument("--file", metavar="F", help="JSON lines, each with an optional time (standard input)")
    reaching(parser)


async def _emit(options: argparse.Namespace, root: Root) -> int:
    async with client(options, root) as system:
        send = partial(run_emit, system, options.stream, as_json=options.json)
        if options.file is None or options.file == "-":
            return await send(sys.stdin.fileno())
        try:
            source = os.open(Path(options.file), os.O_RDONLY)
        except OSError as exc:
            raise UsageError(f"{options.file}: cannot be read: {exc.strerror}") from exc
        try:
            return await send(source)
        finally:
            os.close(source)


COMMANDS = (
    Command(
        "trigger",
        "run a workflow; prints the execution's id",
        "exhaust trigger restart-service service=shop --wait",
        _trigger,
        _trigger_arguments,
    ),
    *(
        Command(what, text, example, partial(_hold, what), _hold_arguments)
        for what, text, example in (
            (
                "halt",
                "let nothing that acts start, everywhere or on one host",
                "exhaust halt --reason 'the network is down'\nexhaust resume",
            ),
            ("resume", "lift a halt", "exhaust resume --reason 'the network is back'"),
        )
    ),
    Command(
        "emit",
        "send JSON lines as records of custom.STREAM",
        """echo '{"requests_per_second": 950}' > traffic.jsonl\nexhaust emit traffic --file traffic.jsonl""",
        _emit,
        _emit_arguments,
    ),
)
