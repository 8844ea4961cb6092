"""The orchestrator as a service: activations, results and sightings in, signed commands and the journal out."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from exhaust.errors import AdapterError
from exhaust.language import Defined
from exhaust.lifecycle.service import Station
from exhaust.plugins import Adapter, Done, Settings
from exhaust.resending import RESENT
from exhaust.routing import QUEUES
from exhaust.signing import Verifier, fingerprint
from exhaust.store import Store
from exhaust.wire import unpack
from exhaust.worker import Worker
from orchestrator.conductor import Conductor
from orchestrator.journal import Journal
from orchestrator.reach import Doing, Hosts, Reach
from orchestrator.workflows import Workflow

Adapters = Mapping[str, tuple[Adapter[Any], Settings]]


def service(
    station: Station,
    store: Store,
    workflows: Sequence[Defined[Workflow]],
    adapters: Adapters,
    hosts: Hosts,
    lists: Mapping[str, Any],
) -> Worker:
    """Return the worker that conducts these workflows; `adapters` are named uses of a kind with their settings."""
    keys = station.keys
    plugins = {name: plugin for name, (plugin, _) in adapters.items()}
    audience = fingerprint(keys.public("agent"))
    conductor = Conductor(Journal(workflows), Reach(plugins, hosts, lists, store.epoch, audience))
    verifier = Verifier(
        {
            "activation/1": keys.public("activator"),
            "result/1": keys.public("agent"),
            "command/1": keys.public("orchestrator"),  # our own, come back unread
            "order/1": keys.public("collector"),
            RESENT: keys.public("collector"),
        }
    )
    return Worker(
        "orchestrator",
        conductor,
        store,
        station.broker,
        station.clock,
        QUEUES["orchestrator"],
        signer=keys.signer("orchestrator"),
        unpack=partial(unpack, verifier=verifier),
        perform=partial(perform, adapters, station.state / "HALT"),
    )


async def perform(adapters: Adapters, halt: Path, doing: Doing) -> Done:
    """Have an adapter do a task; whatever it raises is the task's failure, not the service's.

    While the file `halt` is there, nothing that changes anything is done. Where the time is over, what mutates may have
    had its effect: that is not known, and not tried again.
    """
    plugin, settings = adapters[doing.adapter]
    if plugin.act is None:
        return Done(error=f"'{doing.adapter}' does nothing itself")
    if plugin.mutates and await asyncio.to_thread(halt.exists):
        return Done(error=f"halted: {halt} exists")
    try:
        async with asyncio.timeout(doing.task.timeout):
            return Done(output=await plugin.act(settings, doing.task))
    except TimeoutError:
        again = not plugin.mutates
        return Done(error=f"no answer within {doing.task.timeout:g} s", retry=again, known=again)
    except AdapterError as exc:
        return Done(output=exc.output, error=str(exc), retry=exc.retry, known=exc.known)
    except Exception as exc:  # noqa: BLE001  the one place: a plug-in must not stop the others
        return Done(error=f"{type(exc).__name__}: {exc}", retry=False)
