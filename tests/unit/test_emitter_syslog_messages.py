"""What is read from a message of syslog: of both RFCs, of what is nearly so, and of what is meant to do harm."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.listening.message import MOST_BYTES, read
from emitters.listening.moments import _nearest
from emitters.listening.priorities import PRIORITIES
from emitters.syslog import MESSAGE
from tests.unit.syslog_hearing import EXAMPLES, MOST_JSON

NOW = datetime(2003, 10, 11, 22, 14, 20, tzinfo=UTC).timestamp()
USER = {"facility": "user", "severity": "notice", "facility_code": 1, "severity_code": 5}
AUTH = {"facility": "auth", "severity": "crit", "facility_code": 4, "severity_code": 2}


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the host's wall be Amsterdam's, told in a form that needs no table of zones."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    _nearest.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()
    _nearest.cache_clear()


def fields(text: str | bytes, *, local: bool = False) -> dict[str, Any]:
    return read(text if isinstance(text, bytes) else text.encode(), NOW, local=local).fields


def test_a_message_of_rfc_5424_is_read_whole() -> None:
    text = (
        "<165>1 2003-10-11T22:14:15.003000+00:00 mymachine.example.com evntslog 12 ID47 "
        '[exampleSDID@32473 iut="3" eventSource="Application"][priority@32473 class="high"] \ufeffAn event'
    )
    found = read(text.encode(), NOW)
    assert found.time == NOW - 4.997
    assert found.fields == {
        "facility": "local4",
        "severity": "notice",
        "facility_code": 20,
        "severity_code": 5,
        "hostname": "mymachine.example.com",
        "app_name": "evntslog",
        "proc_id": "12",
        "msg_id": "ID47",
        "format": "rfc5424",
        "structured_data": {
            "exampleSDID@32473": {"iut": "3", "eventSource": "Application"},
            "priority@32473": {"class": "high"},
        },
        "message": "An event",
    }


def test_what_a_message_of_rfc_5424_leaves_out_is_left_out() -> None:
    found = read(b"<34>1 - - su - - -", NOW)
    assert found == (NOW, {**AUTH, "app_name": "su", "format": "rfc5424", "message": ""})


@pytest.mark.parametrize(
    ("text", "data", "message"),
    [
        (r'[a k="\"\\\]"] x\"\\', {"a": {"k": '"\\]'}}, r"x\"\\"),
        (r'[a k="c:\new"]', {"a": {"k": r"c:\new"}}, ""),
        ('[a ip="1" ip="2" ip="3"]', {"a": {"ip": ["1", "2", "3"]}}, ""),
        ('[a][b] [c k="v"] is text', {"a": {}, "b": {}}, '[c k="v"] is text'),
        ('[a k="]"] x', {"a": {"k": "]"}}, "x"),
        ('[a k=""]', {"a": {"k": ""}}, ""),
    ],
)
def test_structured_data_is_read_with_its_escapes(text: str, data: dict[str, Any], message: str) -> None:
    found = fields(f"<13>1 - - - - - {text}")
    assert (found["structured_data"], found["message"], found.get("raw")) == (data, message, None)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[a",
        "[]",
        '[a k="v]',
        "[a k=v]",
        '[a k="v"]x',
        '[a  k="v"]',
        '[a "k"="v"]',
        "[a" + ' k="v"' * 500 + "]",
        "x",
    ],
)
def test_structured_data_that_is_none_stays_text_and_the_header_stands(text: str) -> None:
    found = fields(f"<13>1 - host app - - {text} end")
    assert (found["app_name"], found["message"], found["format"]) == ("app", f"{text} end", "rfc5424")
    assert "structured_data" not in found
    assert found["raw"] == f"<13>1 - host app - - {text} end"[:4096]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
            {"hostname": "mymachine", "app_name": "su", "message": "'su root' failed"},
        ),
        (
            "<34>Oct  1 22:14:15 h sshd[312]: Failed",
            {"hostname": "h", "app_name": "sshd", "proc_id": "312", "message": "Failed"},
        ),
        ("<34>Oct 11 22:14:15 sshd[312]: Failed", {"app_name": "sshd", "proc_id": "312", "message": "Failed"}),
        (
            "<34>Oct 11 22:14:15 h postfix/smtpd[1]:x y",
            {"hostname": "h", "app_name": "postfix/smtpd", "proc_id": "1", "message": "x y"},
        ),
        ("<34>Oct 11 22:14:15 fe80::1 su: x", {"hostname": "fe80::1", "app_name": "su", "message": "x"}),
        ("<34>Oct 11 22:14:15 h no tag here", {"hostname": "h", "message": "no tag here"}),
        ("<34>Oct 11 22:14:15 h [ERROR] x", {"hostname": "h", "message": "[ERROR] x"}),
        ("<34>2003-10-11T22:14:15.5+02:00 h su: x", {"hostname": "h", "app_name": "su", "message": "x"}),
        ("<34>Oct 11 22:14:15", {"message": ""}),
    ],
)
def test_messages_of_rfc_3164_are_read(text: str, expected: dict[str, str]) -> None:
    assert fields(text) == {**AUTH, **expected, "format": "rfc3164"} | (
        {"message_time": NOW - 10 * 86400 - 7205} if "Oct  1" in text else {}
    )


def test_no_host_is_looked_for_in_what_a_program_of_this_host_says_without_a_tag() -> None:
    text = "<34>Oct 11 22:14:15 word after word"
    assert "hostname" not in fields(text, local=True)
    assert fields(text, local=True)["message"] == "word after word"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Use the BFG!", {"message": "Use the BFG!"}),
        ("<192>x", {"message": "<192>x"}),
        ("<013>x", {"message": "<013>x"}),
        ("", {"message": ""}),
        ("<13>Use the BFG!", {**USER, "message": "Use the BFG!", "raw": "<13>Use the BFG!"}),
    ],
)
def test_what_has_no_header_is_all_message(text: str, expected: dict[str, str]) -> None:
    assert fields(text) == {**expected, "format": "none"}


@pytest.mark.parametrize(
    "text", ["1 yesterday h a - - - x", "2 - h a - - - x", "1 - h a - -", "Xyz 11 22:14:15 h a: x", "Feb 30 22:14:15 x"]
)
def test_a_header_that_is_none_is_message_too(text: str) -> None:
    assert fields(f"<13>{text}") == {**USER, "message": text, "format": "none", "raw": f"<13>{text}"}


@pytest.mark.parametrize(
    ("stamp", "received", "ago"),
    [
        ("Oct 11 22:14:15", datetime(2003, 10, 11, 20, 14, 20, tzinfo=UTC), 5),
        ("Dec 31 23:59:59", datetime(2025, 12, 31, 23, 0, 1, tzinfo=UTC), 2),
        ("Jan  1 00:00:01", datetime(2025, 12, 31, 22, 59, 58, tzinfo=UTC), -3),
        ("Feb 29 12:00:00", datetime(2024, 2, 29, 11, 0, 1, tzinfo=UTC), 1),
        # The hour from 2 to 3 is there twice on the wall where summer time ends.
        ("Oct 26 02:30:00", datetime(2025, 10, 26, 0, 30, 1, tzinfo=UTC), 1),
        ("Oct 26 02:30:00", datetime(2025, 10, 26, 1, 30, 1, tzinfo=UTC), 1),
    ],
)
def test_a_time_without_year_and_zone_is_the_nearest_by_the_wall(stamp: str, received: datetime, ago: float) -> None:
    found = read(f"<13>{stamp} h a: x".encode(), received.timestamp())
    assert received.timestamp() - found.time == ago


def test_a_time_that_is_more_than_a_day_off_is_kept_beside_that_of_receipt() -> None:
    found = read(b"<13>1 1999-01-01T00:00:00Z - - - - - x", NOW)
    assert (found.time, found.fields["message_time"]) == (NOW, 915148800.0)


def test_bytes_that_are_no_utf_8_are_escaped_and_marked_and_control_characters_stay() -> None:
    found = fields(b'<13>1 - h\xff - - - [a k="\xfe\\\\"] \\udcff \xe9\0\x1b[1m\xc3\xa9')
    assert (found["hostname"], found["structured_data"]) == ("h\\xff", {"a": {"k": "\\xfe\\"}})
    assert (found["message"], found["escaped"]) == ("\\udcff \\xe9\0\x1b[1mé", True)
    assert "escaped" not in fields("<13>é\0")


def test_one_line_end_and_one_nul_behind_a_message_are_no_part_of_it() -> None:
    assert [fields(text)["message"] for text in ("a\n", "a\n\0", "a\n\n", "a\0\0")] == ["a", "a", "a\n", "a\0"]


def test_a_long_message_is_cut_and_marked_and_no_character_is_halved() -> None:
    found = fields("x" + "é" * MOST_BYTES)
    assert found["cut"]
    assert found["message"] == "x" + "é" * (MOST_BYTES // 2 - 1)
    assert "cut" not in fields("x" * MOST_BYTES)
    assert "escaped" not in found


@pytest.mark.parametrize("code", [0, 13, 96, 191])
def test_facility_and_severity_are_named_as_logger_names_them(code: int) -> None:
    names = {0: ("kern", "emerg"), 13: ("user", "notice"), 96: ("ntp", "emerg"), 191: ("local7", "debug")}
    found = fields(f"<{code}>x")
    assert (found["facility"], found["severity"]) == names[code]
    assert 8 * found["facility_code"] + found["severity_code"] == code


HEADS = st.sampled_from(
    [
        b"",
        b"<13>",
        b"<34>Oct 11 22:14:15 h ",
        b"<13>1 - h a - - ",
        b"<13>1 2003-10-11T22:14:15Z h a p m ",
        b'<13>1 - - - - - [a b="',
    ]
)
PIECES = st.sampled_from(
    [
        b"[",
        b"]",
        b'"',
        b"\\",
        b"=",
        b" ",
        b":",
        b"<",
        b">",
        b"a",
        b"1 ",
        b"-",
        b"\0",
        b"\n",
        b"\xff",
        b"\xed\xb2\x80",
        b"\xef\xbb\xbf",
        b"Oct 11 22:14:15 ",
        b'[a b="c"]',
    ]
)
TEXTS = st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=60).map(b"".join))


@settings(max_examples=EXAMPLES, deadline=None)
@given(HEADS, TEXTS, st.booleans(), st.booleans())
def test_whatever_comes_is_a_record_of_known_fields_and_nothing_of_it_is_lost(
    head: bytes, text: bytes, cut: bool, local: bool
) -> None:
    found = read(head + text, NOW, cut=cut, local=local)
    assert set(found.fields) <= set(MESSAGE)
    assert abs(found.time - NOW) <= 86400
    assert msgspec.json.decode(msgspec.json.encode(found.fields)) == found.fields
    if "raw" in found.fields and not cut:
        raw = found.fields["raw"].encode().decode("unicode_escape").encode("latin-1")
        assert raw == (head + text).removesuffix(b"\0").removesuffix(b"\n")


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.integers(0, 191),
    st.dictionaries(
        st.text("abcxyz@.-_19", min_size=1, max_size=32),
        st.dictionaries(st.text("abcxyz.-_19", min_size=1, max_size=32), st.text(max_size=20), max_size=4),
        max_size=4,
    ),
    st.text(max_size=100),
)
def test_what_is_written_by_the_rules_is_read_as_it_was_meant(
    code: int, data: dict[str, dict[str, str]], message: str
) -> None:
    def quoted(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")

    def element(name: str) -> str:
        return "".join((f"[{name}", *(f' {key}="{quoted(value)}"' for key, value in data[name].items()), "]"))

    text = f"<{code}>1 - - - - - {''.join(map(element, data)) or '-'} \ufeff{message}\0"
    found = fields(text)
    assert (found.get("structured_data", {}), found["message"]) == (data, message.removesuffix("\n"))
    assert 8 * found["facility_code"] + found["severity_code"] == code


WORST = {
    "not UTF-8": b"<13>" + b"\xff" * 65000,
    "half of it not UTF-8": b"<13>1 - - - - - " + b"a\xff" * 32000,
    "elements": b"<13>1 - - - - - " + b"[a]" * 21000,
    "parameters": b"<13>1 - - - - - [a" + b' a=""' * 13000 + b"]",
    "names": b"<13>1 - - - - - " + b"".join(b"[%d]" % n for n in range(9000)),
    "escapes": b'<13>1 - - - - - [a b="' + b'\\"' * 32000,
    "backslashes": b'<13>1 - - - - - [a b="' + b"\\" * 64000,
    "escapes and no UTF-8": b'<13>1 - - - - - [a b="' + b'\\"\xff' * 20000,
    "spaces": b"<13>1 " + b" " * 64000,
    "colons": b"<13>Oct 11 22:14:15 " + b":" * 64000,
    "brackets": b"<13>Oct 11 22:14:15 h a" + b"]:[" * 21000,
    "NUL": b"\0" * 65000,
}


@pytest.mark.parametrize("name", WORST)
def test_the_worst_datagram_makes_no_record_that_is_too_big(name: str) -> None:
    found = read(WORST[name], NOW)
    assert found.fields["cut"]
    assert len(msgspec.json.encode(found.fields)) < MOST_JSON - 1024


def seconds(data: bytes) -> float:
    """Return how long it takes to read a message, as far as it is not others who take the processor from us."""
    took = []
    for _ in range(10):
        began = time.thread_time()
        read(data, NOW)
        took.append(time.thread_time() - began)
    return min(took)


@pytest.mark.parametrize("name", WORST)
def test_the_worst_datagram_is_read_in_linear_time(name: str) -> None:
    """Four times as much takes four times as long; were it not linear, 16 times."""
    assert seconds(WORST[name][:MOST_BYTES]) < 10 * seconds(WORST[name][: MOST_BYTES // 4]) + 0.001


def test_every_priority_is_known() -> None:
    assert len(PRIORITIES) == 192
