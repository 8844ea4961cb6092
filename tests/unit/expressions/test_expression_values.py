"""What a compiled expression tells of itself, and how its values leave."""

import math

import pytest

from exhaust.expressions import (
    Duration,
    ExpressionError,
    Timestamp,
    Unknown,
    compile_expression,
    condition,
    parse_duration,
    parse_quantity,
    parse_timestamp,
    to_json,
    to_text,
    truth,
)
from exhaust.expressions.tree import Comparison, Literal, Logic


def test_expression_tells_what_it_reads() -> None:
    source = "record.cpu > 90 && default(host.labels['role'], '') == cause.labels[record.name] && now - time > wait"
    names = ["record", "host", "cause", "now", "time", "wait", "lists"]
    expression = compile_expression(source, names)
    assert expression.source == source
    assert expression.names == tuple(names)
    assert expression.variables == {"record", "host", "cause", "now", "time", "wait"}
    assert expression.fields == {"record.cpu", "host.labels.role", "cause.labels", "record.name"}


def test_fields_end_where_a_key_is_no_name() -> None:
    expression = compile_expression("a.b[0].c == a['x-y'].d && has(a.e.f) && a.g.size() > 0", ["a"])
    assert expression.fields == {"a.b", "a.e.f", "a.g"}
    assert expression.variables == {"a"}


def test_tree_is_there_for_analysis() -> None:
    tree = compile_expression("record.a > 1 && record.b", ["record"]).tree
    assert isinstance(tree, Logic)
    first = tree.terms[0]
    assert isinstance(first, Comparison)
    assert first.right == Literal(1, column=12)


def test_function_takes_the_values_in_order() -> None:
    expression = compile_expression("lambda - class", ["class", "lambda", "unused"])  # Python's words are no matter
    assert expression.function(1, 5, None) == 4
    assert expression(1, 5, None) == 4


def test_constants_that_never_convert_are_told() -> None:
    expression = compile_expression("record.age > duration('often') && timestamp('soon') > now", ["record", "now"])
    assert [fault.column for fault in expression.faults] == [23, 45]
    assert "got 'often'" in expression.faults[0].reason
    assert compile_expression("now - now > duration('7d')", ["now"]).faults == ()


def test_unknown_is_no_truth_value() -> None:
    with pytest.raises(TypeError, match=r"record\.x is missing"):
        bool(compile_expression("record.x", ["record"])({}))


def test_unknown_inputs_stay_unknown() -> None:
    window = Unknown("the window has a gap")
    for source in ("window.count > 3", "window.mean + 1", "has(window.count)", "window", "!window", "window in [1]"):
        assert compile_expression(source, ["window"])(window) == window
    assert compile_expression("window.count > 3", ["window"])({"count": window}) == window


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (False, False), (None, None), (1, None), ("true", None), ([], None), (Unknown("x"), None)],
)
def test_only_bools_are_truths(value: object, expected: bool | None) -> None:
    assert truth(value) is expected


def test_condition_tells_why_not() -> None:
    assert condition(True) is True
    assert condition("yes") == Unknown("the condition is string, neither true nor false")
    assert condition(None) == Unknown("the condition is null, neither true nor false")


@pytest.mark.parametrize(
    ("value", "json", "text"),
    [
        (1.0, 1, "1"),
        (1.5, 1.5, "1.5"),
        (-0.0, 0, "0"),
        (1e300, 1e300, "1e+300"),
        (math.inf, "Infinity", "inf"),
        (True, True, "true"),
        ("a", "a", "a"),
        ("", "", ""),
        (2**62, 2**62, str(2**62)),
        (Timestamp.from_seconds(1704067200), 1704067200, "2024-01-01T00:00:00Z"),
        (Timestamp.from_seconds(1704067200.125), 1704067200.125, "2024-01-01T00:00:00.125Z"),
        (Duration.from_seconds(5400), 5400, "1h30m"),
        (Duration.from_seconds(-0.5), -0.5, "-500ms"),
        (Duration(0), 0, "0s"),
        ([1.0, {"a": Duration.from_seconds(60)}], [1, {"a": 60}], '[1, {"a": 60}]'),
        (("é", None, Unknown("x")), ["é", None, None], '["é", null, null]'),
        ({1: 2.0}, {"1": 2}, '{"1": 2}'),
    ],
)
def test_values_leave_as_json_and_as_text(value: object, json: object, text: str) -> None:
    assert to_json(value) == json
    assert type(to_json(value)) is type(json)
    assert to_text(value) == text


def test_what_has_no_json_or_text_says_so() -> None:
    with pytest.raises(ValueError, match="Python's bytes has no JSON"):
        to_json(b"x")
    assert to_text(None) == Unknown("null has no text")
    assert to_text(b"x") == Unknown("Python's bytes has no text")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("7d", 604800),
        ("1h30m", 5400),
        ("-1.5h", -5400),
        ("0", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == Duration.from_seconds(seconds)
    assert parse_duration(text).seconds == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "5M", "1h-30m", "--5s", "5s5", "\u0665s", "1e3s", "9" * 70 + "s"]
)
def test_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 30s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MiB", 64 << 20), ("1KB", 1000), ("1kB", 1000), ("0.5GiB", 1 << 29), ("3TB", 3 * 10**12), ("1PiB", 1 << 50)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_quantity(text) == size


@pytest.mark.parametrize("text", ["", "64", "64M", "64Mi", "64 MiB", "-1KiB", "1BB", "1iB", "1kiB"])
def test_other_text_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size such as 64MiB"):
        parse_quantity(text)


def test_floats_keep_their_microseconds() -> None:
    assert Timestamp.from_seconds(1704067200.1) == parse_timestamp("2024-01-01T00:00:00.1Z")
    with pytest.raises(ValueError, match="no time"):
        Timestamp.from_seconds(math.nan)


def test_error_carries_message_and_column() -> None:
    with pytest.raises(ExpressionError) as refusal:
        compile_expression("host.name == recrod.name", ["host", "record"])
    assert str(refusal.value) == "unknown variable 'recrod', did you mean 'record'?"
    assert refusal.value.column == 14
