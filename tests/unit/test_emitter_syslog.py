"""The emitter of syslog on real sockets: what programs send arrives whole, and what is lost is counted."""

import asyncio
import os
import socket
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from emitters.listening.intake import Arrival, Intake
from emitters.listening.message import MOST_BYTES
from emitters.listening.places import UnixPlace
from emitters.syslog import EMITTER, Syslog
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.settings import INVALID, Context
from tests.unit.syslog_hearing import PATIENCE, Hearing, free_port, hearing, short_folder

MANY = 20_000
BURSTS = """
import socket, sys, time
to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for burst in range(0, {many}, 50):
    for n in range(burst, burst + 50):
        to.sendto(b"<13>Oct 11 22:14:15 host app[%d]: datagram %d" % (n, n), ("127.0.0.1", {port}))
    time.sleep(0.001)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


def local(kind: socket.SocketKind) -> tuple[str, int]:
    port = free_port(kind)
    return f"127.0.0.1:{port}", port


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def run(*argv: object) -> None:
    process = await asyncio.create_subprocess_exec(*map(str, argv))
    assert await process.wait() == 0


async def send_many(port: int) -> None:
    await run(sys.executable, "-c", BURSTS.format(many=MANY, port=port))


async def accounted(heard: Hearing) -> None:
    await heard.until(lambda: len(heard.records) + heard.dropped >= MANY)
    await asyncio.sleep(0.05)
    assert len(heard.records) + heard.dropped == MANY
    assert {lost.reason for lost in heard.lost} <= {"kernel"}


async def test_all_datagrams_of_bursts_are_heard_or_counted_with_a_tiny_buffer() -> None:
    address, port = local(socket.SOCK_DGRAM)
    async with hearing(udp=address, receive_buffer=4096) as heard:
        await send_many(port)
        await accounted(heard)
        assert heard.dropped > 0
        numbers = [int(record.fields["message"].split()[1]) for record in heard.records]
        assert numbers == sorted(set(numbers))


async def test_root_loses_no_datagram_of_bursts_with_the_settings_as_they_are() -> None:
    address, port = local(socket.SOCK_DGRAM)
    async with hearing(udp=address) as heard:
        await send_many(port)
        await accounted(heard)
        assert heard.dropped == 0 or os.geteuid() != 0  # others get only what the host allows to everybody


@pytest.mark.parametrize("how", ["--rfc5424", "--rfc3164"])
@pytest.mark.parametrize("way", [("--udp",), ("--tcp",), ("--tcp", "--octet-count")])
async def test_logger_by_network_arrives_whole(how: str, way: tuple[str, ...]) -> None:
    kind = "udp" if "--udp" in way else "tcp"
    address, port = local(socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    data = ["--sd-id", "a@1", "--sd-param", 'k="v \\"w\\" \\] \\\\"', "--msgid", "M1"] if how == "--rfc5424" else []
    async with hearing(None, **{kind: address}) as heard:
        to = ["-n", "127.0.0.1", "-P", port, *way, how]
        await run("logger", *to, "-p", "auth.err", "-t", "shop", "--id=42", *data, "it's [down] é")
        (found,) = await heard.fields()
    assert (found["facility"], found["severity"], found["app_name"], found["proc_id"]) == ("auth", "err", "shop", "42")
    assert (found["message"], found["transport"], found["peer"]) == ("it's [down] é", kind, "127.0.0.1")
    assert (found["hostname"], found["format"]) == (socket.gethostname().split(".")[0], how.removeprefix("--"))
    if data:
        assert (found["structured_data"]["a@1"], found["msg_id"]) == ({"k": 'v "w" ] \\'}, "M1")


@pytest.mark.parametrize(("how", "format_"), [((), "rfc3164"), (("--rfc5424",), "rfc5424")])
async def test_logger_by_a_unix_socket_arrives_with_its_credentials(
    folder: Path, how: tuple[str, ...], format_: str
) -> None:
    async with hearing(unix=str(folder / "log")) as heard:
        began = time.time()
        await run("logger", "-u", folder / "log", *how, "-p", "daemon.warning", "-t", "shop", "out of stock")
        await heard.until(lambda: bool(heard.records))
        (record,) = heard.records
    found = record.fields
    assert (found["transport"], found["peer_uid"], found["peer_gid"]) == ("unix", os.getuid(), os.getgid())
    assert (found["app_name"], found["message"], found["severity"]) == ("shop", "out of stock", "warning")
    assert found["format"] == format_
    assert found["peer_pid"] > 1
    assert began - 2 < record.time <= found["received"] <= time.time()


async def test_a_stream_socket_takes_lines_and_what_ends_in_nul(folder: Path) -> None:
    path = str(folder / "stream")
    async with hearing(unix_stream=path) as heard:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sending:
            sending.connect(path)
            sending.sendall(b"<13>Oct 11 22:14:15 a[1]: x\0<13>y\n9 <13>z")
        found = await heard.fields(3)
    assert [one["message"] for one in found] == ["x", "y", "9 <13>z"]
    assert {(one["transport"], one["peer_pid"], one["peer_uid"]) for one in found} == {
        ("unix_stream", os.getpid(), os.getuid())
    }


async def test_what_is_hostile_arrives_escaped_and_marked(folder: Path) -> None:
    path = str(folder / "log")
    udp, port = local(socket.SOCK_DGRAM)
    async with hearing(unix=path, udp=udp) as heard:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.connect(path)
            for text in (b"<13>\x1b[2J\0\x07", b"<13>\xff\xfe", b"<13>" + b"\x01" * 65536, b""):
                sending.send(text)
            found = await heard.fields(4)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.sendto(b"<13>" + b"\xff" * 65503, ("127.0.0.1", port))
            found += await heard.fields()
    assert [one["message"] for one in found[:2]] == ["\x1b[2J\0\x07", "\\xff\\xfe"]
    assert [bool(one.get("escaped")) for one in found] == [False, True, False, False, True]
    assert [bool(one.get("cut")) for one in found] == [False, False, True, False, True]
    assert [len(one["message"]) for one in found[2:]] == [MOST_BYTES - 4, 0, 4 * (MOST_BYTES - 4)]


async def test_a_megabyte_without_a_line_end_is_cut_and_what_follows_is_heard() -> None:
    address, port = local(socket.SOCK_STREAM)
    async with hearing(tcp=address) as heard:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"<13>" + b"x" * (1 << 20))
        (long,) = await heard.fields()
        writer.write(b"\n<13>" + b"y" * 65536 + b"\n<13>z\n" + b"1000000 <13>" + b"\xff" * 999_996 + b"<13>last")
        found = await heard.fields(3)
        writer.close()
        found += await heard.fields()
        await writer.wait_closed()
    assert (len(long["message"]), long["cut"]) == (MOST_BYTES - 4, True)
    assert [bool(one.get("cut")) for one in found] == [True, False, True, False]
    assert [found[1]["message"], found[3]["message"]] == ["z", "last"]


async def test_descriptors_that_are_sent_along_are_not_kept(folder: Path) -> None:
    path = str(folder / "log")
    async with hearing(unix=path) as heard:
        before = open_files()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.connect(path)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [0, 1, 2]).tobytes())
            sending.sendmsg([b"<13>take these"], [rights])
            (found,) = await heard.fields()
        assert (found["message"], found["peer_pid"]) == ("take these", os.getpid())
        assert open_files() == before


async def test_a_stale_socket_is_replaced_and_ours_is_removed_at_the_end(folder: Path) -> None:
    path = folder / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(str(path))
    async with hearing(unix=str(path)) as heard:
        assert path.stat().st_mode & 0o777 == 0o666
        await run("logger", "-u", path, "hello")
        await heard.fields()
    assert not path.exists()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_socket_that_is_served_is_never_taken(folder: Path, kind: socket.SocketKind) -> None:
    path = folder / "log"
    with socket.socket(socket.AF_UNIX, kind) as others:
        others.bind(str(path))
        if kind == socket.SOCK_STREAM:
            others.listen()
        inode = path.stat().st_ino
        with pytest.raises(OSError, match=f"{path} is served by another process"):
            UnixPlace(str(path), socket.SOCK_DGRAM).take()
        assert path.stat().st_ino == inode


def test_a_file_that_is_no_socket_is_never_replaced(folder: Path) -> None:
    (folder / "log").write_text("mine")
    with pytest.raises(OSError, match="is there and is no socket"):
        UnixPlace(str(folder / "log"), socket.SOCK_DGRAM).take()
    assert (folder / "log").read_text() == "mine"


async def test_while_others_serve_the_socket_the_rest_is_heard_and_then_it_too(folder: Path) -> None:
    path = str(folder / "log")
    udp, port = local(socket.SOCK_DGRAM)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others:
        others.bind(path)
        async with hearing(unix=path, udp=udp) as heard:
            await run("logger", "-n", "127.0.0.1", "-P", port, "--udp", "by udp")
            assert (await heard.fields())[0]["message"] == "by udp"
            others.close()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                await connected(sending, path)
                sending.send(b"<13>by unix")
            assert (await heard.fields())[0]["message"] == "by unix"


async def connected(sending: socket.socket, path: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while sending.connect_ex(path) != 0:  # noqa: ASYNC110  it is the file system that changes
            await asyncio.sleep(0.01)


async def test_whoever_fills_the_intake_pauses_while_it_is_full_until_half_is_taken() -> None:
    intake = Intake(most=10_000)
    told: list[str] = []

    class Tap:
        def pause(self) -> None:
            told.append("pause")

        def resume(self) -> None:
            told.append("resume")

    intake.add(Tap())
    for _ in range(7):
        assert told == ["resume"]
        intake.put(Arrival(b"x" * 1000, False, 0.0, {}))
    for _ in range(4):
        assert told == ["resume", "pause"]
        intake.take()
    assert told == ["resume", "pause", "resume"]


async def test_a_slow_reader_leaves_datagrams_to_the_kernel_which_counts_them() -> None:
    address, port = local(socket.SOCK_DGRAM)
    async with hearing(udp=address, receive_buffer=4096) as heard:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            for n in range(1000):  # without a turn for who reads
                sending.sendto(b"<13>%d" % n, ("127.0.0.1", port))
        await heard.until(lambda: len(heard.records) + heard.dropped >= 1000)
        assert 0 < len(heard.records) < 100
        assert len(heard.records) + heard.dropped == 1000


def faults_of(text: str) -> list[str]:
    document, faults = compose(text.encode(), "s.yaml")
    assert document is not None
    bound = bind(document, Syslog, "", faults, Context())
    assert (bound is INVALID) == bool(faults)
    return [str(fault) for fault in faults]


def test_settings_are_taken() -> None:
    text = 'unix: /run/log\nunix_stream: none\nudp: "[::]:514"\ntcp: 0.0.0.0:601\njournal: true\nreceive_buffer: 1MiB\n'
    assert faults_of(text) == []
    assert faults_of('udp: ":514"\njournal: auto\nkmsg: false\nidle: 5m\n') == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("udp: localhost", "'udp': expected host:port such as 0.0.0.0:514 or [::]:514, got 'localhost', or none"),
        ("tcp: '::1:514'", "'tcp': expected host:port"),
        ("tcp: h:99999", "'tcp': expected host:port"),
        ("unix: log", "'unix': expected an absolute path of at most 107 bytes, got 'log', or none"),
        (f"unix: /{'x' * 107}", "'unix': expected an absolute path of at most 107 bytes"),
        ("unix_stream: ''", "'unix_stream': expected an absolute path"),
        ("{unix: /a, unix_stream: /a}", "'unix' and 'unix_stream' cannot both be '/a'"),
        ("journal: maybe", "got 'maybe'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(text: str, fault: str) -> None:
    assert fault in faults_of(text)[0]


def test_sources_are_told_quickly_and_without_harm() -> None:
    began = time.process_time()
    found = EMITTER.sources()
    assert time.process_time() - began < 0.5
    assert list(found) == ["unix", "journal", "kmsg", "udp", "tcp"]


def test_port_514_is_told_as_what_it_is_for_us_also_while_somebody_has_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trying:
        try:
            trying.bind(("127.0.0.1", 514))
            refused = False
        except OSError as exc:
            refused = isinstance(exc, PermissionError)
        found = EMITTER.sources()
    assert (bool(found["udp"]), bool(found["tcp"])) == (refused, refused)
