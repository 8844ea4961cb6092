"""The times that messages carry: those of RFC 3339, and those of RFC 3164, which have neither year nor zone."""

import calendar
from datetime import UTC, datetime
from functools import lru_cache

_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
_SHORTEST, _LONGEST = len("2003-08-24T05:14:15Z"), len("2003-08-24T05:14:15.000000003-07:00")
_DAY = 86400.0


def instant(text: str) -> float | None:
    """Return the seconds since the epoch of a time such as `2003-08-24T05:14:15.000003-07:00`; None if it is none."""
    if not _SHORTEST <= len(text) <= _LONGEST or text[4] + text[7] + text[10] != "--T":
        return None
    if text[-1] != "Z" and text[-6] not in "+-":
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None


def legacy(text: str, received: float) -> float | None:
    """Return the seconds since the epoch of a time such as `Oct 11 22:14:15` on this host's wall; None if it is none.

    Of all years, and of the two hours that are one by the wall where summer time ends, it is meant in the one that is
    nearest to when it was received.
    """
    return _nearest(text, int(received // 60))


@lru_cache(maxsize=1024)
def _nearest(text: str, minute: int) -> float | None:
    """Senders give the same second many times: how far away the candidates are is the same for a minute long."""
    month = _MONTHS.get(text[:3], 0)
    day, clock = text[4:6].lstrip(" "), text[7:]
    if not (month and text[3] == text[6] == " " and day.isdecimal() and clock[2] == clock[5] == ":"):
        return None
    received = minute * 60.0
    try:
        numbers = (int(day), int(clock[:2]), int(clock[3:5]), int(clock[6:]))
        year = datetime.fromtimestamp(received, UTC).year
    except (ValueError, OverflowError, OSError):
        return None
    found = [moment for one in (year - 1, year, year + 1) for moment in _moments(one, month, numbers)]
    return min(found, key=lambda moment: abs(moment - received), default=None)


def _moments(year: int, month: int, numbers: tuple[int, int, int, int]) -> list[float]:
    """Return when that was on this host's wall in a year: there may be no such day, or two such moments."""
    try:
        told = [datetime(year, month, *numbers, fold=fold) for fold in (0, 1)]  # noqa: DTZ001  local time is meant
        return [moment.timestamp() for moment in told]
    except (ValueError, OverflowError, OSError):
        return []


def placed(moment: float | None, received: float) -> tuple[float, float | None]:
    """Return a record's time, and the message's own where that is more than a day off and so not to be believed."""
    if moment is None:
        return received, None
    return (moment, None) if abs(moment - received) <= _DAY else (received, moment)
