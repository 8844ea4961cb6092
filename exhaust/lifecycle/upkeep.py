"""`exhaust up`: the supervisor with all that it answers to: signals, its socket, systemd, a changed configuration."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from exhaust.clock import SystemClock
from exhaust.configuration import Configuration
from exhaust.lifecycle.inspection import Inspection, check_socket
from exhaust.lifecycle.reloading import Reload, Reread
from exhaust.lifecycle.running import only_one, own_folder, served, stop_when_orphaned, tell_stopping
from exhaust.lifecycle.service import reload_on_hangup, stop_on_signals
from exhaust.lifecycle.supervisor import Child, Limits, Supervisor
from exhaust.lifecycle.systemd import Systemd
from exhaust.signing import ROLES, Keys

log = logging.getLogger(__name__)


async def up(
    configuration: Configuration,
    kept: Sequence[Child],
    systemd: Systemd,
    *,
    reread: Reread | None = None,
    limits: Limits = Limits(),  # noqa: B008  is frozen
) -> int:
    """Keep the children of an installation running until told; return the exit code.

    At SIGHUP `reread` is tried first, which raises ConfigurationError with every fault; only what is sound the
    children are told to read for themselves. Raises LockedError where the installation runs already.
    """
    socket = configuration.state / "run" / "supervisor.sock"
    for path in (socket, *(child.socket for child in kept if child.socket is not None)):
        check_socket(path)
    own_folder(configuration.state)
    with only_one(configuration.state / "up.lock"):
        keys = Keys(configuration.state / "keys")
        for role in ROLES:
            keys.signer(role)  # made once, before children race for them
        clock = SystemClock()
        supervisor, reload = Supervisor(kept, clock, limits), Reload(reread, clock, listens=True)
        inspection = Inspection(socket, (), clock, ready=supervisor.ready, about=partial(_about, supervisor, reload))
        until = asyncio.Event()
        stop_on_signals(until, at_once=supervisor.at_once)
        if reread is not None:
            reload_on_hangup(reload.asked, until)
        sides = [
            asyncio.create_task(stop_when_orphaned(until), name="supervisor"),
            asyncio.create_task(tell_stopping(systemd, until), name="stopping"),
            asyncio.create_task(_pass_on(configuration, supervisor, systemd, reload), name="reload"),
            asyncio.create_task(
                systemd.attend(supervisor.complete, inspection.fault, partial(_told, supervisor, reload)),
                name="systemd",
            ),
        ]
        try:
            return await served([supervisor, inspection], until, limits.stop_within + 1.0)
        finally:
            for task in sides:
                task.cancel()


async def _pass_on(configuration: Configuration, supervisor: Supervisor, systemd: Systemd, reload: Reload) -> None:
    while True:
        await reload.asked.wait()
        systemd.reloading()
        if (new := await reload.taken(configuration)) is not None:
            configuration = new
            log.info("configuration is sound, telling the children to read it")
            supervisor.reload()
        systemd.resumed()


def _about(supervisor: Supervisor, reload: Reload) -> dict[str, Any]:
    return {**supervisor.status(), **reload.status()}


def _told(supervisor: Supervisor, reload: Reload) -> str:
    """Return what the service manager shows of us."""
    rows = supervisor.status()["children"]
    lacking = [
        f"{name} {row['state']}" + (f": {row['last_error']}" if row["last_error"] else "")
        for name, row in rows.items()
        if row["state"] != "running"
    ]
    told = lacking or [f"{len(rows)} running"]
    return "; ".join([*told, f"reload refused: {reload.refused}"] if reload.refused else told)
