"""Pressure stall: from recorded text, and limits that a kernel refuses."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from emitters.measures.pressure import PRESSURE, Pressure, parse, shares, why_not
from emitters.measures.stalls import Stall, Stalls, registered

BOTH = """some avg10=1.50 avg60=0.82 avg300=13.06 total=2500000
full avg10=0.10 avg60=0.00 avg300=0.00 total=500000
"""
LATER = BOTH.replace("=2500000", "=3000000").replace("=500000", "=550000")
FULL = "full avg10=0.10 avg60=0.00 avg300=0.00 total=500000\n"


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_averages_are_percent_and_totals_seconds() -> None:
    assert parse(FULL.encode()) == {
        "full_avg10_percent": 0.1,
        "full_avg60_percent": 0.0,
        "full_avg300_percent": 0.0,
        "full_seconds": 0.5,
    }


def test_shares_are_of_the_time_between_and_never_more_than_all_of_it() -> None:
    before, after = parse(BOTH.encode()), parse(LATER.encode())
    assert shares(before, after, 2.0) == {"some_percent": 25.0, "full_percent": 2.5}
    assert shares(before, after, 0.1)["some_percent"] == 100.0
    assert shares(before, after, 0.0) == shares({}, after, 1.0) == {}


async def test_each_resource_that_the_kernel_counts_has_a_record(opened: ExitStack, tmp_path: Path) -> None:
    for resource, text in {"cpu": BOTH, "memory": BOTH, "irq": FULL}.items():
        (tmp_path / resource).write_text(text)
    pressure = Pressure(opened, tmp_path)
    first = await pressure.look(10.0)
    (tmp_path / "cpu").write_text(LATER)
    second = await pressure.look(12.0)
    assert [record["resource"] for record in first] == ["cpu", "memory", "irq"]
    assert not any("some_percent" in record for record in first)
    assert [record.get("some_percent") for record in second] == [25.0, 0.0, None]
    assert set(second[0]) == set(PRESSURE) - {"kind", "limit_seconds", "within_seconds"}


async def test_the_record_of_a_stall_says_which_limit_was_passed(opened: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "memory").write_text(BOTH)
    told = Pressure(opened, tmp_path).stalled("memory", "full", 0.1, 2.0)
    named = {name: told[name] for name in ("resource", "stalled", "kind", "limit_seconds", "within_seconds")}
    assert list(named.values()) == ["memory", True, "full", 0.1, 2.0]
    assert set(told) <= set(PRESSURE)


def test_a_kernel_that_does_not_count_is_named(tmp_path: Path) -> None:
    assert why_not(tmp_path) == "this kernel does not count it"


def test_a_limit_is_written_as_the_kernel_wants_it(tmp_path: Path) -> None:
    (tmp_path / "io").touch()
    fd, within = registered(Stall(resource="io", full=0.1, within=1.0), tmp_path)
    with open(fd, "rb"):  # noqa: PTH123  it is a descriptor
        assert (tmp_path / "io").read_bytes() == b"full 100000 1000000\0"
    assert within == 1.0


async def test_a_limit_that_is_refused_is_told_once_and_stops_nothing(
    opened: ExitStack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        Stalls([Stall(resource="cpu", some=0.1)], opened, tmp_path)
    assert [record.message for record in caplog.records] == ["stalls cannot be watched"]
