"""Catalogued commands: run as they are written, without shell, input or environment, for no longer than allowed."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from exhaust.processes import find
from tests.system.helper_host import Host, until

SHOW = """
import os, sys
print(sys.argv[1:], sorted(os.environ), os.getcwd(), sys.stdin.read(), os.getsid(0) == os.getpid())
"""
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "1000"])
with open(sys.argv[1], "w") as out:
    out.write(f"{os.getpid()} {child.pid}\\n")
time.sleep(1000)
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def catalogue(host: Host, program: str, **rest: Any) -> None:
    """Let the command `it` run a program of Python's."""
    path = host.state / "program.py"
    path.write_text(program)
    entry = {"argv": ["/usr/bin/env", "python3", str(path)], "args": {"most": 9}} | rest
    host.allow(json.dumps({"command.run": {"commands": {"it": entry}}}))


async def run(host: Host, *args: str, **changes: Any) -> Any:
    async with host.helper():
        return await host.ask(host.command("command.run", {"command": "it", "args": list(args)}, **changes))


async def test_a_command_gets_its_arguments_as_they_are_and_nothing_else(host: Host) -> None:
    catalogue(host, SHOW)
    answer = await run(host, "$(id)", "a b", "; reboot", "*")
    said = answer.output["stdout"].replace("'LC_CTYPE', ", "")
    assert said == "['$(id)', 'a b', '; reboot', '*'] ['LANG', 'PATH'] /  True\n"
    assert (answer.state, answer.changed, answer.output["exit"]) == ("succeeded", True, 0)


async def test_a_command_that_fails_says_how_with_its_output(host: Host) -> None:
    catalogue(host, "import sys; print('so far'); sys.exit('disk on fire')")
    answer = await run(host)
    assert (answer.state, answer.reason) == ("failed", "'it': exit status 1")
    assert answer.output == {"exit": 1, "stdout": "so far\n", "stderr": "disk on fire\n"}


async def test_a_command_that_is_killed_says_by_which_signal(host: Host) -> None:
    catalogue(host, "import os; os.kill(os.getpid(), 9)")
    assert (await run(host)).reason == "'it': ended by signal 9"


async def test_a_command_past_its_time_is_killed_with_all_its_group(host: Host) -> None:
    pids = host.state / "pids"
    catalogue(host, STUBBORN)
    async with host.helper():
        asking = asyncio.create_task(
            host.ask(host.command("command.run", {"command": "it", "args": [str(pids)]}, timeout=2.0))
        )
        await until(lambda: pids.exists() and pids.read_text().endswith("\n"))
        answer = await asking
    assert (answer.state, answer.reason) == ("failed", "timeout")
    await until(lambda: all(find(int(pid)) is None for pid in pids.read_text().split()))


async def test_a_command_that_never_stops_talking_is_read_to_its_end_and_cut(host: Host) -> None:
    catalogue(host, "import sys\nfor n in range(200): sys.stdout.write('x' * 10_000)\nsys.stderr.write('done')")
    answer = await run(host)
    assert (answer.state, answer.output["stderr"]) == ("succeeded", "done")
    assert 1000 < len(answer.output["stdout"]) < 40_000
    assert "more were cut]" in answer.output["stdout"]


async def test_nobody_waits_for_a_child_that_keeps_the_output_open(host: Host) -> None:
    catalogue(host, "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid)")
    answer = await run(host)
    assert answer.state == "succeeded"
    os.kill(int(answer.output["stdout"]), 9)


async def test_a_command_that_is_not_in_the_catalogue_is_refused(host: Host) -> None:
    catalogue(host, "")
    async with host.helper():
        answer = await host.ask(host.command("command.run", {"command": "other"}))
    assert (answer.state, answer.reason) == ("refused", "policy")


async def test_a_program_that_others_may_write_is_not_run(host: Host) -> None:
    path = host.state / "tool"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o777)
    catalogue(host, "", argv=[str(path)])
    answer = await run(host)
    assert (answer.state, answer.reason) == (
        "failed",
        f"'{path}' is not run: it can be written by others: chmod go-w it",
    )


async def test_a_program_that_is_not_there_is_said_to_be_missing(host: Host) -> None:
    catalogue(host, "", argv=["/nonexistent/tool"])
    assert (await run(host)).reason == "'/nonexistent/tool' cannot be run: No such file or directory"
