"""What the checker says of conditions, of text with expressions in it, and of results."""

import pytest

from exhaust.expressions import Shape, check_condition, check_types, compile_expression, compile_template, result_type
from exhaust.expressions.shape import DURATION, INT, NUMBER, STRING, either, object_of
from tests.unit.expressions.service_shapes import NAMES, SHAPES, said


def test_all_faults_are_told_in_the_order_of_columns() -> None:
    assert said('record.pid == "5" && (record.zzz || record.state) && window.cout > 1') == [
        '1: record.pid is an int and "5" is a string: they are never equal; write record.pid == 5',
        "30: record has no field 'zzz'",
        "37: record.state is a string: '||' takes true or false",
        "61: window has no field 'cout', did you mean 'count'?",
    ]


def test_long_operands_are_cut_and_long_remedies_left_out() -> None:
    (fault,) = said(f"record.pid + {' + '.join(map(str, range(100)))} == 'x'")
    assert fault.startswith("1: record.pid + 0 + 1 + 2")
    assert len(fault) < 140
    assert said(f"record.{'x' * 1000} == 5") == [f"8: record has no field '{'x' * 64}'"]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("record.pid", "expected true or false, got an int"),
        ("record.state + 'x'", "expected true or false, got a string"),
        ("(record.wanted ? 1 : 'x')", "expected true or false, got an int or a string"),
        ("null", "expected true or false, got null"),
        ("cause", "expected true or false, got null or a map"),
    ],
)
def test_a_condition_that_is_never_a_bool_is_refused(source: str, fault: str) -> None:
    expression = compile_expression(source, NAMES)
    assert check_types(expression, SHAPES) == []
    assert [found.reason for found in check_condition(expression, SHAPES)] == [fault]


@pytest.mark.parametrize(
    "source", ["record.wanted", "default(record.wanted, 5)", "record.odd", "unheard", "record.more.x"]
)
def test_a_condition_that_may_be_a_bool_is_not(source: str) -> None:
    assert check_condition(compile_expression(source, NAMES), SHAPES) == []


def test_one_mistake_is_told_once_of_a_condition() -> None:
    assert len(check_condition(compile_expression("record.pd", NAMES), SHAPES)) == 1


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("${{ record.state }} of ${{ record.service }}", []),
        ("no expression", []),
        ("${{ record.stat }}", ["12: record has no field 'stat', did you mean 'state'?"]),
        ("é ${{ cause.host }} ${{record.stat}}!", ["31: record has no field 'stat', did you mean 'state'?"]),
        (
            "a ${{ record.pid && true }}${{ 'x' + 1 == '}}' }}",
            [
                "7: record.pid is an int: '&&' takes true or false",
                '32: "x" is a string and 1 is an int: \'+\' is not for them; write "x" + "1"',
            ],
        ),
    ],
)
def test_columns_count_within_the_whole_text(text: str, faults: list[str]) -> None:
    found = check_types(compile_template(text, NAMES), SHAPES)
    assert [f"{fault.column}: {fault.reason}" for fault in found] == faults


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("${{ record.pid }}", INT),
        ("${{ record.pid / 2 }}", NUMBER),
        ("${{ now - cause.since }}", DURATION),
        ("${{ record.tags }} ", STRING),
        ("plain", STRING),
        ("${{ {'a': 1} }}", object_of({"a": INT})),
        ("${{ default(cause.name, 5) }}", either(STRING, INT)),
    ],
)
def test_result_of_a_lone_expression_keeps_its_shape(text: str, shape: Shape) -> None:
    assert result_type(compile_template(text, NAMES), SHAPES) == shape
