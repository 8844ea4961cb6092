"""Small measurements: really done, skipped under load, bounded over the network, and not again after a restart."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest

from emitters.benchmark import RESULT, Benchmark, emit, measured, too_busy
from emitters.trials import program
from emitters.trials.peer import MOST_BYTES, Peer
from exhaust.clock import VirtualClock
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.plugins import Record
from exhaust.settings import INVALID, Context

WITHIN = 30.0
NEVER_SKIPPED = 1e9


async def test_each_test_is_measured_in_a_process_of_its_own_that_leaves_nothing(tmp_path: Path) -> None:
    found = {one["name"]: one for one in await measured(Benchmark(folder=str(tmp_path)))}
    assert list(found) == ["cpu.integer", "cpu.sha256", "sqlite.transactions", "disk.write", "disk.read"]
    for result in found.values():
        assert not result["skipped"]
        assert result["value"] > 0
        assert 0 < result["seconds"] < WITHIN
        assert set(result) == set(RESULT) - {"reason"}
    assert os.listdir(tmp_path) == []  # noqa: PTH208  only whether there is anything


async def test_a_folder_that_cannot_be_written_is_a_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    settings = {"tests": ["disk", "sqlite", "cpu"], "folder": str(tmp_path / "none"), "peer": None}
    results = list(program.run(settings))
    assert [(one["test"], one["skipped"]) for one in results] == [
        ("disk", True),
        ("sqlite", True),
        ("cpu", False),
        ("cpu", False),
    ]
    assert "No such file" in results[0]["reason"]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_what_goes_to_a_peer_and_comes_from_it_is_measured(clock: VirtualClock) -> None:
    async with Peer("127.0.0.1", 0, clock) as peer:
        settings = Benchmark(tests=("network",), peer=f"127.0.0.1:{peer.address[1]}")
        found = await measured(settings)
    assert [(one["name"], one["unit"]) for one in found] == [
        ("network.connect", "s"),
        ("network.up", "bytes/s"),
        ("network.down", "bytes/s"),
    ]
    assert all(one["value"] > 0 for one in found)


async def test_a_peer_that_is_not_there_is_a_reason(clock: VirtualClock) -> None:
    async with Peer("127.0.0.1", 0, clock) as peer:
        address = f"127.0.0.1:{peer.address[1]}"
    (result,) = await measured(Benchmark(tests=("network",), peer=address))
    assert (result["name"], result["skipped"]) == ("network", True)
    assert "refused" in result["reason"]


async def asked(peer: Peer, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*peer.address)
    async with asyncio.timeout(WITHIN):
        writer.write(request)
        try:
            return await reader.read(-1)
        except ConnectionError:  # it went away without reading all that we sent
            return b""
        finally:
            writer.close()


@pytest.mark.parametrize(
    "request_",
    [b"down %d\n" % (MOST_BYTES + 1), b"down -5\n", b"down\n", b"up 5\nxx", b"sideways 5\n", b"\xff\n", b"x" * 100_000],
)
async def test_a_peer_gives_nothing_to_who_asks_for_too_much_or_for_something_else(
    request_: bytes, clock: VirtualClock
) -> None:
    async with Peer("127.0.0.1", 0, clock) as peer:
        reader, writer = await asyncio.open_connection(*peer.address)
        async with asyncio.timeout(WITHIN):
            writer.write(request_)
            writer.write_eof()
            try:
                answer = await reader.read(-1)
            except ConnectionError:  # it went away without reading all that we sent
                answer = b""
        writer.close()
        assert answer == b""
        assert await asked(peer, b"down 5\n") == bytes(5)


async def test_a_peer_answers_so_many_a_minute(clock: VirtualClock) -> None:
    async with Peer("127.0.0.1", 0, clock) as peer:
        answers = [await asked(peer, b"down 1\n") for _ in range(61)]
        assert answers == [b"\0"] * 60 + [b""]
        clock.advance(61)
        assert await asked(peer, b"down 1\n") == b"\0"


async def test_a_peer_ends_at_once_though_somebody_takes_nothing_of_what_was_asked_for(clock: VirtualClock) -> None:
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with Peer("127.0.0.1", 0, clock) as peer:
            slow.connect(peer.address)
            slow.sendall(b"down %d\n" % MOST_BYTES)
            await asyncio.to_thread(slow.recv, 1)
            began = time.monotonic()
        assert time.monotonic() - began < 5  # half of what it would have had


async def test_who_cannot_listen_measures_and_listens_once_that_can_be(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    address = taken.getsockname()
    settings = Benchmark(every=60.0, tests=("cpu",), skip_above_load=1e-9, listen=f"127.0.0.1:{address[1]}")
    async with aclosing(observed(settings, clock, {})) as records:
        assert (await anext(records)).fields["name"].startswith("cpu")
        assert "cannot listen" in caplog.text
        taken.close()
        clock.advance(60)
        async with asyncio.timeout(WITHIN):
            while (await anext(records)).time < clock.now():
                pass
        _, writer = await asyncio.open_connection(*address)
        writer.close()
        await writer.wait_closed()


async def test_what_a_killed_one_has_left_is_removed_and_what_is_in_use_or_anothers_is_not(tmp_path: Path) -> None:
    for name in ("exhaust-benchmark-old", "exhaust-benchmark-new", "others"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    for name in ("exhaust-benchmark-old", "others"):
        os.utime(tmp_path / name, (1e9, 1e9))
    await measured(Benchmark(tests=("cpu",), folder=str(tmp_path)))
    left = sorted(os.listdir(tmp_path))  # noqa: PTH208  only the names
    assert left == ["exhaust-benchmark-new", "others"]


def test_a_host_that_others_need_is_left_alone() -> None:
    settings = Benchmark(skip_above_load=0.7)
    assert too_busy(settings, 2.8, 4) == ""
    assert too_busy(settings, 3.2, 4) == "load is 0.80 for each processor"


def observed(settings: Benchmark, clock: VirtualClock, positions: dict[str, Any]) -> AsyncGenerator[Record]:
    return cast("AsyncGenerator[Record]", emit(settings, clock, positions))


async def test_under_load_there_is_a_record_that_says_so(clock: VirtualClock) -> None:
    settings = Benchmark(tests=("cpu",), skip_above_load=1e-9)
    async with aclosing(observed(settings, clock, {})) as records:
        record = await anext(records)
    assert (record.fields["name"], record.fields["skipped"]) == ("cpu", True) or os.getloadavg()[0] == 0
    assert record.position == ("last", clock.now())


async def test_who_starts_anew_does_not_measure_anew(clock: VirtualClock) -> None:
    settings = Benchmark(every=3600.0, tests=("cpu",), skip_above_load=NEVER_SKIPPED)
    async with aclosing(observed(settings, clock, {"last": clock.now() - 600})) as records:
        waiting = asyncio.ensure_future(anext(records))
        await asyncio.sleep(0)
        clock.advance(2999)
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        clock.advance(1)
        record = await asyncio.wait_for(waiting, WITHIN)
    assert record.fields["name"] == "cpu.integer"
    assert record.time == clock.now()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tests: [network]", "test 'network' needs 'peer'"),
        ("listen: 127.0.0.1:99999", "'listen' is to be a host and a port"),
        ("tests: [gpu]", "got 'gpu'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(text: str, fault: str) -> None:
    document, faults = compose(text.encode(), "s.yaml")
    assert document is not None
    assert bind(document, Benchmark, "", faults, Context()) is INVALID
    assert fault in str(faults[0])
