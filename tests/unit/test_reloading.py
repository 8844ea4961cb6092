"""A configuration read again: taken where it is sound, refused with every fault where it is not."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from exhaust.clock import VirtualClock
from exhaust.configuration import Configuration
from exhaust.errors import ConfigurationError
from exhaust.lifecycle.reloading import Reload, Reread

NOW = 1000.0
CURRENT = Configuration(host="home", state=Path("/s"), broker="amqp://one/")


async def reloaded(reread: Reread) -> tuple[Reload, Configuration | None]:
    reload = Reload(reread, VirtualClock(NOW), listens=True)
    assert reload.status() == {}
    reload.asked.set()
    async with asyncio.timeout(5):
        return reload, await reload.taken(CURRENT)


async def test_what_is_sound_is_taken() -> None:
    new = replace(CURRENT, broker="amqp://other/", lists={"a": [1]})
    reload, taken = await reloaded(lambda: new)
    assert taken is new
    assert (reload.status(), reload.refused) == ({"reload": {"time": NOW, "refused": None}}, "")
    assert not reload.asked.is_set()


async def test_every_fault_is_logged_and_the_first_one_shown(caplog: pytest.LogCaptureFixture) -> None:
    def faulty() -> Configuration:
        raise ConfigurationError(["site.yaml:1:1: one", "site.yaml:2:1: two", "site.yaml:3:1: three"])

    reload, taken = await reloaded(faulty)
    assert taken is None
    assert reload.status() == {"reload": {"time": NOW, "refused": "3 faults, first: site.yaml:1:1: one"}}
    assert [vars(record)["fault"][-5:] for record in caplog.records] == [": one", ": two", "three"]


async def test_what_goes_wrong_in_reading_is_a_refusal_too(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Configuration:
        raise RecursionError("too deep")

    reload, taken = await reloaded(broken)
    assert (taken, reload.refused) == (None, "RecursionError: too deep")


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (replace(CURRENT, host="away"), "host: 'home' is now 'away': that needs a restart"),
        (replace(CURRENT, state=Path("/t")), "state: '/s' is now '/t': that needs a restart"),
        (replace(CURRENT, broker="embedded"), "broker: 'amqp' is now 'embedded': that needs a restart"),
    ],
)
async def test_what_cannot_change_under_way_is_refused(new: Configuration, why: str) -> None:
    reload, taken = await reloaded(lambda: new)
    assert (taken, reload.refused) == (None, why)


async def test_a_sound_one_after_a_refused_one_clears_the_refusal() -> None:
    answers = iter([replace(CURRENT, host="away"), CURRENT])
    reload = Reload(lambda: next(answers), VirtualClock(NOW), listens=True)
    for _ in range(2):
        reload.asked.set()
        await reload.taken(CURRENT)
    assert reload.refused == ""
