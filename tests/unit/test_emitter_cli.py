"""Commands that people type: the socket that shells write to, and what is hidden."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.cli import COMMAND, Cli, emit
from emitters.commands.scrubber import KNOWN, Scrubber
from emitters.commands.shells import Session
from emitters.exits.witnessed import look
from exhaust.clock import VirtualClock
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.plugins import Lost, Record
from exhaust.settings import INVALID, Context

EXAMPLES = int(os.environ.get("EXHAUST_EXAMPLES", "300"))
SCRUBBER = Scrubber(KNOWN)

# What is typed, and what is seen of it.


@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        ("mysqldump -u root --password=hush shop", "mysqldump -u root --password=*** shop"),
        ("tool --db-password 'two words' -v", "tool --db-password *** -v"),
        ("PGPASSWORD=hush psql -h db", "PGPASSWORD=*** psql -h db"),
        ("export AWS_SECRET_ACCESS_KEY=hush; aws s3 ls", "export AWS_SECRET_ACCESS_KEY=***; aws s3 ls"),
        ("curl -H 'Authorization: Bearer ab.c-d' http://x/", "curl -H 'Authorization: ***' http://x/"),
        ("curl -u ann:hush http://x/", "curl -u ann:*** http://x/"),
        ("git clone https://ann:hush@git.x/a.git", "git clone https://ann:***@git.x/a.git"),
        ("curl 'http://x/?api_key=hush&a=1'", "curl 'http://x/?api_key=***&a=1'"),
        ("mysql -uroot -phush shop", "mysql -uroot -p*** shop"),
        ("sshpass -p hush ssh x", "sshpass -p *** ssh x"),
        ("MYSQL_PWD=hush DB_PASS=hush x --pass hush", "MYSQL_PWD=*** DB_PASS=*** x --pass ***"),
        ("openssl rsa -passin pass:hush", "openssl rsa -passin pass:***"),
        ("vault login -token hush", "vault login -token ***"),
    ],
)
def test_what_looks_like_a_secret_is_not_seen(typed: str, seen: str) -> None:
    assert SCRUBBER.text(typed) == (seen, True)
    words, found = SCRUBBER.words(typed.split(" "))
    assert found
    assert "hush" not in " ".join(words)


@pytest.mark.parametrize(
    "typed",
    [
        "ls -la /etc/passwd",
        "ssh -p 22 host",
        "passwd ann",
        "grep -u x",
        "cp a:b c",
        "date -u +%H:%M",
        "docker run -u 1000:1000 x",
        "make password",
        "PWD=/srv x --bypass y",
    ],
)
def test_what_does_not_is_left_alone(typed: str) -> None:
    assert SCRUBBER.text(typed) == (typed, False)


def test_a_secret_in_a_word_of_its_own_is_found_and_the_words_stay() -> None:
    assert SCRUBBER.words(["x", "--token", "a b", "end"]) == (["x", "--token", "*** b", "end"], True)
    assert SCRUBBER.words(["curl", "-H", "Authorization: Bearer abc"])[0] == ["curl", "-H", "Authorization: ***"]


@settings(max_examples=EXAMPLES, deadline=None, database=None)
@given(st.lists(st.text(max_size=12) | st.sampled_from(["--password=", "TOKEN=x", "-u", "a:b", "é"]), max_size=8))
def test_words_are_scrubbed_as_the_line_that_they_make(words: list[str]) -> None:
    scrubbed, found = SCRUBBER.words(words)
    assert len(scrubbed) == len(words)
    assert found == SCRUBBER.text(" ".join(words))[1]
    assert found or scrubbed == words


# What shells write.


@pytest.fixture
def path() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="xh-", dir="/tmp"))
    yield folder / "deep" / "s"
    shutil.rmtree(folder)


@asynccontextmanager
async def listening(path: Path, **more: Any) -> AsyncIterator[AsyncGenerator[Record | Lost]]:
    """The emitter, which hears shells and nothing else; it listens once this is entered."""
    found = emit(Cli(socket=str(path), executed=False, **more), VirtualClock(), {})
    async with aclosing(cast("AsyncGenerator[Record | Lost]", found)) as records:
        first = asyncio.ensure_future(anext(records))
        async with asyncio.timeout(5):
            while not path.exists():  # noqa: ASYNC110, ASYNC240  a socket tells nobody that it is there
                await asyncio.sleep(0.01)
        yield _preceded(first, records)
        first.cancel()
        await asyncio.wait([first])


async def _preceded(
    first: "asyncio.Future[Record | Lost]", rest: AsyncGenerator[Record | Lost]
) -> AsyncGenerator[Record | Lost]:
    yield await first
    async for one in rest:
        yield one


async def next_of(records: AsyncGenerator[Record | Lost]) -> Record | Lost:
    async with asyncio.timeout(5):
        return await anext(records)


def said(command: str = "ls", pid: int = 0, exit_: str = "3", mark: str = "exhaust/1") -> bytes:
    fields = (mark, "bash", str(pid or os.getpid()), "1700000000250000", "1700000001000000", exit_, "/srv", command)
    return b"".join(os.fsencode(field) + b"\0" for field in fields)


def write(path: Path, *frames: bytes) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.connect(str(path))
    for frame in frames:
        connected.sendall(frame)
    return connected


def mode(path: Path) -> int | None:
    return path.stat().st_mode & 0o777 if path.exists() else None


async def test_what_a_shell_writes_is_told_with_who_the_kernel_says_it_is(path: Path) -> None:
    async with listening(path) as records:
        with write(path, said("echo --token hush\n\x1f\udcff")[:-5], said("echo --token hush\n\x1f\udcff")[-5:]):
            found = await next_of(records)
    assert isinstance(found, Record)
    assert (found.time, found.fields["began"], found.fields["elapsed_seconds"]) == (1700000001.0, 1700000000.25, 0.75)
    assert found.fields["command"] == "echo --token ***\n\x1f\\xff"
    assert (found.fields["exit"], found.fields["cwd"], found.fields["scrubbed"]) == (3, "/srv", True)
    assert (found.fields["uid"], found.fields["pid"], found.fields["ppid"]) == (os.getuid(), os.getpid(), os.getppid())
    assert set(found.fields) <= set(COMMAND)


async def test_a_pid_that_is_another_shells_is_not_believed(path: Path) -> None:
    async with listening(path) as records:
        with write(path, said(pid=1)):
            found = await next_of(records)
    assert isinstance(found, Record)
    assert "pid" not in found.fields
    assert found.fields["uid"] == os.getuid()


def test_who_passes_on_for_a_shell_is_its_child() -> None:
    seen = look(os.getpid())
    assert seen is not None
    assert Session(os.getpid(), 0).facts(seen.ppid)["pid"] == seen.ppid


@pytest.mark.parametrize(
    "frame", [said(mark="other"), said(exit_="x"), said(exit_="9" * 30)], ids=["mark", "no number", "no small number"]
)
async def test_what_is_no_command_is_counted_and_the_connection_ended(frame: bytes, path: Path) -> None:
    async with listening(path) as records:
        with write(path, frame + said()) as connected:
            assert await next_of(records) == Lost("unusable", 1)
            connected.setblocking(False)
            async with asyncio.timeout(5):
                assert await asyncio.get_running_loop().sock_recv(connected, 1) == b""
        with write(path, said("still there")):
            found = await next_of(records)
    assert isinstance(found, Record)


async def test_a_long_command_is_cut_and_an_endless_one_counted(path: Path) -> None:
    async with listening(path) as records:
        with write(path, said("é" * 70_000)):
            found = await next_of(records)
        assert isinstance(found, Record)
        assert (len(found.fields["command"]), found.fields["cut"]) == (1 << 16, True)
        endless = await asyncio.to_thread(write, path, said("x" * 300_000))
        assert await next_of(records) == Lost("too_big", 1)
        endless.close()


async def test_many_sessions_write_at_once_and_nothing_is_lost(path: Path) -> None:
    async with listening(path) as records:
        sessions = [write(path, *(said(f"{one} {number}") for number in range(20))) for one in range(40)]
        found = [await next_of(records) for _ in range(800)]
        for session in sessions:
            session.close()
    texts = {one.fields["command"] for one in found if isinstance(one, Record)}
    assert texts == {f"{one} {number}" for one in range(40) for number in range(20)}


async def test_a_user_has_only_so_many_sessions(path: Path) -> None:
    async with listening(path) as records:
        sessions = [await asyncio.to_thread(write, path) for _ in range(257)]
        sessions[-1].setblocking(False)
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(sessions[-1], 1) == b""
        sessions[0].sendall(said())
        assert isinstance(await next_of(records), Record)
        for session in sessions:
            session.close()


async def test_a_socket_that_is_left_over_is_replaced_and_one_in_use_is_not(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    async with listening(path) as records:
        other = cast("AsyncGenerator[Record | Lost]", emit(Cli(socket=str(path), executed=False), VirtualClock(), {}))
        async with aclosing(other):
            waiting = asyncio.ensure_future(anext(other))
            await asyncio.sleep(0.05)
            with write(path, said()):
                assert isinstance(await next_of(records), Record)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert mode(path) == 0o666
    assert mode(path) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('secrets: ["x("]', "'secrets': 'x(' is no regular expression of RE2: missing ): x("),
        ("socket: here", "'socket' is an absolute path, or empty for none, not 'here'"),
        ("{scrub: false, secrets: [x]}", "'secrets' are only looked for with 'scrub'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(text: str, fault: str) -> None:
    document, faults = compose(text.encode(), "s.yaml")
    assert document is not None
    assert bind(document, Cli, "", faults, Context()) is INVALID
    assert fault in str(faults[0])


async def test_secrets_of_ones_own_are_hidden_too_and_without_scrub_none(path: Path) -> None:
    for more, seen in (({"secrets": ("po.t",)}, "*** --token ***"), ({"scrub": False}, "port --token x")):
        async with listening(path, **more) as records:
            with write(path, said("port --token x")):
                found = await next_of(records)
        assert isinstance(found, Record)
        assert found.fields["command"] == seen
