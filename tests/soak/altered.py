"""`exhaust up` and `exhaust run` with a fault of our own in it: python -m tests.soak.altered MUTANT up|run …

The product is patched from outside, in its own processes, by what it is known to the broker and to its plug-ins.
"""

import asyncio
import dataclasses
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from exhaust.broker.interface import ACKNOWLEDGE, Delivery, Disposition, Handler, Publication, Queue
from exhaust.broker.rabbitmq import RabbitMQ
from exhaust.commands import serving
from exhaust.lifecycle import supervisor
from exhaust.lifecycle.supervisor import Child
from exhaust.main import CATALOGUE, main
from exhaust.plugins import Outcome, Tools

_LATER = 0.5


def drop(component: str) -> None:
    """Of what emitters have accepted one batch is taken for sent, and never was."""
    if component == "emitters":
        _swallow(10, lambda that: that.key.endswith(".counter.a"))


def forget(component: str) -> None:
    """One order that the activator has decided on leaves its outbox unsent."""
    if component == "activator":
        _swallow(2, lambda that: that.exchange == "exhaust.activations" and that.key == "restart")


def hasten(component: str) -> None:
    """The analyzers acknowledge what has come, and only then look at it."""
    if component == "analyzers":
        _acknowledge_first()


def repeat(component: str) -> None:
    """The helper does what it is told, and once more."""
    if component == "helper":
        action = CATALOGUE.actions["soak.mark"]

        async def twice(params: Any, tools: Tools) -> Outcome:
            await action.act(params, tools)
            return await action.act(params, tools)

        actions: dict[str, Any] = CATALOGUE.actions  # type: ignore[assignment]
        actions["soak.mark"] = dataclasses.replace(action, act=twice)


def nothing(component: str) -> None:
    """No fault at all."""


ALTERATIONS = {alter.__name__: alter for alter in (nothing, drop, forget, hasten, repeat)}


def _swallow(number: int, wanted: Callable[[Publication], bool]) -> None:
    """Confirm one publication that was never sent: the so-manieth of those that are wanted."""
    publish, seen = RabbitMQ.publish, 0

    def swallowing(self: RabbitMQ, publication: Publication) -> Awaitable[None]:
        nonlocal seen
        seen += wanted(publication)
        if seen == number and wanted(publication):
            confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            confirmed.set_result(None)
            return confirmed
        return publish(self, publication)

    RabbitMQ.publish = swallowing  # type: ignore[method-assign]


def _acknowledge_first() -> None:
    consume, working = RabbitMQ.consume, set[asyncio.Task[None]]()

    @asynccontextmanager
    async def hasty(self: RabbitMQ, queue: Queue, handler: Handler, *, prefetch: int = 256) -> AsyncIterator[None]:
        async def later(deliveries: Sequence[Delivery]) -> None:
            await asyncio.sleep(_LATER)
            await handler(deliveries)

        async def first(deliveries: Sequence[Delivery]) -> Sequence[Disposition]:
            task = asyncio.create_task(later(list(deliveries)))
            working.add(task)
            task.add_done_callback(working.discard)
            return [ACKNOWLEDGE] * len(deliveries)

        async with consume(self, queue, first, prefetch=prefetch):
            yield

    RabbitMQ.consume = hasty  # type: ignore[method-assign]


def run() -> None:
    name, what, *rest = sys.argv[1:]
    if what == "up":

        def ours(*given: Any, **more: Any) -> list[Child]:
            return [
                dataclasses.replace(child, argv=_altered(child.argv, name))
                for child in supervisor.children(*given, **more)
            ]

        serving.children = ours  # type: ignore[attr-defined]
    else:
        ALTERATIONS[name](rest[0])
    main([what, *rest])


def _altered(argv: Sequence[str], name: str) -> tuple[str, ...]:
    place = argv.index("exhaust.main")
    return (*argv[:place], "tests.soak.altered", name, *argv[place + 1 :])


if __name__ == "__main__":
    run()
