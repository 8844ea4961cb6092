"""What a watch makes of the records that were seen: fresh ones only, and unknown where they do not suffice."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.recent import Seen
from analyzers.watching import look
from exhaust.messages import Watch

AFTER = 1000.0


def watch(**fields: Any) -> Watch:
    asked: dict[str, Any] = {"episode": "e", "after": AFTER, "until": AFTER + 60} | fields
    return Watch(id="w", time=AFTER, execution="x", host="web-1", **asked)


def seen(*records: tuple[float, bool | None], late: float = 0.0) -> list[Seen]:
    return [Seen(f"b#{n}", AFTER + at, AFTER + at + late, gone) for n, (at, gone) in enumerate(records)]


@dataclass(frozen=True)
class Case:
    records: tuple[tuple[float, bool | None], ...]
    holds: str
    samples: int


@pytest.mark.parametrize(
    "case",
    [
        Case((), "unknown", 0),
        Case(((1, None),), "unknown", 0),
        Case(((1, True),), "true", 1),
        Case(((1, False),), "false", 1),
        Case(((1, False), (2, True)), "true", 1),
        Case(((1, True), (2, False)), "false", 1),
        Case(((1, True), (2, None)), "true", 1),
        Case(((-1, True), (0, True)), "unknown", 0),
    ],
)
def test_the_newest_fresh_record_that_is_known_decides(case: Case) -> None:
    sight = look(watch(), seen(*case.records))
    assert (sight.holds, sight.samples) == (case.holds, case.samples)


def test_a_record_of_the_very_instant_is_not_fresh() -> None:
    assert look(watch(), seen((0, True))).holds == "unknown"


@pytest.mark.parametrize(("count", "holds"), [(2, "unknown"), (3, "true")])
def test_samples_must_be_as_many_in_one_run(count: int, holds: str) -> None:
    records = [(1.0, True), (2.0, True), (3.0, False), *((4.0 + n, True) for n in range(count))]
    assert look(watch(samples=3), seen(*records)).holds == holds


def test_an_unknown_record_breaks_no_run_and_counts_in_none() -> None:
    sight = look(watch(samples=2), seen((1, True), (2, None), (3, True)))
    assert (sight.holds, sight.samples, sight.first, sight.last) == ("true", 2, AFTER + 1, AFTER + 3)


@pytest.mark.parametrize(("last", "holds"), [(10.9, "unknown"), (11.0, "true")])
def test_hold_ends_with_a_record_at_or_past_it(last: float, holds: str) -> None:
    assert look(watch(hold=10.0), seen((1, True), (last, True))).holds == holds


def test_hold_begins_anew_when_the_fault_is_back_for_a_moment() -> None:
    records = seen((1, True), (8, True), (9, False), (10, True), (15, True))
    assert look(watch(hold=10.0), records).holds == "unknown"


@pytest.mark.parametrize(("at", "holds"), [(29.9, "unknown"), (30.0, "true")])
def test_what_comes_before_the_effect_has_settled_does_not_count(at: float, holds: str) -> None:
    assert look(watch(settle=30.0), seen((1, False), (at, True))).holds == holds


def test_by_receipt_an_old_record_that_came_afterwards_is_fresh() -> None:
    records = seen((-5, True), late=6.0)
    assert look(watch(clock="received"), records).holds == "true"
    assert look(watch(clock="time"), records).holds == "unknown"


def test_while_nothing_was_started_nothing_is_fresh() -> None:
    assert look(watch(after=None), seen((1, True), (2, False))).holds == "unknown"


def test_evidence_is_the_newest_eight_records_of_the_run() -> None:
    sight = look(watch(), seen(*((float(n), True) for n in range(1, 20))))
    assert sight.evidence == tuple(f"b#{n}" for n in range(11, 19))


@given(st.lists(st.tuples(st.floats(0.001, 59), st.sampled_from([True, False, None]))), st.integers(1, 4))
def test_it_never_holds_while_the_newest_known_record_says_that_it_does_not(
    records: list[tuple[float, bool | None]], samples: int
) -> None:
    sight = look(watch(samples=samples), seen(*sorted(records, key=lambda record: record[0])))
    known = [gone for _, gone in sorted(records, key=lambda record: record[0]) if gone is not None]
    newest = known[-1] if known else None
    assert sight.holds in {None: ("unknown",), False: ("false",), True: ("true", "unknown")}[newest]
