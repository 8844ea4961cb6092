"""Expressions and data made to exhaust or to break out: refused, or done at once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exhaust.expressions import (
    Duration,
    ExpressionError,
    Timestamp,
    Unknown,
    compile_expression,
    compile_template,
    to_json,
    to_text,
    truth,
)

NAMES = ["record", "host"]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


@pytest.mark.parametrize(
    "source",
    [
        " + ".join(["1"] * 50_000),
        " && ".join(["record.a"] * 50_000),
        "(" * 50_000 + "1" + ")" * 50_000,
        "!" * 50_000 + "true",
        "-" * 50_000 + "1",
        "[" * 50_000,
        "record" + ".a" * 50_000,
        "'" + "\\'" * 50_000,
        "'''" + "''" * 50_000,
        "9" * 50_000,
        "/" * 50_000,
        "(" * 2_000 + ")" * 2_000,
        "[" * 4_000,
        "{'a':" * 800,
        "!" * 4_000 + "true",
        "-" * 4_000 + "1",
        "record" + ".a" * 2_000,
        "record" + "[0]" * 1_300,
        "record" + ".size()" * 500,
        "true" + " ? true : true" * 200,
        "1" + " == 1" * 600,
        "default(" * 400,
        "1+" * 2_000 + "1",
        "[" + "1," * 1_500 + "]",
        "'" + "\\'" * 2_000,
        '"""' + "\\" * 4_000,
        "r'''" + "''x" * 1_300,
        "9" * 4_000,
        "1." + "9" * 4_000 + "e",
        "1e" + "9" * 4_000,
        "x" * 4_000,
        "_" * 4_000 + "(",
        "'a'.matches('(((a{100}){100}){100})')",
        "'a'.matches('" + "(" * 3_000 + "')",
        "'a'.matches('" + "a?" * 2_000 + "')",
    ],
    ids=lambda source: f"{source[:12]}…{len(source)}",
)
def test_too_much_is_refused_at_once(source: str) -> None:
    with within(0.5), pytest.raises(ExpressionError) as refusal:
        compile_expression(source, NAMES)
    assert 1 <= refusal.value.column <= len(source) + 1
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "source",
    [
        "+".join(["1"] * 1_000),
        "&&".join(["!!a"] * 680),
        "||".join(["a"] * 1_000),
        "[" + ",".join(["a"] * 999) + "]",
        "(" * 24 + "a" + ")" * 24,
        "a" + ".a" * 23,
        "!" * 23 + "a",
        "a" + " ? a : a" * 23,
        "a&&(a||(" * 11 + "a" + "))" * 11,
        "default(" * 20 + "a" + ",a)" * 20,
        "[" * 22 + "a" + "]" * 22,
        "default(a || (a && (a ? a : " * 5 + "a" + ")), a)" * 5,
    ],
    ids=lambda source: f"{source[:12]}…{len(source)}",
)
def test_as_much_as_is_allowed_compiles_and_runs(source: str) -> None:
    with within(1.5):
        compile_expression(source, ["a"])(True)


def test_one_term_or_level_more_is_refused() -> None:
    for source, fault in (
        ("+".join(["1"] * 1_001), "more than 1,000 terms"),
        ("+".join(["-1"] * 1_001), "more than 1,000 terms"),
        ("(" * 25 + "1" + ")" * 25, "nested deeper than 24 levels"),
        ("record" + ".a" * 24, "nested deeper than 24 levels"),
        ("1" + " " * 4_096, "the expression has 4,097 characters, 4,096 are allowed"),
    ):
        with pytest.raises(ExpressionError, match=fault):
            compile_expression(source, NAMES)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)*$", "(.*a){20}", "(?:a?){50}a{50}$", "(x+x+)+y"])
def test_evil_patterns_take_linear_time(pattern: str) -> None:
    text = "a" * 30_000 + "!"
    literal = compile_expression(f"record.text.matches('{pattern}')", ["record"])
    dynamic = compile_expression("record.text.matches(record.pattern)", ["record"])
    with within(0.5):
        assert literal({"text": text}) == dynamic({"text": text, "pattern": pattern})


def test_refused_patterns_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    compile_expression("'a'.matches(record.pattern)", ["record"])({"pattern": "("})
    with pytest.raises(ExpressionError):
        compile_expression("'a'.matches('(')", [])
    assert capfd.readouterr() == ("", "")


