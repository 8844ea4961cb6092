"""`exhaust up` and `exhaust run` as a service manager and an operator see them: hung, reloaded, stopped, told wrong."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from benchmarks.node import free_port
from exhaust.lifecycle.running import COMPONENTS
from tests.manager import Manager
from tests.system.installation import ROOT, Installation

pytestmark = pytest.mark.asyncio(loop_scope="module")

GONE_WITHIN = 10.0
EXHAUST = (sys.executable, "-m", "exhaust.main")
WRONG = "emitters: [{use: nothing.such}]\nrules: [{name: r, on: x, run: w}]\n"


@pytest.fixture(scope="module")
def manager() -> Iterator[Manager]:
    with (
        tempfile.TemporaryDirectory(dir="/tmp", prefix="xs") as folder,
        contextlib.closing(Manager(f"{folder}/notify")) as opened,
    ):
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(tmp_path_factory: pytest.TempPathFactory, manager: Manager) -> AsyncIterator[Installation]:
    """All in one process below `exhaust up`, which tells a service manager how it is."""
    told = {**os.environ, "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000"}
    async with Installation(tmp_path_factory.mktemp("upkeep"), "embedded", env=told) as opened:
        yield opened


async def works(installation: Installation) -> None:
    """The service is killed, and comes back with the verdict that it is."""
    await installation.until(installation.is_ready)
    death, _ = installation.kill_service()
    await installation.rest(death)


@contextlib.asynccontextmanager
async def configured(installation: Installation, more: str) -> AsyncIterator[None]:
    """Let the configuration say something more, or else, for a while; it is in force again as it was afterwards."""
    before = installation.config.read_text()
    installation.config.write_text(more if "host:" in more else before + more)
    try:
        yield
    finally:
        installation.config.write_text(before)
        epoch = await epoch_of(installation)
        installation.reload()

        async def anew() -> bool:
            return epoch is None or (await epoch_of(installation) or 0) > epoch

        await installation.until(anew)
        await installation.until(installation.is_ready)


async def epoch_of(installation: Installation) -> int | None:
    """Return how often the analyzers have begun to lead, None while nobody can say."""
    told = await installation.status("all")
    epoch: int | None = told["services"]["analyzers"].get("epoch") if told else None
    return epoch


async def reload_of(installation: Installation, name: str, after: float) -> dict[str, Any]:
    """Return what a process says of its first reload after some moment."""
    found: dict[str, Any] = {}

    async def told() -> bool:
        nonlocal found
        found = ((await installation.status(name)) or {}).get("reload") or {}
        return bool(found) and found["time"] >= after

    await installation.until(told)
    return found


async def test_a_process_that_hangs_is_started_again_after_10_seconds(installation: Installation) -> None:
    await installation.until(installation.is_watched)
    began, pid = time.monotonic(), installation.hang("all")
    await installation.until_back("all", pid, 40.0)
    assert time.monotonic() - began > 9.0
    await works(installation)


async def test_a_sound_configuration_is_taken_without_a_new_process(
    installation: Installation, manager: Manager
) -> None:
    await installation.until(installation.is_ready)
    pids, starts, now = installation.pids(), installation.starts(), time.time()
    async with configured(installation, "lists: {ours: [shop]}\n"):
        manager.forget()
        await manager.hears_until("WATCHDOG=1")
        installation.reload()
        assert "RELOADING=1" in await manager.hears_until("READY=1")
        assert (await reload_of(installation, "all", now))["refused"] is None
        await installation.until(installation.is_ready)
        assert (installation.pids(), installation.starts()) == (pids, starts)
        await works(installation)


async def test_a_faulty_configuration_is_refused_and_the_last_good_one_stays(installation: Installation) -> None:
    await installation.until(installation.is_ready)
    now, before = time.time(), await installation.status("all")
    async with configured(installation, "ruls: []\nhots: x\n"):
        installation.reload()
        refused = (await reload_of(installation, "supervisor", now))["refused"]
        assert refused.startswith(f"2 faults, first: {installation.config}:")
        os.kill(installation.pids()["all"], signal.SIGHUP)
        assert (await reload_of(installation, "all", now))["refused"] == refused
        after = await installation.status("all")
        assert before is not None
        assert after is not None
        assert after["services"]["analyzers"]["epoch"] == before["services"]["analyzers"]["epoch"], "nothing restarted"
        await works(installation)


async def test_a_process_that_dies_beside_a_faulty_configuration_is_tried_until_that_is_mended(
    installation: Installation,
) -> None:
    await installation.until(installation.is_ready)
    async with configured(installation, "ruls: []\n"):
        installation.kill("all")

        async def refused() -> bool:
            told = await installation.status("supervisor")
            return told is not None and told["children"]["all"]["last_error"] == "ended with exit code 1"

        await installation.until(refused)
        assert "unknown key 'ruls', did you mean 'rules'?" in installation.log.read_text()
    await works(installation)


async def test_what_needs_a_restart_is_refused(installation: Installation) -> None:
    await installation.until(installation.is_ready)
    now, text = time.time(), installation.config.read_text()
    async with configured(installation, text.replace("host: home", "host: other")):
        installation.reload()
        refused = (await reload_of(installation, "supervisor", now))["refused"]
        assert refused == "host: 'home' is now 'other': that needs a restart"


async def test_an_address_that_somebody_else_has_is_refused(installation: Installation) -> None:
    await installation.until(installation.is_ready)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        now, text = time.time(), installation.config.read_text()
        start = text.index("http:")
        changed = f"http: {{listen: '127.0.0.1:{taken.getsockname()[1]}'}}"
        async with configured(installation, text.replace(text[start : text.index("\n", start)], changed)):
            os.kill(installation.pids()["all"], signal.SIGHUP)

            async def refused() -> bool:
                return "Address already in use" in ((await reload_of(installation, "all", now))["refused"] or "")

            await installation.until(refused)
            await works(installation)


async def test_the_manager_hears_when_it_stops_and_when_it_is_there_again(
    installation: Installation, manager: Manager
) -> None:
    await installation.until(installation.is_ready)
    manager.forget()
    await manager.hears_until("WATCHDOG=1")
    assert await installation.stop() < GONE_WITHIN
    assert "READY=1" not in await manager.hears_until("STOPPING=1")
    await installation.start()
    heard = await manager.hears_until("WATCHDOG=1")
    assert heard.index("STATUS=all starting") < heard.index("READY=1")
    await works(installation)


@contextlib.asynccontextmanager
async def alone(folder: Path, manager: Manager) -> AsyncIterator[subprocess.Popen[bytes]]:
    """One component by itself, told of a broker that is not there."""
    config = folder / "site.yaml"
    config.write_text(f"host: home\nstate: {folder}/s\nbroker: amqp://guest:guest@127.0.0.1:{free_port()}/\n")
    argv = [*EXHAUST, "run", "analyzers", "--config", str(config)]
    more = {**os.environ, "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "500000"}
    with subprocess.Popen(argv, cwd=ROOT, env=more, stdin=subprocess.DEVNULL) as process:  # noqa: ASYNC220
        try:
            yield process
        finally:
            process.kill()


async def test_a_component_whose_broker_is_away_is_up_and_alive_and_says_what_it_waits_for(tmp_path: Path) -> None:
    with contextlib.closing(Manager(f"@exhaust-{os.getpid()}-{free_port()}")) as manager:
        async with alone(tmp_path, manager) as process:
            heard = await manager.hears_until("WATCHDOG=1")
            assert "READY=1" in heard
            assert [line for line in heard if line.startswith("STATUS=waiting for broker")]
            process.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            manager.forget()
            await asyncio.sleep(0.6)
            assert manager.silent(), "no sign of life from one that stands still"
            process.send_signal(signal.SIGCONT)
            process.terminate()
            assert "STATUS=stopping" in await manager.hears_until("STATUS=stopping")
            assert await asyncio.to_thread(process.wait, GONE_WITHIN) == 0


async def begun(folder: Path, configuration: str, *words: str) -> str:
    """Run a command with a configuration that cannot be; return what it complains of, once nothing was left behind."""
    config = folder / "site.yaml"
    config.write_text(configuration)
    argv = [*EXHAUST, *words, "--config", str(config)]
    done = await asyncio.to_thread(
        subprocess.run, argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert os.listdir(folder) == [config.name]  # noqa: PTH208  the names alone
    return str(done.stderr)


@pytest.mark.parametrize("words", [["up"], ["run", *COMPONENTS]])
async def test_with_a_faulty_configuration_nothing_is_begun(tmp_path: Path, words: list[str]) -> None:
    assert len((await begun(tmp_path, f"state: {tmp_path}/s\n{WRONG}", *words)).splitlines()) == 2


@pytest.mark.parametrize("words", [["up"], ["run", *COMPONENTS]])
async def test_with_a_state_too_deep_for_sockets_nothing_is_begun(tmp_path: Path, words: list[str]) -> None:
    assert "choose a shorter 'state'" in await begun(tmp_path, f"state: {tmp_path}/{'s' * 100}\n", *words)
