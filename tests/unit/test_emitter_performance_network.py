"""What passes through interfaces: beside what psutil counts around it, and from recorded text."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from emitters.measures.interfaces import Interfaces, parse, rates

SENT = 250_000
PIECE = 1000

RECORDED = b"""Inter-|   Receive                              |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 100 2    0    0    0     0          0         0 100 2    0    0    0     0       0          0
wlp0s20:12345678901 20 3 4 0 0 0 7 9876543210 10 5 6 0 0 0 0
"""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def send_over_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here, socket.socket(socket.AF_INET) as there:
        there.bind(("127.0.0.1", 0))
        there.listen()
        here.bind(("127.0.0.1", 0))
        for _ in range(SENT // PIECE):
            here.sendto(bytes(PIECE), here.getsockname())
            here.recv(PIECE)


async def test_what_is_sent_over_loopback_is_counted_as_psutil_counts_it(opened: ExitStack) -> None:
    interfaces = Interfaces(["lo"], opened)
    outer = psutil.net_io_counters(pernic=True)["lo"]
    (first,) = await interfaces.look(100.0)
    inner = psutil.net_io_counters(pernic=True)["lo"]
    send_over_loopback()
    least = psutil.net_io_counters(pernic=True)["lo"]
    (second,) = await interfaces.look(102.0)
    most = psutil.net_io_counters(pernic=True)["lo"]
    for way, name in (("rx", "recv"), ("tx", "sent")):
        for what in ("bytes", "packets"):
            counted = f"{what}_{name}"
            lower = getattr(least, counted) - getattr(inner, counted)
            upper = getattr(most, counted) - getattr(outer, counted)
            assert lower <= 2.0 * second[f"{way}_{what}_per_second"] <= upper
            assert getattr(least, counted) <= second[f"{way}_{what}"] <= getattr(most, counted)
            assert lower >= (SENT if what == "bytes" else SENT // PIECE)
    assert not any(name.endswith("_per_second") for name in first)


async def test_all_interfaces_are_told_of_loopback_too_and_whether_they_are_up(opened: ExitStack) -> None:
    records = await Interfaces([], opened).look(1.0)
    told = {record["interface"]: record["up"] for record in records}
    assert told["lo"] is True
    assert told == {name: status.isup for name, status in psutil.net_if_stats().items()}


async def test_only_interfaces_that_match_are_told_of(opened: ExitStack) -> None:
    assert [record["interface"] for record in await Interfaces(["l?"], opened).look(1.0)] == ["lo"]
    assert await Interfaces(["no such*"], opened).look(1.0) == []


def test_columns_are_read_also_where_no_space_follows_the_name() -> None:
    (_, _), (name, totals) = parse(RECORDED.splitlines())
    assert name == "wlp0s20"
    assert totals == {
        "rx_bytes": 12345678901,
        "rx_packets": 20,
        "rx_errors": 3,
        "rx_drops": 4,
        "tx_bytes": 9876543210,
        "tx_packets": 10,
        "tx_errors": 5,
        "tx_drops": 6,
    }


def test_counters_that_began_anew_and_a_clock_set_back_give_no_rates() -> None:
    assert rates({"rx_bytes": 500}, {"rx_bytes": 20}, 1.0) == {}
    assert rates({"rx_bytes": 20}, {"rx_bytes": 500}, 0.0) == {}
    assert rates({"rx_bytes": 20}, {"rx_bytes": 500}, 4.0) == {"rx_bytes_per_second": 120.0}
