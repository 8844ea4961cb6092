"""How a stream is taken apart: counted messages and lines, told apart each, in whatever pieces they come."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.listening.framing import Frame, Framing
from tests.unit.syslog_hearing import EXAMPLES

MOST = 40


def frames(*pieces: bytes, most: int = MOST, counted: bool = True) -> list[Frame]:
    framing = Framing(most, counted=counted)
    return [frame for piece in pieces for frame in framing.feed(piece)] + framing.end()


def whole(*texts: bytes) -> list[Frame]:
    return [Frame(text, cut=False) for text in texts]


def test_counted_messages_and_lines_may_follow_each_other() -> None:
    stream = b"7 <13>a\nb<13>line\r\n5 <1>x9 <0>56789\n\n<2>last"
    assert frames(stream) == whole(b"<13>a\nb", b"<13>line", b"<1>x9", b" <0>56789", b"<2>last")


def test_counted_messages_may_have_a_line_end_between_them() -> None:
    assert frames(b"5 <13>a\n5 <13>b\r\n5 <13>c") == whole(b"<13>a", b"<13>b", b"<13>c")


@pytest.mark.parametrize(
    "line",
    [
        b"5 apples",
        b"2026-11-22 <13>x",
        b"12 <192>x",
        b"12 <013>x",
        b"12 <13x",
        b"12 13>x",
        b"3 <13>x",  # shorter than its own priority
        b"012 <13>x",
        b"123456789 <13>x",
        b"12  <13>x",
        b"12",
        b"12 <1",
        b"12 ",
        b"\xb2 <13>x",
    ],
)
def test_digits_alone_are_no_count(line: bytes) -> None:
    assert frames(line + b"\n<13>y\n") == whole(line, b"<13>y")
    assert frames(line) == whole(line)


@pytest.mark.parametrize("stream", [b"<13>" + b"x" * 1000, b"900 <13>" + b"x" * 1000])
def test_what_is_too_long_is_cut_and_what_follows_is_found(stream: bytes) -> None:
    cut = Frame((b"<13>" + b"x" * MOST)[:MOST], cut=True)
    if stream.startswith(b"9"):
        stream = stream[: len(b"900 ") + 900]
    assert frames(stream) == [cut]
    end = b"" if stream.startswith(b"9") else b"\n"
    assert frames(stream + end + b"<13>y\n") == [cut, Frame(b"<13>y", cut=False)]


def test_a_line_of_the_most_length_is_whole() -> None:
    assert frames(b"x" * MOST + b"\n") == whole(b"x" * MOST)
    assert frames(b"x" * (MOST + 1) + b"\n") == [Frame(b"x" * MOST, cut=True)]


def test_a_counted_message_that_does_not_come_whole_is_cut() -> None:
    assert frames(b"9 <13>ab") == [Frame(b"<13>ab", cut=True)]


def test_no_more_is_kept_than_one_message_whatever_comes() -> None:
    framing = Framing(1000)
    for _ in range(1000):
        framing.feed(b"x" * 1024)
        assert len(framing._buffer) <= 1000
    assert framing.feed(b"\n99999999 <13>" + b"y" * 2000) == [Frame(b"<13>" + b"y" * 996, cut=True)]
    assert len(framing._buffer) == 0


PIECES = st.sampled_from(
    [b"<13>", b"5 <13>x", b"60 <1>", b"7 <13>", b"1", b"12 ", b" ", b"\n", b"\r\n", b"a" * 30, b"\0"]
)
STREAMS = st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=30).map(b"".join))


@settings(max_examples=EXAMPLES, deadline=None)
@given(STREAMS, st.lists(st.integers(1, 200), max_size=50), st.booleans())
def test_the_pieces_in_which_a_stream_comes_change_nothing(stream: bytes, cuts: list[int], counted: bool) -> None:
    bounds = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[begin:end] for begin, end in itertools.pairwise(bounds)]
    once = frames(stream, counted=counted)
    assert frames(*pieces, counted=counted) == once
    assert frames(*(bytes([octet]) for octet in stream), counted=counted) == once


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=30), st.booleans()), max_size=10))
def test_what_was_framed_by_the_rules_comes_out(messages: list[tuple[bytes, bool]]) -> None:
    told = [(b"<13>" + (text if counted else text.replace(b"\n", b" ")), counted) for text, counted in messages]
    stream = b"".join(b"%d %s" % (len(text), text) if counted else text + b"\n" for text, counted in told)
    expected = [text if counted else text.removesuffix(b"\r") for text, counted in told]
    assert frames(stream) == whole(*expected)
