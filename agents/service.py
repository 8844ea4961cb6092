"""Actions on services: `service.start`, `service.stop`, `service.restart` and `service.reload`."""

from exhaust.plugins import Action, Limits, Outcome, Settings, Tools
from exhaust.settings import Duration


class Named(Settings, frozen=True, kw_only=True):
    """Which service."""

    service: str


class Stop(Named, frozen=True, kw_only=True):
    """How a service is ended: SIGTERM, and after `stop_timeout`, if `kill`, SIGKILL."""

    stop_timeout: Duration = 10.0
    kill: bool = True


class ServiceLimits(Limits, frozen=True, kw_only=True):
    """`service` lists which services it may be done to; left out, every one that is configured."""

    service: tuple[str, ...] | None = None

    def forbids(self, params: Named) -> str | None:
        return "service" if self.service is not None and params.service not in self.service else None


async def look(params: Named, tools: Tools) -> int | None:
    return await tools.services.pid(params.service)


async def start(params: Named, tools: Tools) -> Outcome:
    before = await tools.services.pid(params.service)
    pid = await tools.services.start(params.service)
    return Outcome(changed=pid != before, output={"pid": pid})


async def stop(params: Stop, tools: Tools) -> Outcome:
    previous = await tools.services.stop(params.service, params.stop_timeout, kill=params.kill)
    return Outcome(changed=previous is not None, output={"previous": previous})


async def restart(params: Stop, tools: Tools) -> Outcome:
    pid, previous = await tools.services.restart(params.service, params.stop_timeout, kill=params.kill)
    return Outcome(changed=True, output={"pid": pid, "previous": previous})


async def reload(params: Named, tools: Tools) -> Outcome:
    return Outcome(changed=True, output={"pid": await tools.services.reload(params.service)})


async def probe_start(params: Named, before: int | None, tools: Tools) -> Outcome | None:
    pid = await tools.services.pid(params.service)
    return Outcome(changed=pid != before, output={"pid": pid}) if pid is not None else None


async def probe_stop(params: Stop, before: int | None, tools: Tools) -> Outcome | None:
    running = await tools.services.pid(params.service) is not None
    return None if running else Outcome(changed=before is not None, output={"previous": before})


async def probe_restart(params: Stop, before: int | None, tools: Tools) -> Outcome | None:
    """Another process than before is what was asked for, even where it was supervisord that was quicker."""
    pid = await tools.services.pid(params.service)
    if pid is None or pid == before:
        return None
    return Outcome(changed=True, output={"pid": pid, "previous": before})


START = Action("service.start", Named, start, limits=ServiceLimits, idempotent=True, look=look, probe=probe_start)
STOP = Action("service.stop", Stop, stop, limits=ServiceLimits, idempotent=True, look=look, probe=probe_stop)
RESTART = Action("service.restart", Stop, restart, limits=ServiceLimits, look=look, probe=probe_restart)
RELOAD = Action("service.reload", Named, reload, limits=ServiceLimits, idempotent=True)
