"""Calendars: hours over midnight, days and dates on which they began, clocks put forward and back."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exhaust.calendars import Calendar, Times


def at(text: str, zone: str = "Europe/Amsterdam") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def times(**keys: Any) -> Times:
    return Times(Calendar(name="x", **{"zone": "Europe/Amsterdam", **keys}))


@pytest.mark.parametrize(
    ("moment", "holds"),
    [
        ("2026-11-22 22:59:59", False),
        ("2026-11-22 23:00", True),
        ("2026-11-23 00:00", True),
        ("2026-11-23 04:59:59", True),
        ("2026-11-23 05:00", False),
    ],
)
def test_hours_may_go_over_midnight(moment: str, holds: bool) -> None:
    assert times(hours=["23:00-05:00"]).holds(at(moment)) is holds


def test_the_night_of_a_friday_lasts_until_saturday_morning() -> None:
    night = times(hours=["23:00-05:00"], days=["fri"])
    assert [night.holds(at(f"2026-11-{day} 04:00")) for day in (20, 21, 22)] == [False, True, False]


def test_days_may_go_over_the_end_of_the_week() -> None:
    weekend = times(days=["sat-mon"])
    assert [weekend.holds(at(f"2026-11-{day} 12:00")) for day in (20, 21, 22, 23, 24)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_dates_recur_every_year_and_may_go_over_its_end() -> None:
    freeze = times(dates=["12-20/01-02"])
    found = [
        freeze.holds(at(f"{day} 12:00"))
        for day in ("2026-12-19", "2026-12-20", "2027-01-02", "2027-01-03", "2031-12-31")
    ]
    assert found == [False, True, True, False, True]


def test_dates_with_a_year_are_of_that_year_alone() -> None:
    party = times(dates=["2026-12-24"])
    assert [party.holds(at(f"{year}-12-24 12:00")) for year in (2025, 2026, 2027)] == [False, True, False]


def test_all_that_is_given_must_hold() -> None:
    busy = times(hours=["09:00-17:00"], days=["mon-fri"], dates=["11-01/11-30"])
    found = [busy.holds(at(moment)) for moment in ("2026-11-23 12:00", "2026-11-22 12:00", "2026-12-01 12:00")]
    assert found == [True, False, False]


def test_the_clocks_of_its_zone_count() -> None:
    assert times(hours=["09:00-10:00"], zone="Asia/Tokyo").holds(at("2026-11-22 00:30", "UTC"))


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("2026-11-22 12:00", "2026-11-22 23:00"),
        ("2026-11-22 23:30", "2026-11-23 05:00"),
        ("2026-03-28 23:30", "2026-03-29 05:00"),  # the clocks are put forward that night
        ("2026-10-24 23:30", "2026-10-25 05:00"),  # and back
    ],
)
def test_it_is_known_when_it_changes(now: str, then: str) -> None:
    assert times(hours=["23:00-05:00"]).changes(at(now)) == at(then)


def test_it_is_known_when_a_yearly_one_comes_again() -> None:
    assert times(dates=["02-29"]).changes(at("2026-11-22 12:00")) == at("2028-02-29 00:00")


def test_one_that_is_over_never_changes() -> None:
    assert times(dates=["2020-01-01"]).changes(at("2026-11-22 12:00")) == float("inf")


@settings(deadline=None, max_examples=100)
@given(
    st.floats(1.7e9, 1.9e9),
    st.sampled_from(["23:00-05:00", "00:00-24:00", "02:30-02:45", "12:00-12:01"]),
    st.lists(st.sampled_from(["mon", "tue-thu", "sat-sun"]), max_size=2),
)
def test_until_it_changes_it_stays_as_it_is(now: float, hours: str, days: list[str]) -> None:
    calendar = times(hours=[hours], days=days)
    then = calendar.changes(now)
    for share in (0.0, 0.3, 0.9, 0.999999):
        moment = now + share * min(then - now, 86_400 * 30)
        assert calendar.holds(moment) == calendar.holds(now)
    if then < float("inf"):
        assert calendar.holds(then) != calendar.holds(now)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hours": ["25:00-03:00"]},
        {"hours": ["09:00"]},
        {"hours": ["09:00-09:00"]},
        {"hours": ["09:00-24:30"]},
        {"days": ["monday"]},
        {"dates": ["02-30"]},
        {"dates": ["2026-12-24/12-25"]},
        {"dates": ["2026-12-24/2026-12-20"]},
        {"zone": "Mars/Olympus", "hours": ["09:00-10:00"]},
        {},
    ],
)
def test_what_is_no_calendar_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|a day has no|no time zone|needs 'hours'"):
        times(**wrong)
