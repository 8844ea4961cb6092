"""What is told of the host as a whole, from recorded text and from this host; and which streams are asked for."""

import os
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import cast

import pytest

from emitters.measures.filesystems import Asking
from emitters.measures.interfaces import NETWORK
from emitters.measures.proc import Proc
from emitters.measures.system import SYSTEM, System, counters, levels, rates
from emitters.performance import STREAMS, Performance, StreamName, emit
from exhaust.clock import Clock, VirtualClock
from exhaust.documents.binding import bind
from exhaust.documents.document import compose
from exhaust.plugins import Record
from exhaust.settings import INVALID, Context

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


def observed(settings: Performance, clock: Clock) -> AsyncGenerator[Record]:
    return cast("AsyncGenerator[Record]", emit(settings, clock, {}, asking=Asking(os.statvfs)))


def faults_of(text: str) -> list[str]:
    document, faults = compose(text.encode(), "s.yaml")
    assert document is not None
    bound = bind(document, Performance, "", faults, Context())
    assert (bound is INVALID) == bool(faults)
    return [str(fault) for fault in faults]


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


async def test_the_files_of_this_host_are_read_whole() -> None:
    with ExitStack() as opened:
        (record,) = await System(Proc(opened)).look(1.0)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert record["memory_total_bytes"] == pages
    assert record["processes"] > 0


async def test_a_record_every_beat_has_exactly_the_documented_fields() -> None:
    clock = VirtualClock()
    async with aclosing(observed(Performance(every=1.0, streams=("system",)), clock)) as records:
        first = await anext(records)
        assert (first.time, first.stream) == (clock.now(), "system")
        assert set(first.fields) < set(SYSTEM)
        second: Record | None = None
        while second is None or len(second.fields) < len(SYSTEM):  # until the processors' ticks have moved on
            clock.advance(1.0)
            second = await anext(records)
        assert set(second.fields) == set(SYSTEM)


async def test_each_stream_that_is_asked_for_has_a_record_at_a_beat_and_no_other() -> None:
    everywhere: tuple[StreamName, ...] = ("cpu", "memory", "disk", "process", "user", "computer", "system")
    asked: tuple[tuple[StreamName, ...], ...] = Performance().streams, ("network", "user"), everywhere
    for streams in asked:
        clock, found = VirtualClock(), set()
        async with aclosing(observed(Performance(every=1.0, streams=streams), clock)) as records:
            async for record in records:
                found.add(record.stream)
                assert record.time == clock.now()
                assert set(record.fields) <= set(STREAMS[record.stream])
                if found == set(streams):
                    break


async def test_the_second_beat_comes_after_the_first_has_told_all() -> None:
    clock = VirtualClock()
    async with aclosing(observed(Performance(every=1.0, streams=("network",), interfaces=("lo",)), clock)) as records:
        first = await anext(records)
        clock.advance(1.0)
        second = await anext(records)
    assert set(first.fields) == {name for name in NETWORK if not name.endswith("_per_second")}
    assert (second.time, set(second.fields)) == (clock.now(), set(NETWORK))


def test_streams_and_filters_are_taken_and_processes_are_on_request() -> None:
    text = (
        'every: 1s\nstreams: [process, filesystem, network]\nmounts: [/, "/srv/*"]\ninterfaces: ["eth*"]\nmost: 100\n'
    )
    assert faults_of(text) == []
    assert not {"process", "user"} & set(Performance().streams)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("streams: [sytem]", "got 'sytem', did you mean 'system'? (at streams[0])"),
        ("streams: []", "expected a length of at least 1"),
        ("most: 501", "expected at most 500"),
        (
            "{streams: [system], mounts: [/]}",
            "'mounts' belongs to stream 'filesystem', which 'streams' does not name",
        ),
        ("streams: [folder]", "stream 'folder' needs 'folders', the paths of those to count"),
        ("{streams: [folder], folders: [srv]}", "at folders[0]"),
        ("{streams: [pressure], stalls: [{resource: cpu}]}", "a stall has either 'some' or 'full'"),
        ("{streams: [pressure], stalls: [{resource: cpu, some: 2s}]}", "'some' is to be more than nothing, and not"),
        ("{streams: [pressure], stalls: [{resource: cpu, some: 1s, within: 20s}]}", "expected at most 10"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(text: str, fault: str) -> None:
    assert fault in faults_of(text)[0]


def kept_in(state: Path) -> set[str]:
    return {path.name for path in state.iterdir()}


async def test_uses_with_other_settings_keep_which_processes_they_told_of_each_for_itself(tmp_path: Path) -> None:
    (tmp_path / "processes.json").write_text('{"boot": "", "processes": []}')  # as it was called for all of them once
    for most in (10, 20, 20):
        settings = Performance(streams=("process",), most=most, state=str(tmp_path))
        async with aclosing(observed(settings, VirtualClock())) as records:
            await anext(records)
    kept = kept_in(tmp_path)
    assert len(kept) == 2
    assert "processes.json" not in kept
