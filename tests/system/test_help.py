"""The command line as its own help shows it: each example is run as printed, and wrong use is told in one line."""

import json
import os
import re
import shlex
import signal
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.node import Node, free_port
from exhaust.broker.interface import Publication
from exhaust.broker.rabbitmq import RabbitMQ
from exhaust.commands.command import Command, Root
from exhaust.commands.line import COMMANDS, main
from exhaust.configuration import load
from exhaust.errors import UnroutableError
from exhaust.main import CATALOGUE, deciders, run
from tests.system.terminal import ROOT, Done, Terminal, kept, quickstart, until, up

ENDS_WITHIN = 10.0
WIDEST = 100
# Eight seconds long: test_demo.py runs both of its scenes on either broker.
ELSEWHERE = ("demo",)
# Whose /etc/exhaust an example's is, where it is not that of the system that runs.
PLACES = {"up": "spare", "run": "brokered", "broker": "brokered", "init": "nowhere"}
PASSWORD = "between us"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path: a unix socket's has at most 107 bytes."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="xh") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Terminal]:
    """A terminal beside the quickstart, which runs and has healed its service once: ID is that run's."""
    with quickstart(folder / "running") as terminal, up(terminal):
        (service,) = kept(terminal)
        os.kill(service.pid, signal.SIGKILL)
        runs = "exhaust executions --filter verdict=recovered --json"
        until(lambda: terminal.typed(runs).out != "", terminal.folder / "up.log")
        terminal.words["ID"] = json.loads(terminal.typed(runs).out)["id"]
        yield terminal


@pytest.fixture
def spare(folder: Path) -> Iterator[Terminal]:
    """A terminal beside a quickstart of its own, which does not run."""
    with tempfile.TemporaryDirectory(dir=folder) as path, quickstart(Path(path) / "spare") as terminal:
        yield terminal


@pytest.fixture
def nowhere(running: Terminal) -> Terminal:
    """A terminal where /etc/exhaust is not there."""
    return Terminal(running.folder, running.config, {"/etc/exhaust": str(running.folder / "etc" / "exhaust")})


@pytest.fixture(scope="module")
def brokered(folder: Path) -> Iterator[Terminal]:
    """A terminal beside a quickstart that uses a RabbitMQ with the user and the rights of the how-to."""
    page = (ROOT / "docs" / "howto" / "rabbitmq.md").read_text()
    with Node(folder / "node") as node:
        for line in re.findall(r"^rabbitmqctl (.*)$", page, re.MULTILINE):
            asks = [PASSWORD] if line.startswith("add_user") else []
            node.rabbitmqctl(*shlex.split(line), *asks)
        (broker,) = re.findall(r"```yaml\n(broker:\n.*?)```", page, re.DOTALL)
        secret = folder / "password"
        secret.write_text(f"{PASSWORD}\n")
        broker = broker.replace("broker.example.org", f"127.0.0.1:{node.port}")
        broker = broker.replace("/etc/exhaust/broker.password", str(secret))
        with quickstart(folder / "brokered", {"broker: embedded": broker}) as terminal:
            yield terminal


# Every command


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.name not in ELSEWHERE], ids=lambda one: one.name)
def test_an_example_works_as_it_is_printed(command: Command, request: pytest.FixtureRequest) -> None:
    terminal: Terminal = request.getfixturevalue(PLACES.get(command.name, "running"))
    lines = command.example.splitlines()
    assert [line for line in lines if f"exhaust {command.name}" in line]
    for line in lines:
        if command.name in ("up", "run"):
            code, printed = terminal.left(line, " started components=", signal.SIGTERM, ENDS_WITHIN)
        elif "--follow" in line:
            code, printed = terminal.left(line, "\n", signal.SIGINT, ENDS_WITHIN)
        else:
            code, *said = terminal.typed(line)
            printed = "".join(said)
        assert code == (130 if "--follow" in line else 0), printed
        assert "Traceback" not in printed


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.name)
def test_the_help_shows_the_example_and_fits_a_terminal(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command.name, "--help"], Root(CATALOGUE, run, deciders))
    lines = capsys.readouterr().out.splitlines()
    assert left.value.code == 0
    assert lines[lines.index("example:") + 1 :] == [f"  {line}" for line in command.example.splitlines()]
    assert max(map(len, lines)) <= WIDEST


# Wrong use

