"""What is asked of a supervisord, and what becomes of an answer that is none."""

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from exhaust.errors import UnreachableError
from exhaust.supervisord import BAD_NAME, RUNNING, Info, Supervisord, SupervisordError
from tests.system.supervisord_host import PATIENCE, supervised

XML = "HTTP/1.0 200 OK\r\nContent-Type: text/xml\r\n\r\n<?xml version='1.0'?>\n<methodResponse>{}</methodResponse>"
BOMB = (
    "HTTP/1.0 200 OK\r\n\r\n<!DOCTYPE x [<!ENTITY a0 'aaaaaaaaaaaaaaaa'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 16}'>" for n in range(1, 9))
    + "]><methodResponse><params><param><value><string>&a8;</string></value></param></params></methodResponse>"
)


@contextlib.asynccontextmanager
async def answering(*chunks: str, hang: bool = False) -> AsyncIterator[str]:
    """Listen on a socket and answer every request so, whatever it is."""
    over, answered = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"</methodCall>")
            for chunk in chunks:
                writer.write(chunk.encode())
                await writer.drain()
            if hang:
                await over.wait()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        answered.set()

    with tempfile.TemporaryDirectory(dir="/tmp", prefix="xs-") as folder:
        path = str(Path(folder) / "s")
        server = await asyncio.start_unix_server(answer, path)
        try:
            yield path
        finally:
            over.set()
            server.close()
            async with asyncio.timeout(PATIENCE):
                await answered.wait()


async def test_what_is_known_of_several_processes_comes_in_their_order() -> None:
    with supervised(worker={}, idle={"autostart": "false"}) as supervision:
        process = await supervision.running("worker")
        idle, unknown, worker = await supervision.asked.infos(["idle", "unknown", "worker"])
    assert isinstance(idle, Info)
    assert (idle.pid, idle.start, idle.statename) == (0, 0, "STOPPED")
    assert isinstance(unknown, SupervisordError)
    assert unknown.code == BAD_NAME
    assert isinstance(worker, Info)
    assert (worker.pid, worker.state) == (process.pid, RUNNING)


async def test_a_refusal_carries_its_code() -> None:
    with supervised(worker={}) as supervision:
        await supervision.running("worker")
        with pytest.raises(SupervisordError, match="says 'BAD_NAME: other'") as refusal:
            await supervision.asked.call("supervisor.startProcess", "other", False)
    assert refusal.value.code == BAD_NAME


@pytest.mark.parametrize(
    ("chunks", "what"),
    [
        ([""], "answers ''"),
        (["HTTP/1.0 401 Unauthorized\r\n\r\n"], "answers 'HTTP/1.0 401 Unauthorized'"),
        (["HTTP/1.0 200 OK\r\n\r\n<html>"], "answers something that is no XML-RPC"),
        ([XML.format("<params/>")], "answers something that is no XML-RPC"),
        (
            [XML.format("<params><param><value><int>x</int></value></param></params>")],
            "answers something that is no XML",
        ),
        ([XML.format("<params><param><value><int>7</int></value></param></params>")], "answers what is not understood"),
        ([XML.format("<params><param><value><struct></struct></value></param></params>")], "answers what is not under"),
        ([XML[:60]], "answers something that is no XML-RPC"),
        (["\x1b[2J\r\n"], "answers ' \\[2J'"),
        (["HTTP/1.0 200 OK\r\n\r\n", *["x" * 65_536] * 17], "answers more than 1048576 bytes"),
        ([BOMB], "answers something that is no XML-RPC"),
    ],
)
async def test_an_answer_that_is_none_is_as_bad_as_silence(chunks: list[str], what: str) -> None:
    async with answering(*chunks) as path:
        with pytest.raises(UnreachableError, match=f"^supervisord at '{path}' {what}"):
            await Supervisord(path).info("worker")


async def test_one_that_answers_for_others_than_were_asked_of_is_not_believed() -> None:
    async with answering(XML.format("<params><param><value><array><data/></array></value></param></params>")) as path:
        with pytest.raises(UnreachableError, match="answers something else than it was asked"):
            await Supervisord(path).infos(["worker"])


async def test_one_that_never_answers_costs_its_time_and_no_more() -> None:
    async with answering(hang=True) as path:
        with pytest.raises(UnreachableError, match=r"does not answer within 0\.1 s"):
            await Supervisord(path, patience=0.1).info("worker")


async def test_one_of_another_user_is_not_even_asked() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="xs-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()
        with pytest.raises(UnreachableError, match=f"runs as uid {os.getuid()}, which is not believed"):
            await Supervisord(f"{folder}/s", users=[os.getuid() + 1]).info("worker")
        await asyncio.sleep(0)  # the transport closes its socket one turn later
        with listener.accept()[0] as accepted:
            assert accepted.recv(1) == b""


@pytest.mark.parametrize(
    ("path", "what"),
    [
        (lambda folder: folder / "none", "cannot be reached: No such file or directory"),
        (lambda folder: folder, "cannot be reached: "),
        (lambda folder: folder / ("x" * 120), "cannot be reached: AF_UNIX path too long"),
    ],
)
async def test_a_socket_that_is_none_is_said(tmp_path: Path, path: Callable[[Path], Path], what: str) -> None:
    with pytest.raises(UnreachableError, match=what):
        await Supervisord(str(path(tmp_path))).info("worker")
