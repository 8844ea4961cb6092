"""The emitter of commands beside what shells and the kernel really do."""

import asyncio
import os
import platform
import pwd
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from emitters import commands
from emitters.cli import EMITTER, Cli, sources
from emitters.commands.before import Before
from emitters.kernel import audit
from tests.system.host_state import ROOT, Told, alone, as_nobody, observing, run, trues
from tests.system.pty_shell import Shell

TRUE = os.path.realpath("/bin/true")
HOOKS = Path(commands.__path__[0])
root = pytest.mark.skipif(not ROOT, reason="only root hears the audit: what others are told is another test's")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="xh-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@asynccontextmanager
async def typing(name: str, folder: Path, rc: str = "", **env: str) -> AsyncIterator[tuple[Shell, Told]]:
    """Open a shell with its hook beside the emitter, which listens for it alone."""
    program = shutil.which(name)
    assert program, f"{name} is missing: apt-get install {name}"
    path = folder / "s"
    options = {"bash": ["--noprofile"], "zsh": ["-d"]}[name]
    async with observing(EMITTER, Cli(socket=str(path), executed=False)) as told:
        await _there(path)
        rc = "\n".join([rc, *2 * [f". {HOOKS / f'hook.{name}'}"]])  # twice: that is once too often, and harmless
        shell = Shell([program, *options], folder, rc, {"EXHAUST_SOCKET": str(path), **env})
        with await asyncio.to_thread(shell.__enter__):
            yield shell, told


async def _there(path: Path) -> None:
    async with asyncio.timeout(10):
        while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240, PTH110  a socket tells nobody that it is there
            await asyncio.sleep(0.01)


async def typed(shell: Shell, told: Told, line: str) -> dict[str, Any]:
    """Type a line and return its record."""
    before = len(told.of(command=line))
    await asyncio.to_thread(shell.type, line)
    await told.until(lambda: len(told.of(command=line)) > before)
    assert abs(told.records[-1].time - time.time()) < 60
    return told.of(command=line)[-1]


@pytest.mark.parametrize("name", ["bash", "zsh"])
async def test_a_typed_line_is_told_with_how_it_ended_and_who_typed_it(name: str, folder: Path) -> None:
    async with typing(name, folder) as (shell, told):
        found = await typed(shell, told, "cd /usr; sleep 0.2; (exit 7)")
        assert found["command"] == "cd /usr; sleep 0.2; (exit 7)"
        assert (found["source"], found["evidence"], found["exit"], found["cwd"]) == ("shell", name, 7, str(folder))
        assert (found["pid"], found["ppid"], found["tty"]) == (shell.pid, os.getpid(), shell.tty)
        assert found["user"] == pwd.getpwuid(os.getuid()).pw_name
        assert 0.2 <= found["elapsed_seconds"] < 20
        assert (await typed(shell, told, "true"))["cwd"] == "/usr"


@pytest.mark.parametrize("name", ["bash", "zsh"])
async def test_no_line_is_told_twice_or_hidden_by_an_empty_one_or_by_the_history(name: str, folder: Path) -> None:
    rc = {"bash": "HISTCONTROL=ignoreboth HISTIGNORE='pwd:w*'", "zsh": "setopt hist_ignore_space hist_ignore_dups"}[
        name
    ]
    lines = ["echo one", "", " echo hidden", "echo one", "echo one", "", "pwd", "false", ": 'a\"b' ü \\"]
    async with typing(name, folder, rc) as (shell, told):
        for line in lines[:-1]:
            await asyncio.to_thread(shell.type, line)
        found = await typed(shell, told, ": 'a\"b' ü #é")
        said = [record.fields["command"] for record in told.records]
    assert said == [*filter(None, lines[:-1]), ": 'a\"b' ü #é"]
    assert [record.fields["exit"] for record in told.records][-2:] == [1, 0]
    assert found["complete"] is True


async def test_the_history_of_bash_is_as_without_the_hook(folder: Path) -> None:
    """With everything that keeps lines out of it, also while the line itself looks at the settings."""
    lines = ["echo a", " echo b", "echo a", "w", "", "echo c", "pwd", "echo c", "echo $HISTCONTROL $HISTIGNORE"]
    histories = []
    for hook in (True, False):
        rc = "HISTCONTROL=ignoreboth HISTIGNORE='w*:pwd' HISTFILE= HISTTIMEFORMAT="
        async with typing("bash", folder, rc if hook else f"{rc}\nreturn") as (shell, told):
            for line in lines:
                shown = await asyncio.to_thread(shell.type, line)
            histories.append((shown, await asyncio.to_thread(shell.type, "history")))
        assert bool(told.records) == hook
    assert histories[0] == histories[1]
    assert "ignoreboth w*:pwd" in histories[0][0]


