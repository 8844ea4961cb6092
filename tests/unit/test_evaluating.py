"""`exhaust eval`: values, unknowns and refusals, a line for each line."""

import io
import json
from typing import Any

import pytest

from exhaust.commands.evaluating import as_json, evaluate, evaluate_lines


@pytest.mark.parametrize(
    ("expression", "variables", "value"),
    [
        ("record.cpu > 90", {"record": {"cpu": 95}}, True),
        ("a / 2", {"a": 3}, 1.5),
        ("a + 1", {"a": 1}, 2),
        ("a", {"a": [1, {"b": True}]}, [1, {"b": True}]),
        ('duration("90s")', {}, 90),
        ('timestamp("1970-01-01T00:01:00Z")', {}, 60),
        ("a", {"a": "é"}, "é"),
    ],
)
def test_a_value_is_plain_data(expression: str, variables: dict[str, Any], value: Any) -> None:
    assert evaluate(expression, variables) == {"value": value}


@pytest.mark.parametrize("expression", ["record.missing > 1", 'record.cpu == null || record.cpu < "x"', "1 / 0 > 1"])
def test_an_unknown_says_why(expression: str) -> None:
    answer = evaluate(expression, {"record": {"cpu": 95}})
    assert list(answer) == ["unknown"]
    assert answer["unknown"]


@pytest.mark.parametrize("expression", ["", "1 +", "nobody", "a b", "[1].map(x, x)"])
def test_what_does_not_compile_is_refused_with_its_column(expression: str) -> None:
    assert evaluate(expression, {})["refused"].startswith("column ")


def test_a_number_that_no_double_holds_is_refused() -> None:
    assert "too large" in evaluate("a", {"a": [10**400]})["refused"]


def lines(*asked: str) -> list[dict[str, Any]]:
    out = io.StringIO()
    evaluate_lines(io.StringIO("".join(f"{line}\n" for line in asked)), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_each_line_has_its_answer() -> None:
    assert lines('{"expr": "a + 1", "vars": {"a": 1}}', '{"expr": "true"}', '{"expr": "1 / 0 > 1"}')[:2] == [
        {"value": 2},
        {"value": True},
    ]


@pytest.mark.parametrize(
    "line",
    ["", "{", "null", "[]", '"x"', "{}", '{"vars": {}}', '{"expr": "1", "vars": 3}', '{"expr": "1", "vars": "ab"}',
     '{"expr": "a", "vars": {"a": 1' + "0" * 400 + "}}", "[" * 100_000, '{"expr": 1' + "0" * 5000 + "}"],
    ids=lambda line: line[:20] or "nothing",
)  # fmt: skip
def test_a_line_that_is_no_question_is_refused_and_the_next_is_answered(line: str) -> None:
    answers = lines(line, '{"expr": "1"}')
    assert list(answers[0]) == ["refused"]
    assert answers[1] == {"value": 1}


def test_half_a_character_does_not_stop_the_answers() -> None:
    assert as_json({"value": "é\ud800"}) == '{"value": "é\\ud800"}'
    assert lines(r'{"expr": "a", "vars": {"a": "\ud800"}}') == [{"value": "\ud800"}]
