"""What a service manager hears of a process, on a real datagram socket."""

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from exhaust.lifecycle.systemd import Systemd
from tests.manager import Manager

WITHIN = 5.0


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="xs") as folder:  # a short path
        address = f"{folder}/notify" if request.param == "path" else f"@exhaust-{secrets.token_hex(8)}"
        with contextlib.closing(Manager(address)) as opened:
            yield opened


class Attending:
    """A process that tells how it is while a test changes that."""

    def __init__(self, systemd: Systemd) -> None:
        self.systemd = systemd
        self.started = asyncio.Event()
        self.fault: str | None = None
        self.status = "waiting for broker"

    @contextlib.asynccontextmanager
    async def told(self) -> AsyncIterator["Attending"]:
        task = asyncio.create_task(self.systemd.attend(self.started, lambda: self.fault, lambda: self.status))
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_it_tells_what_is_missing_then_that_it_is_ready(manager: Manager) -> None:
    async with Attending(Systemd(manager.address, look_every=0.05)).told() as process:
        assert await manager.hears() == ["STATUS=waiting for broker"]
        process.started.set()
        assert await manager.hears() == ["READY=1"]
        process.status = "ready\nREADY=1"
        assert await manager.hears() == ["STATUS=ready READY=1"], "of one line, whatever it says"


async def test_signs_of_life_come_only_while_nothing_is_wrong(manager: Manager) -> None:
    async with Attending(Systemd(manager.address, watchdog=0.1)).told() as process:
        process.started.set()
        await manager.hears_until("WATCHDOG=1")
        for _ in range(3):
            assert await manager.hears() == ["WATCHDOG=1"]
        process.fault, process.status = "analyzers: hang", "stuck"
        await manager.hears_until("STATUS=stuck")
        process.status = "stuck still"
        assert await manager.hears() == ["STATUS=stuck still"]
        process.fault = None
        assert await manager.hears() == ["WATCHDOG=1"]


async def test_without_a_watchdog_there_are_none(manager: Manager) -> None:
    async with Attending(Systemd(manager.address, look_every=0.05)).told() as process:
        process.started.set()
        await manager.hears_until("STATUS=waiting for broker")
        process.status = "ready"
        assert await manager.hears() == ["STATUS=ready"], "after another look, in which there was no other"


def test_a_reload_is_told_with_its_time_and_ends_once(manager: Manager) -> None:
    systemd = Systemd(manager.address, monotonic_ns=lambda: 5_000_000)
    heard = asyncio.run(_reload(systemd, manager))
    assert heard == ["RELOADING=1", "MONOTONIC_USEC=5000", "STATUS=reloading the configuration", "READY=1"]
    assert manager.silent()


async def _reload(systemd: Systemd, manager: Manager) -> list[str]:
    systemd.reloading()  # the start goes on: it is part of that
    systemd.resumed()
    systemd.ready()
    assert await manager.hears() == ["READY=1"]
    systemd.resumed()
    systemd.reloading()
    systemd.resumed()
    systemd.resumed()
    return await manager.hears_until("READY=1")


async def test_who_is_stopping_says_so_and_is_not_ready_again(manager: Manager) -> None:
    async with Attending(Systemd(manager.address, look_every=0.05)).told() as process:
        await manager.hears()
        process.systemd.stopping()
        assert await manager.hears() == ["STOPPING=1"]
        assert await manager.hears() == ["STATUS=stopping"]
        process.started.set()
        process.systemd.reloading()
        process.systemd.resumed()
        await asyncio.sleep(0)
        assert manager.silent()


def test_what_the_manager_put_into_the_environment_no_child_inherits(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7", "HOME": "/"}
    systemd = Systemd.claimed(environment, 7)
    assert environment == {"HOME": "/"}
    systemd.ready()
    assert asyncio.run(manager.hears()) == ["READY=1"]


@pytest.mark.parametrize(
    ("given", "pid", "every"),
    [("3000000", "7", 1.0), ("1000000", "7", 0.5), ("1000000", None, 0.5), ("1000000", "8", None), ("", "7", None),
     ("0", "7", None), ("-1", "7", None)],
)  # fmt: skip
def test_the_watchdog_is_whose_pid_it_names(given: str, pid: str | None, every: float | None) -> None:
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": given} | ({"WATCHDOG_PID": pid} if pid else {})
    systemd = Systemd.claimed(environment, 7)
    assert (systemd._every if systemd._watched else None) == every


async def test_without_a_manager_nothing_is_said_and_nothing_waits() -> None:
    systemd = Systemd.claimed({"NOTIFY_SOCKET": "vsock:1:2"}, 7)
    async with asyncio.timeout(WITHIN):
        await systemd.attend(asyncio.Event(), lambda: None, lambda: "x")


def test_a_manager_that_does_not_listen_is_a_warning_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    systemd = Systemd(str(tmp_path / "nobody"))
    systemd.ready()
    systemd.stopping()
    assert caplog.messages == ["the service manager cannot be told"]


async def test_a_manager_that_is_slow_hears_all_but_stale_signs_of_life(manager: Manager) -> None:
    systemd = Systemd(manager.address, watchdog=0.02)
    async with Attending(systemd).told() as process:
        process.started.set()
        await manager.hears_until("READY=1")
        manager.fill()
        systemd.reloading()
        systemd.resumed()
        process.fault = "it hangs"
        manager.forget()
        heard = await manager.hears_until("READY=1")
        assert heard[0] == "RELOADING=1"
        assert "WATCHDOG=1" not in heard
