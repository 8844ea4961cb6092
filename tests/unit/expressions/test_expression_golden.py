"""Every row of the golden tables: an expression, its variables, and the value, the doubt or the refusal."""

import json
from pathlib import Path
from typing import Any

import pytest

from exhaust.expressions import ExpressionError, Unknown, compile_expression, to_json

TABLES = Path(__file__).parents[2] / "golden" / "expressions"
ROWS = [
    pytest.param(json.loads(line), id=f"{table.stem}:{number}")
    for table in sorted(TABLES.glob("*.jsonl"))
    for number, line in enumerate(table.read_text().splitlines(), 1)
]


def same(left: Any, right: Any) -> bool:
    """Equal, and of one JSON type: 1 is not true, though it is 1.0."""
    return json.dumps(left) == json.dumps(right) or (left == right and bool not in (type(left), type(right)))


@pytest.mark.parametrize("row", ROWS)
def test_row_has_its_outcome(row: dict[str, Any]) -> None:
    variables = row.get("vars", {})
    if "refused" in row:
        with pytest.raises(ExpressionError) as refusal:
            compile_expression(row["expr"], list(variables))
        assert row["refused"] in str(refusal.value)
        assert refusal.value.column == row["column"]
        return
    value = compile_expression(row["expr"], list(variables))(*variables.values())
    if "unknown" in row:
        assert isinstance(value, Unknown), value
        assert row["unknown"] in value.reason
    else:
        assert same(to_json(value), row["value"]), value


def test_tables_hold_the_language() -> None:
    assert len(ROWS) >= 300