@pytest.mark.parametrize("name", ["bash", "zsh"])
async def test_the_line_that_ends_the_session_is_told(name: str, folder: Path) -> None:
    async with typing(name, folder) as (shell, told):
        await asyncio.to_thread(shell.leave, " exit 5")
        await told.until(lambda: told.of(command=" exit 5", exit=5))


@pytest.mark.parametrize("name", ["bash", "zsh"])
async def test_programs_inherit_nothing_and_no_prompt_forks(name: str, folder: Path) -> None:
    async with typing(name, folder) as (shell, told):
        shown = await asyncio.to_thread(shell.type, "/bin/ls -l /proc/self/fd | grep -c 'socket:\\|memfd'")
        assert "\n0\n" in shown
        await asyncio.to_thread(shell.type, "wait; jobs")
        first, second = [
            int(re.findall(r"\d+", await asyncio.to_thread(shell.type, "/bin/sh -c 'echo $$'"))[-1]) for _ in range(2)
        ]
        assert (second - first) % (1 << 22) < 1000  # others fork, too
        assert len(psutil.Process(shell.pid).children()) == 1  # which passes on
        await told.until(lambda: len(told.records) == 4)


@pytest.mark.parametrize("name", ["bash", "zsh"])
async def test_a_shell_goes_on_where_nobody_listens(name: str, folder: Path) -> None:
    async with typing(name, folder, EXHAUST_SOCKET=str(folder / "none")) as (shell, told):
        for line in ("echo one", "echo two", "false", "echo $?"):
            shown = await asyncio.to_thread(shell.type, line)
        assert "\n1\n" in shown
        assert told.records == []


async def test_bash_goes_on_without_the_process_that_passes_on(folder: Path) -> None:
    async with typing("bash", folder, "HISTCONTROL=ignorespace") as (shell, told):
        await typed(shell, told, "echo one")
        await asyncio.to_thread(shell.type, 'kill -9 "$__EXHAUST_PID"; sleep 0.2')
        await asyncio.to_thread(shell.type, " echo two")
        shown = await asyncio.to_thread(shell.type, "echo $HISTCONTROL; history 1")
        assert "ignorespace\n" in shown
        assert shell.pid
        assert len(told.records) < 4


