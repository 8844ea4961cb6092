"""One series: judgements in, openings and closings out, by the records' own time."""

from typing import Any

import pytest

from analyzers.recent import MOST_SEEN, pack, pack_gone
from analyzers.series import Series
from exhaust.plugins import Inferring, Judgement

BAD, GOOD, UNKNOWN = Judgement(True, False), Judgement(False, True), Judgement(None, None)
BETWEEN = Judgement(False, False)


def settings(**given: Any) -> Inferring:
    return Inferring(use="condition", fact="service.down", on="service.state", **given)


def changes(series: Series, given: Inferring, *judged: tuple[float, Judgement]) -> list[tuple[float, str]]:
    taken = [(time, series.take(judgement, time, given)) for time, judgement in judged]
    return [(time, change) for time, change in taken if change is not None]


def series() -> Series:
    return Series("web-1", {"service": "shop"})


def test_the_first_bad_record_opens_and_the_first_good_one_closes() -> None:
    assert changes(series(), settings(), (1, GOOD), (2, BAD), (3, BAD), (4, GOOD)) == [(2, "opens"), (4, "closes")]


def test_for_asks_for_an_unbroken_time_of_bad_records() -> None:
    given = settings(for_=10.0)
    assert changes(series(), given, (0, BAD), (9, BAD), (10, GOOD), (11, BAD), (20.9, BAD), (21, BAD)) == [
        (21, "opens")
    ]


def test_a_fact_is_true_since_the_first_bad_record_and_not_since_for_was_over() -> None:
    one = series()
    changes(one, settings(for_=10.0), (100, BAD), (112, BAD))
    assert one.since == 100


def test_keep_asks_for_an_unbroken_time_of_good_records() -> None:
    one = series()
    assert changes(one, settings(keep=5.0), (0, BAD), (1, GOOD), (4, BAD), (5, GOOD), (9, GOOD), (10, GOOD)) == [
        (0, "opens"),
        (10, "closes"),
    ]
    assert one.ended == 5


def test_between_when_and_until_an_open_fact_stays_open_and_a_closed_one_closed() -> None:
    assert changes(series(), settings(), (0, BETWEEN), (1, BAD), (2, BETWEEN), (3, GOOD), (4, BETWEEN)) == [
        (1, "opens"),
        (3, "closes"),
    ]


def test_unknown_neither_opens_nor_closes_nor_breaks_what_was_building_up() -> None:
    given = settings(for_=10.0, keep=10.0)
    judged = [(0.0, BAD), (5.0, UNKNOWN), (10.0, BAD), (20.0, GOOD), (25.0, UNKNOWN), (30.0, GOOD)]
    assert changes(series(), given, *judged) == [(10, "opens"), (30, "closes")]


@pytest.mark.parametrize("first", [BAD, GOOD])
def test_unknown_alone_changes_nothing_however_long(first: Judgement) -> None:
    one = series()
    changes(one, settings(), (0, first))
    assert changes(one, settings(), *((float(time), UNKNOWN) for time in range(1, 500))) == []


def test_an_event_is_not_closed_by_a_record() -> None:
    assert changes(series(), settings(expires=60.0), (0, BAD), (1, GOOD), (50, GOOD)) == [(0, "opens")]


def test_an_event_is_valid_for_its_time_after_the_last_record_that_opened_it() -> None:
    one, given = series(), settings(expires=60.0)
    changes(one, given, (0, BAD), (30, BAD), (45, GOOD))
    assert one.valid_until(given) == 90


def test_an_ordinary_fact_is_valid_for_three_refreshes_after_it_was_last_heard_of() -> None:
    one = series()
    one.heard = 1000.0
    assert one.valid_until(settings(refresh=20.0)) == 1060


def test_it_reopens_only_after_for_has_passed_anew() -> None:
    judged = [(0.0, BAD), (5.0, BAD), (6.0, GOOD), (7.0, BAD), (11.0, BAD), (12.0, BAD)]
    assert changes(series(), settings(for_=5.0), *judged) == [(5, "opens"), (6, "closes"), (12, "opens")]


def test_the_newest_records_are_remembered_and_no_more_of_them() -> None:
    one = series()
    for number in range(MOST_SEEN + 3):
        one.recent.add(pack("b", float(number), [number], [float(number)]) + pack_gone([None]), 1)
    assert [len(one.seen), one.seen[0].id, one.seen[-1].id] == [MOST_SEEN, "b#3", f"b#{MOST_SEEN + 2}"]
