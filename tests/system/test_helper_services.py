"""Kept services: started, watched, ended, announced, and alive whatever becomes of the helper."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.helper import Helper
from agents.kept import MOST_PRINTED, KeptService
from exhaust.errors import ConfigurationError
from exhaust.processes import find
from exhaust.store import Store
from tests.system.helper_host import SHOP, Host, until

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path)
    yield found
    found.end_services()


def restart(host: Host, **params: Any) -> Any:
    return host.ask(host.command("service.restart", {"service": "shop"} | params))


def python(program: str, **rest: Any) -> KeptService:
    return KeptService("shop", ("/usr/bin/env", "python3", "-c", program), **rest)


async def test_a_wanted_service_is_started_and_recorded(host: Host) -> None:
    async with host.helper(SHOP):
        record = host.record()
        assert host.running()
    assert (record.name, record.argv, record.wanted, record.exit) == ("shop", SHOP.argv, True, None)
    assert record.pid is not None
    assert os.getsid(record.pid) == record.pid


async def test_a_service_that_is_not_wanted_is_recorded_and_not_started(host: Host) -> None:
    async with host.helper(KeptService("shop", SHOP.argv, wanted=False)):
        assert (host.record().pid, host.record().wanted) == (None, False)
        assert (await host.ask(host.command("service.start", {"service": "shop"}))).state == "succeeded"
        assert (host.running(), host.record().wanted) == (True, True)


async def test_a_service_has_its_directory_its_output_and_no_environment_but_its_own(host: Host) -> None:
    program = "import os; print(os.getcwd(), sorted(os.environ), os.environ['A'], flush=True)"
    async with host.helper(python(program, cwd="/usr", env={"A": "b"})):
        await until(lambda: (host.state / "services" / "shop.log").read_text().endswith("\n"))
        said = (host.state / "services" / "shop.log").read_text()
    for name in ("LC_CTYPE", "_"):
        said = said.replace(f"'{name}', ", "").replace(f", '{name}'", "")
    assert said == "/usr ['A', 'EXHAUST_SERVICE', 'LANG', 'PATH'] b\n"


async def test_what_it_prints_is_bounded_and_the_newest_of_it_kept(host: Host) -> None:
    log = host.state / "services" / "shop.log"
    log.parent.mkdir()
    log.write_bytes(b"old\n" + bytes(MOST_PRINTED) + b"newest\n")
    program = "import itertools, time\nfor n in itertools.count(): print(n, flush=True); time.sleep(0.01)"
    async with host.helper(python(program)):
        await until(lambda: log.stat().st_size < MOST_PRINTED)
        said = log.read_text()
        await until(lambda: len(log.read_text()) > len(said))
        assert all(line.isdigit() for line in log.read_text().split())
        before = log.with_suffix(".log.1").read_bytes()
    assert MOST_PRINTED <= len(before) < MOST_PRINTED + 10_000
    assert before.strip(b"\0").startswith(b"newest\n")


async def test_its_end_is_noticed_recorded_and_announced(host: Host) -> None:
    with host.news() as following:
        async with host.helper(python("import sys; sys.exit(3)")):
            seen = [await following() for _ in range(3)]
    assert [record.exit for record in seen] == [None, None, 3]
    assert host.record().exit == 3


async def test_a_signal_that_ended_it_is_recorded_as_negative(host: Host) -> None:
    async with host.helper(SHOP):
        pid = host.record().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: host.record().exit == -9)


async def test_a_restart_replaces_the_process_and_announces_the_new_one(host: Host) -> None:
    async with host.helper(SHOP):
        before = host.record()
        with host.news() as following:
            answer = await restart(host)
            ended, started = await following(), await following()
    assert answer.output == {"pid": host.record().pid, "previous": before.pid}
    assert (ended.pid, ended.exit, started.pid) == (before.pid, -15, host.record().pid)
    assert find(before.pid or 0) is None


async def test_a_restart_of_a_service_that_is_down_starts_it(host: Host) -> None:
    async with host.helper(SHOP):
        os.kill(host.record().pid or 0, signal.SIGKILL)
        await until(lambda: host.record().exit is not None)
        answer = await restart(host)
        assert host.running()
    assert answer.output == {"pid": host.record().pid, "previous": None}


async def test_a_service_that_ignores_sigterm_is_killed_after_its_time(host: Host) -> None:
    async with host.helper(python(STUBBORN)):
        await until(lambda: (host.state / "services" / "shop.log").read_text() == "up\n")
        refused = await restart(host, stop_timeout="100ms", kill=False)
        assert (refused.state, refused.reason) == (
            "failed", "service 'shop' did not stop within 0.1 s, and 'kill' is false",
        )  # fmt: skip
        answer = await restart(host, stop_timeout="100ms")
    assert (answer.state, answer.output["previous"]) == ("succeeded", refused.output["pid"])


async def test_a_stopped_process_is_ended_too(host: Host) -> None:
    async with host.helper(SHOP):
        os.kill(host.record().pid or 0, signal.SIGSTOP)
        answer = await restart(host, stop_timeout="10s", kill=False)
    assert answer.state == "succeeded"


async def test_what_a_service_leaves_behind_ends_with_it(host: Host) -> None:
    program = "import subprocess, time; print(subprocess.Popen(['sleep', '1000']).pid, flush=True); time.sleep(1000)"
    log = host.state / "services" / "shop.log"
    async with host.helper(python(program)):
        await until(lambda: log.read_text().endswith("\n"))
        child = int(log.read_text())
        await restart(host)
        assert find(child) is None


async def test_a_service_that_was_stopped_is_not_wanted_until_it_is_started(host: Host) -> None:
    async with host.helper(SHOP):
        answer = await host.ask(host.command("service.stop", {"service": "shop"}))
        assert answer.changed
        assert (host.running(), host.record().wanted) == (False, False)
        again = await host.ask(host.command("service.stop", {"service": "shop"}))
        assert (again.state, again.changed) == ("succeeded", False)
        await host.ask(host.command("service.start", {"service": "shop"}))
        assert (host.running(), host.record().wanted) == (True, True)


async def test_a_start_of_what_runs_changes_nothing(host: Host) -> None:
    async with host.helper(SHOP):
        answer = await host.ask(host.command("service.start", {"service": "shop"}))
    assert (answer.state, answer.changed, answer.output) == ("succeeded", False, {"pid": host.record().pid})


async def test_an_unknown_service_is_named_with_the_known_ones(host: Host) -> None:
    async with host.helper(SHOP):
        answer = await restart(host, service="gone")
    assert (answer.state, answer.reason) == ("failed", "unknown service 'gone': kept ones are shop")


async def test_a_program_that_is_not_there_fails_the_start_and_nothing_else(host: Host) -> None:
    async with host.helper(KeptService("shop", ("/nonexistent/program",))):
        answer = await restart(host)
    assert answer.reason == "service 'shop': '/nonexistent/program' cannot be started: No such file or directory"


@pytest.mark.parametrize(
    "bad", [KeptService("../x", ("/bin/true",)), KeptService("x", ("true",)), KeptService("x", ())]
)
def test_a_service_that_cannot_be_kept_is_refused_from_the_start(host: Host, bad: KeptService) -> None:
    with pytest.raises(ConfigurationError):
        Helper(host.station, host.policy, [bad])


async def test_a_service_survives_the_helper_and_is_adopted_by_the_next(host: Host) -> None:
    async with host.helper(SHOP):
        before = host.record()
    assert host.running()
    async with host.helper(SHOP) as helper:
        assert host.record() == before
        assert helper.status()["services"]["shop"]["pid"] == before.pid
        answer = await restart(host)
    assert answer.output["previous"] == before.pid


async def test_a_service_survives_a_helper_that_is_killed(host: Host) -> None:
    with host.helper_process(SHOP) as process:
        (await host.connect())[1].close()
        before = host.record()
        process.kill()
        process.wait()
    assert host.running()
    async with host.helper(SHOP):
        assert host.record() == before
        os.kill(before.pid or 0, signal.SIGTERM)
        with host.news() as following:
            record = await following()
    assert (record.pid, record.exit) == (before.pid, None)


async def test_a_service_that_died_while_no_helper_watched_is_left_to_the_loop(host: Host) -> None:
    async with host.helper(SHOP):
        pid = host.record().pid or 0
    os.kill(pid, signal.SIGKILL)
    async with host.helper(SHOP):
        assert (host.record().pid, host.running()) == (pid, False)


async def test_a_service_of_an_earlier_boot_is_started_anew(host: Host) -> None:
    async with host.helper(SHOP):
        before = host.record()
    host.end_services()
    with Store(host.state / "helper.db") as store:
        store.commit(keep={"boot": b"another"})
    async with host.helper(SHOP):
        assert host.running()
        assert host.record().pid != before.pid


async def test_restarts_of_one_service_at_once_come_one_after_the_other(host: Host) -> None:
    async with host.helper(SHOP):
        answers = await asyncio.gather(*(restart(host) for _ in range(5)))
    pids = {answer.output["pid"] for answer in answers}
    assert len(pids) == 5
    assert {answer.output["previous"] for answer in answers} - pids
    assert sum(find(pid) is not None for pid in pids) == 1
