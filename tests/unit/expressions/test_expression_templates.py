"""Literal text with expressions in it."""

from typing import Any

import pytest

from exhaust.expressions import Duration, ExpressionError, Timestamp, Unknown, compile_template

RECORD: dict[str, Any] = {
    "name": "web-1",
    "count": 3.0,
    "share": 0.25,
    "ok": True,
    "tags": ["a", 1.0],
    "at": Timestamp.from_seconds(1704067200),
    "wait": Duration.from_seconds(5400),
    "nothing": None,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("$ { {{ }} $${", "$ { {{ }} $${"),
        ("${{ record.count }}", 3.0),
        ("${{record.tags}}", ["a", 1.0]),
        ("${{ record.at }}", RECORD["at"]),
        ("${{ record.count }} of ${{ record.name }}", "3 of web-1"),
        (" ${{ record.count }}", " 3"),
        ("${{ record.name }}${{ record.count }}", "web-13"),
        ("at ${{ record.at }} for ${{ record.wait }}", "at 2024-01-01T00:00:00Z for 1h30m"),
        ("${{ record.ok }}/${{ record.share }}", "true/0.25"),
        ("tags: ${{ record.tags }}", 'tags: ["a", 1]'),
        ("${{ '}}' }}", "}}"),
        ("a ${{ '}}' + \"${{\" }} b", "a }}${{ b"),
        ("${{ {'a': {'b': 1}} }}", {"a": {"b": 1}}),
        ("${{ {'a': {'b': 1}}}}", {"a": {"b": 1}}),
        ("x${{ {'a': {'b': 1}}.a.b }}}}", "x1}}"),
        ("${{ record.name\n}}", "web-1"),
        ("http://${{ record.name }}/x", "http://web-1/x"),
    ],
)
def test_text_with_values(text: str, value: object) -> None:
    assert compile_template(text, ["record"])(RECORD) == value


@pytest.mark.parametrize("text", ["${{ record.x }}", "a ${{ record.name }} ${{ record.x }}", "${{ record.nothing }}!"])
def test_any_unknown_part_makes_the_whole_unknown(text: str) -> None:
    assert isinstance(compile_template(text, ["record"])(RECORD), Unknown)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("ab ${{ 1 + }}", "expected a value", 12),
        ("${{ 1 }} ${{ recrod }}", "did you mean 'record'", 14),
        ("ab ${{ 1", "${{ is not closed by }}", 4),
        ("ab ${{ 'x }}", "the string is not closed", 8),
        ("${{ }}", "expected a value", 5),
        ("${{ 1 } }", "is not closed", 1),
        ("${{ record # }}", "unexpected character '#'", 12),
    ],
)
def test_columns_count_within_the_whole_text(text: str, message: str, column: int) -> None:
    with pytest.raises(ExpressionError) as refusal:
        compile_template(text, ["record"])
    assert message in str(refusal.value)
    assert refusal.value.column == column


def test_template_tells_what_it_reads() -> None:
    template = compile_template("${{ record.name }} on ${{ host.labels.role }}", ["record", "host", "now"])
    assert template.variables == {"record", "host"}
    assert template.fields == {"record.name", "host.labels.role"}
    assert len(template.expressions) == 2
    assert not template.constant
    assert compile_template("plain", []).constant
