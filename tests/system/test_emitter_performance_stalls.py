"""A stall of the real processors is told of at once, not only at the beat that would have shown it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import cast

import pytest

from emitters.measures.filesystems import Asking
from emitters.measures.pressure import why_not
from emitters.measures.stalls import Stall
from emitters.performance import Performance, emit
from exhaust.clock import SystemClock
from exhaust.plugins import Record

WITHIN = 30.0


@pytest.fixture
def crowd() -> Iterator[None]:
    """More programs than processors."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


async def first_urgent(settings: Performance) -> Record:
    records = cast("AsyncGenerator[Record]", emit(settings, SystemClock(), {}, asking=Asking(os.statvfs)))
    async with aclosing(records):
        async for record in records:
            if record.urgent:
                return record
    raise AssertionError("an emitter does not end by itself")


async def test_a_stall_is_an_urgent_record_long_before_the_next_beat(crowd: None) -> None:
    assert why_not() == "", "these tests need a kernel with pressure stall information (CONFIG_PSI, psi=1)"
    stall = Stall(resource="cpu", some=0.2, within=2.0)  # a window that anybody may ask for
    async with asyncio.timeout(WITHIN):
        record = await first_urgent(Performance(every=3600.0, streams=("pressure",), stalls=(stall,)))
    assert (record.stream, record.fields["resource"], record.fields["stalled"]) == ("pressure", "cpu", True)
    assert (record.fields["kind"], record.fields["limit_seconds"], record.fields["within_seconds"]) == ("some", 0.2, 2)
    assert record.fields["some_seconds"] > 0
