"""SIGHUP to a service, which must be one that handles it: by default it ends a process."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable

from exhaust.plugins import ActionError
from exhaust.processes import Process, ended, heeds, send

_ENDS_WITHIN = 0.2


async def reload(name: str, process: Process | None, order: Callable[[], Awaitable[object]] | None = None) -> int:
    """Send a service's process SIGHUP, by `order` where only its keeper may, see that it lives on, return its pid."""
    pidfd = process.open() if process else None
    if process is None or pidfd is None:
        raise ActionError(f"service '{name}' does not run")
    try:
        if not heeds(process.pid, signal.SIGHUP):
            raise ActionError(f"service '{name}' does not handle SIGHUP: its process {process.pid} would end by it")
        if order is not None:
            await order()
        else:
            send(pidfd, signal.SIGHUP)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDS_WITHIN):
                await ended(pidfd)
                raise ActionError(f"service '{name}' ended when it was told to reload", {"pid": process.pid})
    except PermissionError as exc:
        raise ActionError(f"service '{name}': its process {process.pid} may not be signalled by this helper") from exc
    finally:
        os.close(pidfd)
    return process.pid
