"""Calendars: when something may be done, or must not be, by hours, days and dates of a time zone."""

import functools
import math
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from exhaust.plugins import Settings

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01]\d|2[0-4]):([0-5]\d)")
_DATE = re.compile(r"(?:(\d{4})-)?(\d{2})-(\d{2})")
_AHEAD = 800  # days in which the next change is looked for: a yearly one is among them


class _Span(NamedTuple):
    """Dates from `first` to `last`, both within; yearly ones where they have no year (then it is 0)."""

    first: tuple[int, int, int]
    last: tuple[int, int, int]

    def holds(self, day: date) -> bool:
        if self.first[0]:
            return self.first <= (day.year, day.month, day.day) <= self.last
        first, here, last = self.first[1:], (day.month, day.day), self.last[1:]
        return first <= here <= last if first <= last else here >= first or here <= last


class Calendar(Settings, frozen=True, kw_only=True):
    """Times that have a name, for `during` and `unless_during` of rules.

    `hours` are such as `23:00-05:00`, by the clocks of `zone`; `days` such as `mon-fri` or `sat`; `dates` such as
    `12-20/01-02` (every year), `2026-12-24` or `2026-12-20/2027-01-02`. It holds where all of the three that are given
    do; days and dates are those on which the hours began.
    """

    name: Annotated[str, msgspec.Meta(min_length=1)]
    zone: str = "UTC"
    hours: list[str] = []
    days: list[str] = []
    dates: list[str] = []

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (ValueError, OSError, KeyError):
            raise ValueError(f"no time zone is called {self.zone!r} here") from None
        for text in self.hours:
            _hours(text)
        for text in self.days:
            _days(text)
        for text in self.dates:
            _span(text)
        if not (self.hours or self.days or self.dates):
            raise ValueError("a calendar needs 'hours', 'days' or 'dates'")


class Times:
    """Answers for one calendar. Pure: it is given the time, in seconds since the epoch."""

    def __init__(self, calendar: Calendar) -> None:
        self._zone: tzinfo = ZoneInfo(calendar.zone)
        self._hours = [_hours(text) for text in calendar.hours] or [(time(0), time(0))]
        self._days = frozenset(day for text in calendar.days for day in _days(text))
        self._dates = [_span(text) for text in calendar.dates]
        self._known = functools.lru_cache(64)(self._look)
        self._stretch = (math.inf, -math.inf)

    def holds(self, now: float) -> bool:
        """Whether it is such a time."""
        return any(begin <= now < end for begin, end in self._known(self._day(now)))

    def changes(self, now: float) -> float:
        """Return when it next begins or ends; infinity where it does not within two years."""
        begin, end = self._stretch
        if not begin <= now < end:
            end = self._next(now)
            self._stretch = now, end
        return end

    def _next(self, now: float) -> float:
        held, moment = self.holds(now), now
        for _ in range(_AHEAD):
            moments = sorted({edge for span in self._known(self._day(moment)) for edge in span if edge > moment})
            for edge in moments:
                if self.holds(edge) != held:
                    return edge
            moment = self._midnight_after(moment)
            if self.holds(moment) != held:
                return moment
        return math.inf

    def _day(self, now: float) -> date:
        return datetime.fromtimestamp(now, self._zone).date()

    def _midnight_after(self, now: float) -> float:
        return self._at(self._day(now) + timedelta(days=1), time(0))

    def _at(self, day: date, clock: time) -> float:
        # By way of UTC: where the zone's clocks are put forward over this moment it is the one after the gap.
        return datetime.combine(day, clock, self._zone).astimezone(UTC).timestamp()

    def _look(self, day: date) -> tuple[tuple[float, float], ...]:
        """Return the stretches that begin on a day, or began on the one before and may reach into it."""
        return tuple(self._spans(day - timedelta(days=1))) + tuple(self._spans(day))

    def _spans(self, day: date) -> Iterator[tuple[float, float]]:
        if self._days and day.weekday() not in self._days:
            return
        if self._dates and not any(span.holds(day) for span in self._dates):
            return
        for begin, end in self._hours:
            yield self._at(day, begin), self._at(day if begin < end else day + timedelta(days=1), end)


def _hours(text: str) -> tuple[time, time]:
    begin, dash, end = text.partition("-")
    if not dash or not _CLOCK.fullmatch(begin) or not _CLOCK.fullmatch(end) or begin.startswith("24") or begin == end:
        raise ValueError(f"expected hours such as 23:00-05:00, got {text!r}")
    return _clock(begin), _clock(end)


def _clock(text: str) -> time:
    if text.startswith("24") and text != "24:00":
        raise ValueError(f"a day has no {text}")
    return time.fromisoformat(text.replace("24:", "00:"))


def _days(text: str) -> Iterator[int]:
    first, _, last = text.partition("-")
    if first not in _DAYS or (last or first) not in _DAYS:
        raise ValueError(f"expected days such as mon-fri or sat, got {text!r}")
    begin, end = _DAYS.index(first), _DAYS.index(last or first)
    return (number % 7 for number in range(begin, (end if end >= begin else end + 7) + 1))


def _span(text: str) -> _Span:
    first, _, last = text.partition("/")
    begin, end = _date(first, text), _date(last or first, text)
    if bool(begin[0]) != bool(end[0]) or (begin[0] and end < begin):
        raise ValueError(f"expected dates such as 12-20/01-02 or 2026-12-24, got {text!r}")
    return _Span(begin, end)


def _date(text: str, whole: str) -> tuple[int, int, int]:
    found = _DATE.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        year, month, day = int(found[1] or 0), int(found[2]), int(found[3])
        date(year or 2000, month, day)  # a leap year: what recurs may be the 29th of February
    except ValueError:
        raise ValueError(f"expected dates such as 12-20/01-02 or 2026-12-24, got {whole!r}") from None
    return year, month, day
