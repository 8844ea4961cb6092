"""The page about expressions says what is so."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from exhaust.expressions import ExpressionError, Unknown, compile_expression, to_json
from exhaust.expressions.functions import FUNCTIONS
from tests.unit.expressions.service_shapes import said

PAGE = (Path(__file__).parents[3] / "docs" / "expressions.md").read_text()


class Deviation(NamedTuple):
    expression: str
    variables: str
    here: str
    elsewhere: str


def deviations() -> list[Deviation]:
    rows = PAGE.split("\n## Deviations\n")[1].split("|---|---|---|---|\n")[1].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [Deviation(expression.strip("`"), variables.strip("`"), *rest) for expression, variables, *rest in cells]


@pytest.mark.parametrize("row", deviations(), ids=lambda row: row.expression)
def test_deviation_is_as_documented(row: Deviation) -> None:
    variables = json.loads(row.variables or "{}")
    if row.here == "refused":
        with pytest.raises(ExpressionError):
            compile_expression(row.expression, list(variables))
        return
    value = compile_expression(row.expression, list(variables))(*variables.values())
    if row.here == "unknown":
        assert isinstance(value, Unknown)
    else:
        assert json.dumps(to_json(value)) == row.here.strip("`")


def test_deviations_are_many_and_tell_what_cel_does() -> None:
    assert len(deviations()) >= 30
    assert all(row.elsewhere for row in deviations())


def test_every_function_is_documented() -> None:
    section = PAGE.split("\n## Functions\n")[1].split("\n## ")[0]
    documented = set(re.findall(r"((?:math\.)?\w+)\(", section))
    assert set(FUNCTIONS) | {"has"} <= documented


def faults() -> list[list[str]]:
    rows = PAGE.split("\n## Checked before it runs\n")[1].split("|---|---|\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


@pytest.mark.parametrize(("expression", "fault"), faults())
def test_fault_is_as_documented(expression: str, fault: str) -> None:
    assert [told.partition(": ")[2] for told in said(expression.strip("`"))] == [fault]
