"""How bytes become records: encodings, line endings, bytes that are no text, and lines that are too long."""

import codecs
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emitters.following.places import Place
from emitters.following.tail import Tail
from emitters.following.text import Text
from exhaust.plugins import Record
from tests.following import put, reading

EXAMPLES = int(os.environ.get("EXHAUST_EXAMPLES", "100"))


async def read(path: Path, content: bytes, count: int = 1, **given: Any) -> list[Record]:
    put(path, content)
    async with reading(paths=(str(path),), **given) as it:
        return await it.take(count)


def inode(path: Path) -> int:
    return path.stat().st_ino


def place_of(record: Record) -> Place:
    assert record.position is not None
    return Place(*record.position[1])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


async def test_a_record_says_where_its_line_is(log: Path) -> None:
    first, second = await read(log, b"one\r\n\ntwo\n", 2)
    assert first.fields == {"path": str(log), "line": "one", "offset": 0, "inode": inode(log)}
    assert (second.fields["line"], second.fields["offset"], second.stream) == ("", 5, "line")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
async def test_every_encoding_is_read_by_its_own_lines(log: Path, encoding: str) -> None:
    lines = ["", "größe \x85" if encoding == "latin-1" else "größe \u010a\u0a0a", "x"]
    found = await read(log, "".join(f"{line}\r\n" for line in lines).encode(encoding), 3, encoding=encoding)
    assert [record.fields["line"] for record in found] == lines


async def test_a_mark_tells_the_order_of_bytes(log: Path) -> None:
    text = codecs.BOM_UTF16_BE + "one\ntwo\n".encode("utf-16-be")
    found = await read(log, text, 2, encoding="utf-16")
    assert [record.fields["line"] for record in found] == ["one", "two"]


async def test_bytes_that_are_no_text_are_shown_and_marked(log: Path) -> None:
    broken, control = await read(log, b"a\xffb\na\x00\x1b[0m\n", 2)
    assert (broken.fields["line"], broken.fields["encoding_errors"]) == ("a\\xffb", True)
    assert control.fields["line"] == "a\x00\x1b[0m"
    assert "encoding_errors" not in control.fields


@pytest.mark.parametrize("unit", [b"x", b"\x01", b"\xff", "\U0001f600".encode(), b'"'])
async def test_a_line_of_a_mebibyte_is_cut_so_that_its_record_can_be_sent(log: Path, unit: bytes) -> None:
    long = unit * ((1 << 20) // len(unit))
    cut, after = await read(log, long + b"\nafter\n", 2)
    assert (cut.fields["cut"], cut.fields["bytes"]) == (True, 1 << 20)
    assert len(msgspec.json.encode(cut.fields)) < 256 << 10
    assert len(cut.fields["line"].encode()) >= 32 << 10
    assert ("encoding_errors" in cut.fields) == (unit == b"\xff")
    assert (after.fields["line"], after.fields["offset"]) == ("after", (1 << 20) + 1)


async def test_a_line_just_as_long_as_is_sent_is_whole(log: Path) -> None:
    whole, cut = await read(log, b"x" * 2000 + b"\n" + b"x" * 2001 + b"\n", 2, most_line_bytes=2000)
    assert (len(whole.fields["line"]), "cut" in whole.fields) == (2000, False)
    assert (len(cut.fields["line"]), cut.fields["bytes"]) == (2000, 2001)


@given(
    st.lists(st.binary(max_size=40), max_size=30),
    st.lists(st.integers(1, 100), min_size=1, max_size=20),
    st.sampled_from(["latin-1", "cp037", "utf-16-be"]),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_bytes_that_come_in_any_pieces_are_lines_in_order(
    given_lines: list[bytes], pieces: list[int], encoding: str
) -> None:
    lines = [line.decode("latin-1").replace("\n", "").replace("\r", "") for line in given_lines]
    content = "".join(f"{line}\n" for line in lines).encode(encoding, "replace")
    fd = os.memfd_create("log")
    found: list[Record] = []
    with closing(Tail(fd, "/log", encoding, 1024)) as tail:
        for size in (*pieces, len(content)):
            os.write(fd, content[:size])
            content = content[size:]
            found += tail.read(1.0)
        assert not tail.read(1.0)
        assert tail.rewritten is False
        assert all(tail.mark_at(place.offset) == place.mark for place in map(place_of, found))
    assert [one.fields["line"] for one in found] == [
        line.encode(encoding, "replace").decode(encoding) for line in lines
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_the_last_line_that_has_ended_is_found_in_any_encoding(encoding: str) -> None:
    text = Text(encoding, b"", 1024)
    for line in ("", "\u0a00\u000a", "\u0a0a\n\u0a0a\u0a00"):
        data = line.encode(encoding)
        ended = line.rpartition("\n")
        assert text.end(data, 0) == len("".join(ended[:2]).encode(encoding))
