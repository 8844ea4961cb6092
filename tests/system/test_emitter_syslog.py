"""The emitter of syslog with what a host has: the kernel's log, /dev/log, and another project's syslog daemon."""

import asyncio
import fcntl
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emitters.syslog import sources
from tests.system.syslog_ng import syslog_ng
from tests.unit.syslog_hearing import Hearing, free_port, hearing

MANY = 200
TEXT = "%s shop[%d]: it's é \\ [%d] <13>".encode()
PATIENCE = 30.0
ROOT = os.geteuid() == 0


@contextmanager
def host() -> Iterator[None]:
    """Keep others from changing what is the host's while a test does."""
    path = Path("/run/lock") if os.access("/run/lock", os.W_OK) else Path("/tmp")
    if not (path / "exhaust-host.lock").exists():
        (path / "exhaust-host.lock").touch()
    with (path / "exhaust-host.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def tell_kernel(text: str) -> None:
    with Path("/dev/kmsg").open("w") as kmsg:
        kmsg.write(text)


def marked(heard: Hearing, mark: str) -> list[str]:
    return [record.fields["message"] for record in heard.records if record.fields.get("app_name") == mark]


@pytest.mark.skipif(not ROOT, reason="only root writes to the kernel's log; what others are told is the next test")
async def test_the_kernels_log_is_heard_and_read_on_where_it_was_left() -> None:
    mark = f"exhaust-{os.getpid()}-{time.monotonic_ns()}"
    async with hearing(kmsg=True) as heard:
        async with asyncio.timeout(PATIENCE):
            while not marked(heard, mark):
                tell_kernel(f"<11>{mark}[7]: before\n")
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        last = heard.records[-1]
    assert (last.fields["transport"], last.fields["facility"], last.fields["severity"]) == ("kmsg", "user", "err")
    assert last.fields["proc_id"] == "7"
    assert abs(last.time - time.time()) < 60
    assert last.position is not None
    for text in ("while", "away"):
        tell_kernel(f"<11>{mark}[7]: {text}\n")
    async with hearing(dict([last.position]), kmsg=True) as heard:
        await heard.until(lambda: len(marked(heard, mark)) >= 2)
        assert marked(heard, mark) == ["while", "away"]


@pytest.mark.skipif(ROOT, reason="root may read it: that is the test before")
async def test_without_the_right_to_read_the_kernels_log_the_rest_is_heard() -> None:
    assert "/dev/kmsg" in sources()["kmsg"]
    port = free_port(socket.SOCK_DGRAM)
    async with hearing(kmsg=True, udp=f"127.0.0.1:{port}") as heard:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.sendto(b"<13>here", ("127.0.0.1", port))
        assert (await heard.fields())[0]["message"] == "here"


def is_there() -> bool:
    return os.path.lexists("/dev/log")


async def test_the_hosts_own_socket_is_ours_by_default_where_that_may_be() -> None:
    with host():
        why, there = sources()["unix"], is_there()
        port = free_port(socket.SOCK_DGRAM)
        async with hearing(unix="", udp=f"127.0.0.1:{port}") as heard:  # what is heard by udp shows that it goes on
            if not why:
                process = await asyncio.create_subprocess_exec("logger", "-t", "exhaust-test", "hello")
                assert await process.wait() == 0
                await heard.until(lambda: marked(heard, "exhaust-test") == ["hello"])
        assert is_there() == (there and bool(why))
    assert not why or "/dev" in why


async def test_a_syslog_ng_arrives_whole_by_tcp_in_both_framings_and_by_udp() -> None:
    tcp, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    async with hearing(tcp=f"127.0.0.1:{tcp}", udp=f"127.0.0.1:{udp}") as heard:
        with syslog_ng(tcp=tcp, udp=udp) as sender, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.connect(sender.socket)
            for number in range(MANY):
                await asyncio.to_thread(sending.send, TEXT % (b"<86>Nov 22 13:00:00", number, number))
            await heard.until(lambda: len(heard.records) >= 3 * MANY)
        found = [record.fields for record in heard.records]
    ways = Counter((one["transport"], one["proc_id"]) for one in found)
    assert ways == Counter({(way, str(n)): 1 + (way == "tcp") for way in ("tcp", "udp") for n in range(MANY)})
    for one in found:
        told = {key: one[key] for key in ("format", "app_name", "facility", "severity", "hostname", "message")}
        assert told == {
            "format": "rfc5424",
            "app_name": "shop",
            "facility": "authpriv",
            "severity": "info",
            "hostname": socket.gethostname(),
            "message": f"it's é \\ [{one['proc_id']}] <13>",
        }
        assert one["structured_data"]["shop@1"] == {"k": 'a ] " \\ é', "n": one["proc_id"]}
    assert not {"cut", "escaped", "raw"} & {key for one in found for key in one}
