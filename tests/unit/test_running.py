"""The services of one process: those of a configuration that fails only in use give way to the last good one's."""

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exhaust.catalogue import Http
from exhaust.clock import SystemClock
from exhaust.configuration import Configuration
from exhaust.errors import ConfigurationError
from exhaust.lifecycle.reloading import Reload
from exhaust.lifecycle.running import Running, own_folder
from exhaust.lifecycle.service import Service, Station
from exhaust.lifecycle.systemd import Systemd

WITHIN = 10.0


class Waiting:
    """A service that tells when it runs."""

    name = "waiting"

    def __init__(self, configuration: Configuration, news: "asyncio.Queue[str]") -> None:
        self._listen = configuration.http.listen
        self._news = news

    async def run(self, until: asyncio.Event) -> None:
        self._news.put_nowait(self._listen)
        await until.wait()

    def status(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def configuration() -> Iterator[Configuration]:
    with tempfile.TemporaryDirectory(prefix="run", dir="/tmp") as folder:
        state = Path(folder) / "state"
        own_folder(state)
        yield Configuration("home", state, "embedded")


async def test_what_proves_impossible_in_use_gives_way_to_the_last_good_one(configuration: Configuration) -> None:
    news: asyncio.Queue[str] = asyncio.Queue()
    bad = replace(configuration, http=Http(listen="127.0.0.1:0"))

    def compose(component: str, given: Configuration, station: Station) -> Service:
        if given is bad:
            raise ConfigurationError(["a key that nobody can read"])
        return Waiting(given, news)

    reload, until = Reload(lambda: bad, SystemClock(), listens=False), asyncio.Event()
    running = Running(["waiting"], configuration, compose, Systemd.claimed({}, 0), reload)
    async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as tasks:
        tasks.create_task(running.run(until))
        await news.get()
        reload.asked.set()
        assert await news.get() == configuration.http.listen
        until.set()
    assert reload.refused == "a key that nobody can read"
