"""The command line: what each command takes, and its exit code."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from exhaust import logs, reading
from exhaust.client import Client
from exhaust.clock import SystemClock
from exhaust.configuration import Catalogue, Configuration, check, load
from exhaust.demo.telling import demo
from exhaust.errors import ConfigurationError, ExhaustError, UnreachableError, UsageError
from exhaust.evaluating import as_json, evaluate, evaluate_lines
from exhaust.running import COMPONENTS, only_one, opened_broker, own_folder, stop_when_orphaned, topology
from exhaust.service import run_to_exit, stop_on_signals
from exhaust.signing import Keys
from exhaust.supervisor import children, supervise

DEFAULT_CONFIG = "/etc/exhaust"

Run = Callable[[Sequence[str], Configuration], Awaitable[int]]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; each command's help ends with an example."""
    top = argparse.ArgumentParser(prog="exhaust", description="An autonomous control loop over Linux hosts.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, example: str) -> argparse.ArgumentParser:
        form = argparse.RawDescriptionHelpFormatter
        return commands.add_parser(
            name, help=text, description=text, epilog=f"example:\n  {example}", formatter_class=form
        )

    command = add("demo", "show the loop on real processes of this host, in a scratch directory", "exhaust demo")
    command.add_argument(
        "--broker", default="embedded", metavar="URL", help="embedded, or amqp://… of a RabbitMQ to use"
    )
    command.add_argument("--json", action="store_true", help="one JSON object per step")

    command = add("check", "tell every fault of a configuration", "exhaust check /etc/exhaust")
    command.add_argument("path", metavar="PATH")

    command = add("up", "run every component of this host, supervised", "exhaust up --config /etc/exhaust")
    _config(command)

    command = add("run", "run components in this process", "exhaust run analyzers --config /etc/exhaust")
    command.add_argument("components", nargs="+", metavar="COMPONENT", choices=COMPONENTS, help=" ".join(COMPONENTS))
    _config(command)

    command = add("broker", "declare exchanges and queues", "exhaust broker setup --config /etc/exhaust")
    command.add_argument("what", choices=["setup"])
    _config(command)

    command = add(
        "eval", "evaluate one expression", """exhaust eval 'record.cpu > 90' --vars '{"record": {"cpu": 95}}'"""
    )
    command.add_argument("expression", metavar="EXPR", help='an expression, or - for JSON lines {"expr", "vars"}')
    command.add_argument("--vars", default="{}", metavar="JSON", help="the variables, as one JSON object")

    command = add("status", "show what the loop is doing", "exhaust status")
    _reaching(command)
    for name, text in (
        ("facts", "list what is and was true"),
        ("decisions", "list what was decided, and why not"),
        ("executions", "list what was run, and its verdicts"),
    ):
        command = add(name, text, f"exhaust {name} --json")
        command.add_argument("--follow", action="store_true", help="go on with what comes")
        command.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many, newest first (100)")
        command.add_argument(
            "--filter", action="append", default=[], metavar="FIELD=VALUE", help="only those; may be repeated"
        )
        _reaching(command)
    command = add(
        "explain", "show the whole chain of any id: record, fact, decisions, execution, verdict", "exhaust explain ID"
    )
    command.add_argument("id", metavar="ID")
    _reaching(command)
    return top


def _config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        default=os.environ.get("EXHAUST_CONFIG", DEFAULT_CONFIG),
        metavar="PATH",
        help="a file or a directory (EXHAUST_CONFIG, else /etc/exhaust)",
    )


def _reaching(command: argparse.ArgumentParser) -> None:
    _config(command)
    command.add_argument("--token-file", metavar="FILE", help="who you are (STATE/token)")
    command.add_argument("--json", action="store_true", help="one JSON object per line")


def main(argv: Sequence[str], catalogue: Catalogue, run: Run) -> None:
    """Parse, run, and leave with the exit code: 0 done, 1 not well, 2 wrong usage, 3 not reached."""
    options = parser().parse_args(argv)
    logs.configure()
    try:
        code = _dispatch(options, catalogue, run)
    except UnreachableError as exc:
        code = _complain(exc, 3)
    except ConfigurationError as exc:
        code = _complain(exc, 1)
    except UsageError as exc:
        code = _complain(exc, 2)
    except ExhaustError as exc:
        code = _complain(exc, 1)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # whoever read us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _complain(exc: Exception, code: int) -> int:
    print(exc, file=sys.stderr)  # noqa: T201  the command line's own voice
    return code