@pytest.mark.parametrize("name", ["bash", "zsh"])
async def test_a_shell_goes_on_where_whoever_listens_hangs(name: str, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hangs, socket.socket(socket.AF_UNIX) as first:
        hangs.bind(str(folder / "hangs"))
        hangs.listen(0)
        first.connect(str(folder / "hangs"))  # who comes next has to wait
        async with typing(name, folder, EXHAUST_SOCKET=str(folder / "hangs")) as (shell, told):
            long = f": {'x' * 2000}"
            for line in (*[long] * 60, "false", "echo $?"):
                shown = await asyncio.to_thread(shell.type, line)
            assert "\n1\n" in shown
            assert told.records == []


async def test_zsh_tells_of_long_lines_whole_again_after_whoever_listens_hung(folder: Path) -> None:
    long = f": {'x' * 3000}"
    async with typing("zsh", folder) as (shell, told):
        await typed(shell, told, "true")
        relay = psutil.Process(shell.pid).children()[0]
        relay.suspend()
        for _ in range(40):  # more than its pipe holds
            await asyncio.to_thread(shell.type, long)
        relay.resume()
        await told.until(lambda: len(told.of(command=long)) >= 10)
        await typed(shell, told, "echo after")
        found = {record.fields["command"] for record in told.records}
    assert found == {"true", long, "echo after"}
    assert told.lost == 0


@pytest.fixture
def audited() -> Iterator[list[bytes]]:
    """Our rules, of which none is there before or after; then audit is also as it was."""

    def delete() -> None:
        for rule in audit.rules("exhaust"):
            with suppress(FileNotFoundError):
                audit.delete(rule)

    with alone():
        delete()
        before = Before.of(audit.status(), audit.rules("exhaust"))
        try:
            yield audit.rules("exhaust")
        finally:
            before.put_back(None)


def kept(status: audit.Status) -> tuple[int, ...]:
    return status.enabled, status.backlog_limit, status.patience


def there(rules: list[bytes]) -> list[bool]:
    """Say of rules whether they are there; after that none is."""
    found = [not audit.add(rule) for rule in rules]
    for rule in rules:
        audit.delete(rule)
    return found


@root
async def test_99_of_100_short_executions_are_told_whole_by_the_audit_which_is_then_as_it_was(
    audited: list[bytes],
) -> None:
    before = audit.status()
    async with observing(EMITTER, Cli(socket="", audit=True)) as told:
        began = time.process_time()
        shell = await run(*trues(1000))
        await told.until(lambda: told.of(pid=shell) and len(told.of(ppid=shell, evidence="audit")) >= 990)
        await run("/usr/bin/env", "--", "printf", "%s", "a b\n", "--password=hush", "ü")
        await told.until(lambda: told.of(name="printf"))
        used = time.process_time() - began
    after = audit.status()
    assert kept(after) == kept(before)
    assert not any(there(audited))
    found = told.of(ppid=shell, argv=["/bin/true"], program=TRUE, complete=True)
    print(f"1000 x /bin/true: {len(found)} whole, {told.lost} lost, {1e6 * used / len(told.records):.0f} us each")
    assert len(found) >= 990
    (env, printf) = told.of(pid=told.of(name="printf")[0]["pid"])
    assert env["argv"] == ["/usr/bin/env", "--", "printf", "%s", "a b\n", "--password=***", "ü"]
    assert (printf["scrubbed"], printf["cwd"], printf["user"]) == (True, os.getcwd(), "root")  # noqa: PTH109


KILLED = """
import asyncio, os, signal, sys
from emitters.cli import EMITTER, Cli
from tests.system.host_state import observing
async def main():
    async with observing(EMITTER, Cli(socket="", audit=True, state=sys.argv[1])):
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@root
@pytest.mark.parametrize("again", [True, False], ids=["audit is asked again", "audit is no longer wanted"])
async def test_what_one_of_us_that_was_killed_has_left_is_put_back_by_the_next(
    again: bool, audited: list[bytes], folder: Path
) -> None:
    before = audit.status()
    await run(sys.executable, "-c", KILLED, str(folder))
    left = audit.status()
    assert left.enabled
    async with observing(EMITTER, Cli(socket="", audit=again, executed=again, state=str(folder))) as told:
        assert told.lost == 0
    after = audit.status()
    assert kept(after) == kept(before)
    assert not any(there(audited))
    assert os.listdir(folder) == []  # noqa: PTH208  a Path would block no less


@root
async def test_a_note_of_another_boot_is_not_believed(audited: list[bytes], folder: Path) -> None:
    before = audit.status()
    noted = Before.of(before._replace(backlog_limit=77, pid=0), [])
    msgspec.structs.replace(noted, boot="another").note(folder / "audit.json")
    Before.put_back_noted(folder / "audit.json")
    assert audit.status().backlog_limit == before.backlog_limit


@root
async def test_what_could_not_be_executed_says_why_and_shells_searches_are_left_out(audited: list[bytes]) -> None:
    assert audited
    async with observing(EMITTER, Cli(socket="", audit=True)) as told:
        await run("/bin/sh", "-c", "PATH=/nowhere:/bin; /etc/passwd 2>/dev/null; exec true")
        await told.until(lambda: told.of(name="true"))
    (refused,) = told.of(error="EACCES")
    assert (refused["program"], "argv" in refused) == ("/etc/passwd", False)
    assert told.of(error="ENOENT") == []


async def test_without_audit_the_connector_tells_what_it_can_to_an_ordinary_user() -> None:
    found = as_nobody(
        """
import asyncio
from emitters.cli import EMITTER, Cli, sources
from tests.system.host_state import observing, run, trues
async def main():
    drop()
    why = sources()
    executions = whole = lost = 0
    if not why["connector"]:
        async with observing(EMITTER, Cli(socket="", audit=True)) as told:
            shell = await run(*trues(1000))
            await run("/bin/sleep", "0.5")
            await told.until(lambda: told.of(command="/bin/sleep 0.5"))
            executions, whole, lost = len(told.records), len(told.of(command="/bin/true")), told.lost
    print(json.dumps({"why": why, "executions": executions, "whole": whole, "lost": lost}))
asyncio.run(main())
"""
    )
    print(f"an ordinary user, 1000 x /bin/true: {found['whole']} whole of {found['executions']}; {found['why']}")
    assert found["why"]["audit"] != ""
    if found["why"]["connector"] == "":
        assert found["executions"] + found["lost"] >= 1001
        assert found["whole"] > 0


def test_each_source_is_tried() -> None:
    with alone() if ROOT else nullcontext():
        found = sources()
    assert list(found) == ["shell", "audit", "connector"]
    if ROOT and platform.machine() in {"x86_64", "aarch64"}:
        assert found == {"shell": "", "audit": "", "connector": ""}
