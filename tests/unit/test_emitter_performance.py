"""What is read from /proc, from recorded text and from this host."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from emitters.performance import SYSTEM, Performance, Proc, counters, emit, levels, rates
from exhaust.clock import VirtualClock
from exhaust.plugins import Record

STAT = b"""cpu  1000 10 300 5000 200 5 45 40 7 0
cpu0 1000 10 300 5000 200 5 45 40 7 0
intr 427058 0 0 16
ctxt 871236
btime 1795318088
processes 6672
procs_running 2
procs_blocked 1
softirq 163129 0 26644
"""
LATER = STAT.replace(b"cpu  1000 10 300 5000 200 5 45 40", b"cpu  1050 10 310 5120 195 5 45 60").replace(
    b"871236", b"872236"
)
MEMINFO = b"MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable:    250 kB\nSwapTotal:   400 kB\nSwapFree:  100 kB\n"


def test_rates_are_shares_of_all_processors_time_and_counts_by_the_second() -> None:
    # 195 ticks passed: 50 user, 10 system, 20 steal, 120 idle, and 5 less waiting for a disk, as may happen.
    assert rates(counters(STAT, 10.0), counters(LATER, 12.0)) == {
        "cpu_percent": 41.03,
        "cpu_iowait_percent": 0.0,
        "cpu_steal_percent": 10.26,
        "context_switches_per_second": 500.0,
        "forks_per_second": 0.0,
    }


def test_rates_are_left_out_where_the_clock_was_set_back() -> None:
    assert rates(counters(STAT, 10.0), counters(LATER, 9.0)) == {}


def test_levels_are_bytes_and_percent() -> None:
    found = levels({"stat": STAT, "meminfo": MEMINFO, "loadavg": b"0.10 0.20 0.30 2/89 6672\n"}, 76)
    assert found == {
        "load1": 0.1,
        "load5": 0.2,
        "load15": 0.3,
        "memory_total_bytes": 1_024_000,
        "memory_available_bytes": 256_000,
        "memory_used_percent": 75.0,
        "swap_total_bytes": 409_600,
        "swap_used_percent": 75.0,
        "processes": 76,
        "processes_running": 2,
        "processes_blocked": 1,
    }


def test_the_files_of_this_host_are_read_whole() -> None:
    with Proc() as proc:
        files = proc.read()
    assert counters(files["stat"], 1.0).switches > 0
    assert b"SwapFree:" in files["meminfo"]


async def test_a_record_every_beat_has_exactly_the_documented_fields() -> None:
    clock = VirtualClock()
    async with aclosing(cast("AsyncGenerator[Record]", emit(Performance(every=1.0), clock))) as records:
        first = await anext(records)
        assert first.time == clock.now()
        assert set(first.fields) < set(SYSTEM)
        second: Record | None = None
        while second is None or len(second.fields) < len(SYSTEM):  # until the processors' ticks have moved on
            clock.advance(1.0)
            second = await anext(records)
        assert set(second.fields) == set(SYSTEM)
