"""Commands that people type: the socket that shells write to."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from emitters.cli import COMMAND, Cli, emit
from emitters.commands import shells
from emitters.commands.shells import Session
from emitters.exits.witnessed import look
from exhaust.clock import VirtualClock
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.plugins import Lost, Record
from exhaust.settings import INVALID, Context


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


@asynccontextmanager
async def opened(path: Path, arrived: Callable[[], None] = lambda: None, **more: Any) -> AsyncIterator[shells.Shells]:
    found = shells.Shells(path, VirtualClock(), arrived, **more)
    await found.open()
    try:
        yield found
    finally:
        await found.close()


@contextmanager
def occupied(path: Path, kind: socket.SocketKind | None) -> Iterator[None]:
    """Let another's socket be at the path, or a file."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, kind or socket.SOCK_STREAM) as other:
        if kind is None:
            path.write_text("kept")
        else:
            other.bind(str(path))
        yield


def inode(path: Path) -> int:
    return path.lstat().st_ino


async def next_of(records: AsyncGenerator[Record | Lost]) -> Record | Lost:
    async with asyncio.timeout(5):
        return await anext(records)


BEGAN, ENDED = 1_699_999_990_250_000, 1_699_999_991_000_000  # some seconds before the clock's time


def said(
    command: str = "ls",
    pid: int = 0,
    exit_: str = "3",
    mark: str = "exhaust/1",
    shell: str = "bash",
    began: int = BEGAN,
    ended: int = ENDED,
) -> bytes:
    fields = (mark, shell, str(pid or os.getpid()), str(began), str(ended), exit_, "/srv", command)
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
    assert (found.time, found.fields["began"], found.fields["elapsed_seconds"]) == (1699999991.0, 1699999990.25, 0.75)
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
    "frame",
    [said(mark="other"), said(shell="audit"), said(exit_="x"), said(exit_="9" * 30)],
    ids=["mark", "shell", "no number", "no small number"],
)
async def test_what_is_no_command_is_counted_and_the_connection_ended(frame: bytes, path: Path) -> None:
    async with listening(path) as records:
        with write(path, frame + said()) as connected:
            assert await next_of(records) == Lost("unusable", 1)
            await ended_by_us(connected)
        with write(path, said("still there")):
            found = await next_of(records)
    assert isinstance(found, Record)


async def test_a_long_command_is_cut_and_an_endless_one_counted(path: Path) -> None:
    async with listening(path) as records:
        with write(path, said("x" * 70_000)):
            found = await next_of(records)
        assert isinstance(found, Record)
        assert (len(found.fields["command"]), found.fields["cut"]) == (1 << 16, True)
        for endless in (said("x" * 82_000), b"x" * 82_000):
            with write(path, endless):
                assert await next_of(records) == Lost("too_big", 1)


async def test_times_that_cannot_be_are_those_of_when_it_was_told(path: Path) -> None:
    now = VirtualClock().now()
    async with listening(path) as records:
        for ended in (9_000_000_000, now + 2, now - 90_000):
            with write(path, said(ended=int(ended * 1e6))):
                found = await next_of(records)
            assert isinstance(found, Record)
            assert (found.time, found.fields["began"], found.fields["elapsed_seconds"]) == (now, now, 0.0)
        with write(path, said(ended=int((now + 0.5) * 1e6))):
            found = await next_of(records)
        assert isinstance(found, Record)
        assert (found.time, found.fields["elapsed_seconds"]) == (now, now - BEGAN / 1e6)
        with write(path, said(began=ENDED + 1)):
            found = await next_of(records)
        assert isinstance(found, Record)
        assert (found.time, found.fields["elapsed_seconds"]) == (ENDED / 1e6, 0.0)


async def test_who_does_not_finish_what_was_begun_is_put_out_and_who_says_nothing_is_not(path: Path) -> None:
    come = asyncio.Event()
    async with opened(path, come.set, patience=0.05) as found:
        with write(path) as silent, write(path, said() + said()[:-5]) as unfinished:
            await ended_by_us(unfinished)
            assert len(list(found.take())) == 1
            come.clear()
            silent.sendall(said())
            async with asyncio.timeout(5):
                await come.wait()


async def test_what_nobody_takes_is_bounded_and_all_of_it_comes_once_it_is_taken(path: Path) -> None:
    async with opened(path) as found:
        writing = asyncio.ensure_future(asyncio.to_thread(write, path, *[said("x" * 60_000)] * 200))
        number = 0
        async with asyncio.timeout(30):
            while number < 200:
                while number < 100 and not found.full:  # noqa: ASYNC110  it comes from another thread
                    await asyncio.sleep(0.01)
                taken = len(list(found.take()))
                assert taken <= (4 << 20) // 60_000 + 1
                number += taken
                await asyncio.sleep(0.01)
        (await writing).close()


async def test_many_sessions_write_at_once_and_nothing_is_lost(path: Path) -> None:
    async with listening(path) as records:
        sessions = [write(path, *(said(f"{one} {number}") for number in range(20))) for one in range(40)]
        found = [await next_of(records) for _ in range(800)]
        for session in sessions:
            session.close()
    texts = {one.fields["command"] for one in found if isinstance(one, Record)}
    assert texts == {f"{one} {number}" for one in range(40) for number in range(20)}


async def ended_by_us(connected: socket.socket) -> None:
    connected.setblocking(False)
    with suppress(ConnectionResetError):
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(connected, 1) == b""


async def test_a_user_has_only_so_many_sessions_however_often_more_are_refused(path: Path) -> None:
    async with listening(path) as records:
        sessions = [await asyncio.to_thread(write, path) for _ in range(256)]
        for _ in range(5):
            with await asyncio.to_thread(write, path) as refused:
                await ended_by_us(refused)
        sessions[0].sendall(said())
        assert isinstance(await next_of(records), Record)
        for session in sessions:
            session.close()
        with write(path, said("again")):
            assert isinstance(await next_of(records), Record)


async def test_nobody_is_counted_who_has_gone(path: Path) -> None:
    async with opened(path) as found:
        for _ in range(2):
            sessions = [await asyncio.to_thread(write, path) for _ in range(300)]
            for session in sessions[256:]:
                await ended_by_us(session)
            for session in sessions:
                session.close()
            async with asyncio.timeout(5):
                while found.sessions:  # noqa: ASYNC110  an end is told at the loop's next turns
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("there", ["a file", "a socket of datagrams"])
async def test_what_is_no_socket_of_ours_stays_at_its_path(there: str, path: Path) -> None:
    with occupied(path, socket.SOCK_DGRAM if there != "a file" else None):
        before = inode(path)
        with pytest.raises(OSError, match=r"is there and is no socket|is served by another process"):
            await shells.Shells(path, VirtualClock(), asyncio.Event().set).open()
        assert inode(path) == before


async def test_a_socket_that_another_has_put_there_stays_at_the_end(path: Path) -> None:
    with ExitStack() as others:
        async with opened(path):
            others.enter_context(occupied(path, socket.SOCK_STREAM))
        assert mode(path) is not None


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
