"""The services of a host that its helper reaches, each through who keeps it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from agents.kept import Kept, KeptService
from agents.pidfiles import Pidfiles, PidfileService
from agents.record import Records
from agents.supervised import Supervised, SupervisedService
from exhaust.plugins import ActionError, Services

AnyService: TypeAlias = KeptService | SupervisedService | PidfileService


class Roster:
    """Knows who keeps which service. Opened and closed inside the running loop.

    Records are written to `folder` and announced to `listener`; `now` is the wall clock, in epoch seconds.
    """

    def __init__(self, services: Sequence[AnyService], folder: Path, listener: Path, now: Callable[[], float]) -> None:
        kept = [given for given in services if isinstance(given, KeptService)]
        supervised = [given for given in services if isinstance(given, SupervisedService)]
        pidfiles = [given for given in services if isinstance(given, PidfileService)]
        self._records = Records(folder, listener)
        self._kept = Kept(kept, self._records)
        self._supervised = Supervised(supervised, self._records)
        self._keepers: dict[str, Services] = {
            **{given.name: self._kept for given in kept},
            **{given.name: self._supervised for given in supervised},
            **dict.fromkeys((given.name for given in pidfiles), Pidfiles(pidfiles, now)),
        }
        known = (_listed("kept", kept), _listed("supervisord's", supervised), _listed("a pidfile's", pidfiles))
        self._known = "; ".join(filter(None, known)) or "there are none"

    def open(self, *, rebooted: bool) -> None:
        """Take up what is there."""
        self._records.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._kept.open(rebooted=rebooted)
        self._supervised.open()

    def close(self) -> None:
        self._kept.close()
        self._records.close()

    def trim(self) -> None:
        """Bound what the services have printed."""
        self._kept.trim()

    async def pid(self, name: str) -> int | None:
        return await self._keeper(name).pid(name)

    async def start(self, name: str) -> int:
        return await self._keeper(name).start(name)

    async def stop(self, name: str, patience: float, *, kill: bool) -> int | None:
        return await self._keeper(name).stop(name, patience, kill=kill)

    async def restart(self, name: str, patience: float, *, kill: bool) -> tuple[int, int | None]:
        return await self._keeper(name).restart(name, patience, kill=kill)

    async def reload(self, name: str) -> int:
        return await self._keeper(name).reload(name)

    def status(self) -> dict[str, object]:
        return {**self._kept.status(), **self._supervised.status()}

    def _keeper(self, name: str) -> Services:
        if name not in self._keepers:
            raise ActionError(f"unknown service '{name}': {self._known}")
        return self._keepers[name]


def _listed(whose: str, services: Sequence[AnyService]) -> str:
    names = ", ".join(sorted(given.name for given in services))
    return f"{whose} ones are {names}" if names else ""