WRONG = [
    ("exhaust nosuch", 2, "invalid choice: 'nosuch'"),
    ("exhaust explain", 2, "the following arguments are required: ID"),
    ("exhaust facts --filter state", 2, "--filter takes FIELD=VALUE, got 'state'"),
    ("exhaust facts --filter nosuch=1", 2, "no fact has a field 'nosuch': there are causes, "),
    ("exhaust try nosuch", 2, "no emitter is called 'nosuch'; there are "),
    ("exhaust try performance --set evry=1s", 2, "--set evry: unknown key 'evry', did you mean 'every'?"),
    ("exhaust emit traffic --file nosuch.jsonl", 2, "nosuch.jsonl: cannot be read: No such file or directory"),
    ("exhaust init examples", 2, "examples: holds "),
    ("exhaust trigger restart-service servce=shop", 2, "has no input 'servce', did you mean 'service'?"),
    ("exhaust halt --host nosuch", 2, "host 'nosuch' is not in the inventory"),
    ("exhaust explain nosuch", 1, "nothing is known of 'nosuch'"),
    ("exhaust up", 1, " already: stop that one first"),
    ("exhaust status --config nosuch", 1, "nosuch:1:1: cannot be read: No such file or directory"),
    ("exhaust up --config wrong.yaml", 1, "wrong.yaml:1:1: unknown key 'hots', did you mean 'hosts'?"),
    ("exhaust status --token-file examples", 3, "examples: the token cannot be read: "),
    ("exhaust status --token-file nosuch", 3, "nosuch: no token there: start the system with 'exhaust up'"),
    ("exhaust status --token-file foreign", 3, "does not accept the token in foreign"),
    ("exhaust status --config other.yaml --token-file foreign", 3, "start the system with 'exhaust up'"),
]


@pytest.fixture(scope="module")
def told(running: Terminal) -> Mapping[str, Done]:
    """How each of these lines ended, two at a time."""
    (running.folder / "wrong.yaml").write_text("hots: []\n")
    (running.folder / "other.yaml").write_text(f"state: nosuch\nhttp: {{listen: '127.0.0.1:{free_port()}'}}\n")
    (running.folder / "foreign").write_text("0123456789abcdef\n")
    lines = [line for line, _, _ in WRONG]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(lines, pool.map(running.typed, lines), strict=True))


@pytest.mark.parametrize(("line", "code", "says"), WRONG, ids=[line for line, _, _ in WRONG])
def test_wrong_use_is_told_in_one_line(told: Mapping[str, Done], line: str, code: int, says: str) -> None:
    done = told[line]
    assert (done.code, done.out) == (code, ""), done.err
    parts = re.fullmatch(r"(usage: exhaust.*\n(?: .*\n)*)?(.*)\n", done.err)
    assert parts is not None, done.err
    assert says in parts[2]
    assert not parts[1] or code == 2


# The how-to


def test_with_the_rights_of_the_how_to_the_loop_closes_through_rabbitmq(brokered: Terminal) -> None:
    with up(brokered):
        (service,) = kept(brokered)
        os.kill(service.pid, signal.SIGKILL)
        log = brokered.folder / "up.log"
        until(lambda: brokered.typed("exhaust executions --filter verdict=recovered").out != "", log)


async def test_with_the_rights_of_the_how_to_a_dead_letter_is_kept_and_sent_again(brokered: Terminal) -> None:
    log, letters = brokered.folder / "up.log", "exhaust dead-letters --filter message=odd"
    with up(brokered):
        async with RabbitMQ(load(brokered.config, CATALOGUE).broker, name="stranger") as link:
            await link.wait_connected(ENDS_WITHIN)
            await link.publish(Publication("exhaust.journal", "odd", "odd", "odd", b"not JSON", 0.0))
        until(lambda: brokered.typed(letters).out != "", log)
        assert brokered.typed(f"{letters} --resend").code == 0
        until(lambda: "sent again 1 time" in brokered.typed(letters).out, log)
        assert "no message of ours" in brokered.typed(letters).out, "it was read, and refused for what it is"


async def test_the_rights_of_the_how_to_let_a_component_send_to_itself(brokered: Terminal) -> None:
    broker = load(brokered.config, CATALOGUE).broker
    async with RabbitMQ(broker, name="rights") as link:
        await link.wait_connected(ENDS_WITHIN)
        with pytest.raises(UnroutableError):  # through the exchange that has no name, to a queue that is not there
            await link.publish(Publication("", "exhaust.ping.nobody", "ping", "ping", b"", 0.0))
