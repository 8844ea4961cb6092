"""What a workflow's inputs take, type by type, and what they refuse."""

from typing import Any

import pytest

from exhaust.expressions import Duration, Timestamp
from orchestrator.inputs import Input, InputError, parse_inputs

DAY = 86_400


@pytest.mark.parametrize(
    ("type_", "value", "parsed"),
    [
        ("string", "shop", "shop"),
        ("string", "", ""),
        ("host", "web-1", "web-1"),
        ("int", 7, 7),
        ("int", 7.0, 7),
        ("int", "7", 7),
        ("int", "-7", -7),
        ("double", 7, 7.0),
        ("double", "0.5", 0.5),
        ("bool", True, True),
        ("bool", "false", False),
        ("duration", "2h", Duration.from_seconds(7200)),
        ("duration", 90, Duration.from_seconds(90)),
        ("size", "6GiB", 6 * 2**30),
        ("size", 1024.0, 1024),
        ("timestamp", 1_800_000_000.5, Timestamp.from_seconds(1_800_000_000.5)),
        ("timestamp", "2027-01-15T08:00:00Z", Timestamp.from_seconds(1_800_000_000)),
        ("ip", "192.0.2.10", "192.0.2.10"),
        ("ip", "2001:DB8:0::1", "2001:db8::1"),
        ("path", "/etc/nginx/nginx.conf", "/etc/nginx/nginx.conf"),
        ("process", "4711@12345", "4711@12345"),
        ("list", [1, "a"], [1, "a"]),
        ("map", {"a": 1}, {"a": 1}),
    ],
)
def test_a_value_of_its_type_is_taken(type_: Any, value: Any, parsed: Any) -> None:
    found = parse_inputs({"it": type_}, {"it": value})["it"]
    assert found == parsed
    assert type(found) is type(parsed)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("string", 7),
        ("string", "a\0b"),
        ("host", ["web-1"]),
        ("int", 7.5),
        ("int", True),
        ("int", "7.0"),
        ("int", "seven"),
        ("int", float("inf")),
        ("double", "nan"),
        ("double", "inf"),
        ("double", False),
        ("bool", 1),
        ("bool", "yes"),
        ("duration", "often"),
        ("duration", True),
        ("size", "large"),
        ("timestamp", "yesterday"),
        ("timestamp", True),
        ("timestamp", 1e300),
        ("ip", "192.0.2.256"),
        ("ip", 3221225994),
        ("ip", "192.0.2.0/24"),
        ("path", "etc/passwd"),
        ("path", "/etc/../root"),
        ("path", "/etc/a\0b"),
        ("process", "4711"),
        ("process", 4711),
        ("process", "4711@"),
        ("process", "@12345"),
        ("process", "4711@12345\n"),
        ("process", "-1@12345"),
        ("process", "4711@12345@6"),
        ("process", "\u0664@\u0664"),
        ("list", "a"),
        ("list", {"a": 1}),
        ("map", [1]),
    ],
)
def test_a_value_of_another_type_is_refused(type_: Any, value: Any) -> None:
    with pytest.raises(InputError, match=f"^input 'it' should be of type {type_}, got "):
        parse_inputs({"it": type_}, {"it": value})


@pytest.mark.parametrize("given", [{}, {"it": None}])
def test_a_value_that_is_missing_is_refused_unless_there_is_a_default(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^input 'it' is needed$"):
        parse_inputs({"it": "string"}, given)
    assert parse_inputs({"it": Input(type="int", default=3)}, given) == {"it": 3}


def test_a_default_is_of_the_inputs_type_too() -> None:
    assert parse_inputs({"it": Input(type="duration", default="1m")}, {}) == {"it": Duration.from_seconds(60)}


def test_a_value_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(InputError, match=r"^input 'more' is not one of this workflow's: it$"):
        parse_inputs({"it": "string"}, {"it": "a", "more": "b"})
    with pytest.raises(InputError, match=r"it has none$"):
        parse_inputs({}, {"more": "b"})


def test_one_of_compares_what_was_parsed() -> None:
    wanted = {"step": Input(type="int", one_of=[-1, 1])}
    assert parse_inputs(wanted, {"step": "-1"}) == {"step": -1}
    with pytest.raises(InputError, match=r"^input 'step' should be one of \[-1, 1\], got 2$"):
        parse_inputs(wanted, {"step": 2})


def test_one_of_knows_durations_as_they_are_written() -> None:
    wanted = {"wait": Input(type="duration", one_of=["1m", "1h"])}
    assert parse_inputs(wanted, {"wait": "60s"}) == {"wait": Duration.from_seconds(60)}