def test_results_are_bounded() -> None:
    text = compile_expression("record.text + record.text", ["record"])
    assert len(text({"text": "x" * 32_768})) == 65_536
    assert text({"text": "x" * 32_769}) == Unknown("a text of more than 65,536 characters")
    items = compile_expression("record.list + record.list", ["record"])
    assert len(items({"list": [0] * 5_000})) == 10_000
    assert items({"list": [0] * 5_001}) == Unknown("a list of more than 10,000 items")
    template = compile_template("${{ record.text }}${{ record.text }}", ["record"])
    assert isinstance(template({"text": "x" * 40_000}), Unknown)


@pytest.mark.parametrize(
    "text",
    ["${{" * 50_000, "${{ 1 }}" * 50_000, "${{ '" + "x" * 50_000, "$" * 50_000 + "{{", "${{ " + "{" * 50_000],
    ids=lambda text: f"{text[:8]}…",
)
def test_hostile_templates_are_refused_at_once(text: str) -> None:
    with within(1.0), pytest.raises(ExpressionError) as refusal:
        compile_template(text, NAMES)
    assert 1 <= refusal.value.column <= len(text) + 1


@pytest.mark.parametrize(
    "source",
    [
        '\'\\\'] or __import__("os").system("false") #\'',
        "record[\"'] + exit() + ['\"]",
        'record["\\n    raise SystemExit"]',
        "'''\n  raise SystemExit\n'''",
        "{'{0}': '{record.__class__}'}",
        "'{0.__class__}'.contains('x')",
        "record.__class__",
        "record.__globals__.__builtins__",
    ],
)
def test_no_text_becomes_code(source: str) -> None:
    value = compile_expression(source, ["record"])({})
    assert isinstance(value, str | dict | bool | Unknown)


def deep(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


def test_deep_data_are_unknown_not_fatal() -> None:
    data = {"a": deep(50_000), "b": deep(50_000)}
    for source in ("record.a == record.b", "record.a in [record.b]", "record.a in record.b"):
        assert compile_expression(source, ["record"])(data) == Unknown("nested too deeply to compare")
    assert isinstance(to_text(data), Unknown)
    with pytest.raises(ValueError, match="nested too deeply"):
        to_json(data)


ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text(alphabet=st.characters(exclude_categories=()), max_size=8)
    | st.sampled_from([b"bytes", object(), {1}, datetime(2024, 1, 1, tzinfo=UTC), 1j, Unknown("not told"), (), int])
    | st.integers(min_value=-(2**66), max_value=2**66).map(Timestamp)
    | st.integers(min_value=-(2**66), max_value=2**66).map(Duration)
)
DATA = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
SOURCES = [
    *("x.a > 1", "x > y", "x == y", "x != 'a'", "x < 1.5", "x in y", "y in x", "x in ['a', 1, null]", "x['a'].b"),
    *("x + y", "x - y", "x * y", "x / y", "x % y", "-x", "!x", "x + 1", "x / 2", "3 / x", "x - 1.5", "x[y]", "x[0]"),
    *("x && y", "x || y", "x ? y : x", "[x, y]", "{'a': x}", "{x: y}", "default(x.a, y)", "has(x.a)", "has(x.a.b)"),
    *("int(x)", "double(x)", "string(x)", "bool(x)", "timestamp(x)", "duration(x)", "quantity(x)", "size(x)"),
    *("x.contains(y)", "x.startsWith('a')", "x.endsWith(y)", "x.matches(y)", "x.matches('a+')", "in_cidrs(x, y)"),
    *("math.least(x, y)", "math.greatest(x)", "x.getHours()", "x.getHours(y)", "x.getFullYear('-12:00')"),
    *("x.getDayOfYear('Europe/Amsterdam')", "x.getMilliseconds()", "x == timestamp(0)", "x > duration('1s')"),
    *("x + duration('1s')", "timestamp(x) - timestamp(y)", "in_cidrs('10.0.0.1', x)", "'a' in x", "x in {'a': 1}"),
]
COMPILED = [compile_expression(source, ["x", "y"]) for source in SOURCES]


@settings(max_examples=300, deadline=None)
@given(DATA, DATA)
def test_no_data_raise(x: Any, y: Any) -> None:
    for expression in COMPILED:
        value = expression(x, y)
        assert truth(value) in (True, False, None)
        if isinstance(value, Unknown):
            assert "the expression failed" not in value.reason, expression.source
        to_text(value)
