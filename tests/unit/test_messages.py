"""Messages: one golden body for each kind, and what is no message."""

import contextlib
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exhaust.errors import MessageError
from exhaust.messages import TERMINAL, AnyMessage, Batch, Codec, ExecutionState, Fact, Message, kind_of

GOLDEN = Path(__file__).parent.parent / "golden" / "messages"
KINDS = {kind.__name__: kind for kind in get_args(AnyMessage)}


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_has_a_body_that_stays_as_it_is(name: str) -> None:
    body = golden(name)
    message = Codec.decode(body)
    assert type(message) is KINDS[name]
    assert msgspec.json.format(Codec.encode(message), indent=2) + b"\n" == body


@pytest.mark.parametrize("name", KINDS)
def test_a_golden_body_shows_every_field_at_work(name: str) -> None:
    message = Codec.decode(golden(name))
    defaults = {field.name: field.default for field in msgspec.structs.fields(message)}
    assert [key for key, value in defaults.items() if getattr(message, key) == value] == []


def test_there_is_no_body_without_its_kind() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_message_is_frozen_and_names_its_kind_and_version(name: str) -> None:
    message = Codec.decode(golden(name))
    kind = kind_of(message)
    assert kind.rpartition("/")[2].isdecimal()
    assert msgspec.json.decode(golden(name))["kind"] == kind
    with pytest.raises(AttributeError):
        message.id = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", KINDS)
def test_an_unknown_field_is_ignored_and_null_is_the_same_as_missing(name: str) -> None:
    message = Codec.decode(golden(name))
    given = msgspec.json.decode(golden(name))
    assert Codec.decode(msgspec.json.encode({**given, "later": [1]})) == message
    for field in msgspec.structs.fields(message):
        if field.default is None:
            with_null = Codec.decode(msgspec.json.encode({**given, field.name: None}))
            del given[field.name]
            assert Codec.decode(msgspec.json.encode(given)) == with_null
            given[field.name] = None


@pytest.mark.parametrize("name", KINDS)
def test_a_field_that_must_be_there_is_missed(name: str) -> None:
    given = msgspec.json.decode(golden(name))
    for field in msgspec.structs.fields(KINDS[name]):
        if field.required:
            rest = {key: value for key, value in given.items() if key != field.name}
            with pytest.raises(MessageError, match=field.name):
                Codec.decode(msgspec.json.encode(rest))


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b"[]", b"{", b"\xff", b'{"kind":"batch/1","id":"\xff"}', b'{"kind":"batch/2"}',
     b"[" * 100_000,
     b'{"kind":"sighting/1","id":"a","time":1e999}', b'{"kind":"fact/1","kind":"batch/1"}', b'"\\ud800"'],
)  # fmt: skip
def test_what_is_no_message_says_so(body: bytes) -> None:
    with pytest.raises(MessageError):
        Codec.decode(body)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_codec_fail_otherwise(body: bytes) -> None:
    with pytest.raises(MessageError):
        Codec.decode(body)


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_no_damage_to_a_body_makes_the_codec_fail_otherwise(name: str, data: st.DataObject) -> None:
    body = bytearray(golden(name))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MessageError):
        assert isinstance(Codec.decode(bytes(body)), Message)


def test_a_time_keeps_its_microseconds() -> None:
    batch = Batch(id="b", time=1_800_000_000.123456, host="h", emitter="e", stream="s", epoch=1, seq=0)
    assert Codec.decode(Codec.encode(batch)).time == 1_800_000_000.123456


def test_a_value_that_json_lacks_is_null() -> None:
    fact = msgspec.structs.replace(Codec.decode(golden("Fact")), value=float("nan"))
    again = Codec.decode(Codec.encode(fact))
    assert isinstance(again, Fact)
    assert again.value is None


def test_every_state_is_either_terminal_or_one_of_four() -> None:
    assert set(get_args(ExecutionState)) - TERMINAL == {"pending", "waiting", "running", "verifying"}
