"""The commands that run the loop: demo, up, run, broker."""

import argparse
import asyncio
import os
from functools import partial
from pathlib import Path

from exhaust.broker.rabbitmq import RabbitMQ
from exhaust.commands.command import Command, Root, configured
from exhaust.configuration import load
from exhaust.demo.telling import demo
from exhaust.errors import UsageError
from exhaust.lifecycle.running import COMPONENTS, topology
from exhaust.lifecycle.service import run_to_exit
from exhaust.lifecycle.supervisor import children
from exhaust.lifecycle.systemd import Systemd
from exhaust.lifecycle.upkeep import up

_CONNECTED_WITHIN = 10.0


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--broker", default="embedded", metavar="URL", help="embedded, or amqp://… of a RabbitMQ to use"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per step")


async def _demo(options: argparse.Namespace, root: Root) -> int:
    return await demo(options.broker, as_json=options.json)


def _up(options: argparse.Namespace, root: Root) -> int:
    systemd = Systemd.claimed(os.environ, os.getpid())
    reread = partial(load, options.config, root.catalogue)
    configuration, config = reread(), str(Path(options.config).absolute())
    kept = children(COMPONENTS, config, embedded=configuration.embedded, sockets=configuration.state / "run")
    return asyncio.run(up(configuration, kept, systemd, reread=reread))


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("components", nargs="+", metavar="COMPONENT", choices=COMPONENTS, help=" ".join(COMPONENTS))
    configured(parser)


def _run(options: argparse.Namespace, root: Root) -> int:
    configuration = load(options.config, root.catalogue)
    components = [name for name in COMPONENTS if name in options.components]
    if configuration.embedded and set(components) != set(COMPONENTS):
        raise UsageError("with the embedded broker all components run in one process: use 'exhaust up'")
    run_to_exit(root.run(components, configuration, partial(load, options.config, root.catalogue)))
    return 0


def _broker_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["setup"])
    configured(parser)


async def _broker(options: argparse.Namespace, root: Root) -> int:
    configuration = load(options.config, root.catalogue)
    if configuration.embedded:
        raise UsageError("the embedded broker needs no set-up: 'broker: amqp://…' names a RabbitMQ")
    async with RabbitMQ(configuration.broker, name=f"exhaust-setup@{configuration.host}") as broker:
        await broker.wait_connected(_CONNECTED_WITHIN)
        await broker.declare(*topology(configuration))
    return 0


COMMANDS = (
    Command(
        "demo",
        "show the loop on real processes of this host, in a scratch directory",
        "exhaust demo",
        _demo,
        _demo_arguments,
    ),
    Command("up", "run every component of this host, supervised", "exhaust up --config /etc/exhaust", _up, configured),
    Command(
        "run",
        "run components in this process",
        "exhaust run analyzers --config /etc/exhaust",
        _run,
        _run_arguments,
    ),
    Command(
        "broker",
        "declare exchanges and queues",
        "exhaust broker setup --config /etc/exhaust",
        _broker,
        _broker_arguments,
    ),
)
