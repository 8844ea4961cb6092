"""`exhaust up` and `exhaust run` with a supervisor that does not wait long: python -m tests.system.impatient."""

import asyncio
import os
import sys
from functools import partial

from exhaust import logs
from exhaust.configuration import load
from exhaust.lifecycle.running import COMPONENTS
from exhaust.lifecycle.service import run_to_exit
from exhaust.lifecycle.supervisor import Child, Limits, children
from exhaust.lifecycle.systemd import Systemd
from exhaust.lifecycle.upkeep import up
from exhaust.main import CATALOGUE, run

UP = (sys.executable, "-m", "tests.system.impatient", "up")
HASTY = Limits(ask_every=0.25, hung_after=2.0)


def main() -> None:
    what, *components, _, path = sys.argv[1:]
    logs.configure()
    reread = partial(load, path, CATALOGUE)
    configuration = reread()
    if what == "run":
        run_to_exit(run(components, configuration, reread))
        return
    kept = children(COMPONENTS, path, embedded=configuration.embedded, sockets=configuration.state / "run")
    ours = [Child(child.name, tuple(_ours(word) for word in child.argv), child.socket) for child in kept]
    systemd = Systemd.claimed(os.environ, os.getpid())
    sys.exit(asyncio.run(up(configuration, ours, systemd, reread=reread, limits=HASTY)))


def _ours(word: str) -> str:
    return "tests.system.impatient" if word == "exhaust.main" else word


if __name__ == "__main__":
    main()
