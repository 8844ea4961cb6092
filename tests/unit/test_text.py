"""Text from outside, and how it is logged: no line passes for another, and no terminal is steered."""

import logging
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exhaust.logs import Line
from exhaust.text import clean

ANY = st.text(st.characters())


@given(ANY, st.integers(2, 40))
def test_what_is_shown_has_no_control_characters_and_fits(text: str, most: int) -> None:
    shown = clean(text, most)
    assert len(shown) <= most
    assert all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, é and 漢", "plain text, é and 漢"),
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202ereversed", "\\u202ereversed"),
        ("a\u2028b", "a\\u2028b"),
        ("0123456789ABCDEFGHIJKLMNO", "0123456789ABCDEFGHIJKLMNO"),
        ("0123456789ABCDEFGHIJKLMNOP", "0123456789ABCDEFGHIJKLMN…"),
    ],
)
def test_text_is_escaped_and_cut(text: str, shown: str) -> None:
    assert clean(text, 25) == shown


def record(text: str, **rest: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": text, "name": "exhaust.outbox", "levelno": 30, "levelname": "WARNING"})
    vars(made).update({"created": 1_700_000_000.25, **rest})
    return made


def test_a_line_says_when_how_bad_who_and_what() -> None:
    line = Line().format(record("publishing failed", error="away", count=3))
    assert line == "2023-11-14T22:13:20.250Z warning exhaust.outbox: publishing failed error=away count=3"


@given(ANY, ANY)
def test_a_record_without_a_story_is_one_line(text: str, field: str) -> None:
    shown = Line().format(record(text.replace("%", ""), field=field))
    assert shown.splitlines() == [shown]
    assert "\x1b" not in shown


def test_a_story_is_indented_so_that_no_line_of_it_passes_for_another() -> None:
    try:
        raise ValueError("x\n2023-11-14T22:13:20.250Z error exhaust.agent: forged\x1b[2J")
    except ValueError as exc:
        lines = Line().format(record("could not", exc_info=(type(exc), exc, exc.__traceback__))).splitlines()
    assert len(lines) > 2
    assert [line for line in lines if re.match(r"\d{4}-", line)] == lines[:1]
    assert "\x1b" not in "".join(lines)