def _dispatch(options: argparse.Namespace, catalogue: Catalogue, run: Run) -> int:
    match options.command:
        case "check":
            return _check(options.path, catalogue)
        case "eval":
            return _eval(options)
        case "demo":
            return asyncio.run(demo(options.broker, as_json=options.json))
        case "run":
            _run(options, catalogue, run)
        case "up":
            return asyncio.run(_up(load(options.config, catalogue), str(Path(options.config).absolute())))
        case "broker":
            return asyncio.run(_setup(load(options.config, catalogue)))
        case _:
            return asyncio.run(_read(options, catalogue))
    return 0


def _check(path: str, catalogue: Catalogue) -> int:
    configuration, faults = check(path, catalogue)
    if configuration is not None and configuration.host_policy is not None:
        faults += catalogue.policy(configuration.host_policy)
    for fault in faults:
        warning = "warning: " if fault.severity == "warning" else ""
        print(str(fault).replace(": ", f": {warning}", 1))  # noqa: T201
    return 1 if any(fault.severity == "error" for fault in faults) else 0


def _eval(options: argparse.Namespace) -> int:
    if options.expression == "-":
        evaluate_lines(sys.stdin, sys.stdout)
        return 0
    try:
        variables = json.loads(options.vars)
        if not isinstance(variables, dict):
            raise ValueError("a JSON object is needed")
    except ValueError as exc:
        raise UsageError(f"--vars: {exc}") from exc
    answer = evaluate(options.expression, variables)
    if "value" in answer:
        print(as_json(answer["value"]))  # noqa: T201
        return 0
    if "unknown" in answer:
        print(f"unknown: {answer['unknown']}")  # noqa: T201
        return 1
    raise UsageError(f"refused: {answer['refused']}")


def _run(options: argparse.Namespace, catalogue: Catalogue, run: Run) -> None:
    configuration = load(options.config, catalogue)
    components = list(dict.fromkeys(options.components))
    if configuration.embedded and set(components) != set(COMPONENTS):
        raise UsageError("with the embedded broker all components run in one process: use 'exhaust up'")
    run_to_exit(run(components, configuration))


async def _up(configuration: Configuration, config: str) -> int:
    own_folder(configuration.state)
    with only_one(configuration.state / "up.lock"):
        return await _supervise(configuration, config)


async def _supervise(configuration: Configuration, config: str) -> int:
    keys = Keys(configuration.state / "keys")
    for role in ("activator", "orchestrator", "agent"):
        keys.signer(role)  # made once, before children race for them
    until = asyncio.Event()
    stop_on_signals(until)
    orphaned = asyncio.create_task(stop_when_orphaned(until), name="supervisor")
    await supervise(children(COMPONENTS, config, embedded=configuration.embedded), until, SystemClock())
    orphaned.cancel()
    return 0


async def _setup(configuration: Configuration) -> int:
    if configuration.embedded:
        raise UsageError("the embedded broker needs no set-up: 'broker: amqp://…' names a RabbitMQ")
    async with opened_broker(configuration, "setup") as broker:
        try:
            async with asyncio.timeout(30.0):
                await broker.declare(*topology(configuration))
        except TimeoutError:
            raise UnreachableError(f"no broker answers: {getattr(broker, 'last_error', None)}") from None
    return 0


async def _read(options: argparse.Namespace, catalogue: Catalogue) -> int:
    configuration = load(options.config, catalogue)
    token = Path(options.token_file) if options.token_file else configuration.state / "token"
    async with Client(configuration.http.listen, token) as client:
        match options.command:
            case "status":
                return await reading.run_status(client, options.json)
            case "explain":
                return await reading.run_explain(client, options.id, options.json)
        filters = dict(_pair(text) for text in options.filter)
        limit, as_json = options.limit, options.json
        return await reading.run_items(
            client, options.command, filters, limit=limit, as_json=as_json, follow=options.follow
        )


def _pair(text: str) -> tuple[str, str]:
    field, found, value = text.partition("=")
    if not found:
        raise UsageError(f"--filter takes FIELD=VALUE, got '{text}'")
    return field, value
