"""An expression compiled for many at once says of each what it says of one."""

import json
from pathlib import Path
from typing import Any

import pytest

from exhaust.expressions import Timestamp, compile_expression, truth

TABLES = Path(__file__).parents[2] / "golden" / "expressions"
LINES = [line for table in sorted(TABLES.glob("*.jsonl")) for line in table.read_text().splitlines()]
ROWS = [row for row in map(json.loads, LINES) if "refused" not in row]
RECORDS: list[Any] = [{"a": 1, "b": "x"}, {"a": 9.5}, {"b": None}, {}, "odd", None, {"a": True, "b": "x"}]


@pytest.mark.parametrize("row", ROWS, ids=[row["expr"][:40] for row in ROWS])
def test_every_golden_row_is_the_same_in_a_column(row: dict[str, Any]) -> None:
    names = ["record", *(name for name in row.get("vars", {}) if name != "record")]
    values = [row.get("vars", {}).get(name) for name in names]
    expression = compile_expression(row["expr"], names)
    one = expression(*values)
    columns = [[value] * 3 for value in values]
    assert repr(expression.column(names)(*columns)) == repr([one] * 3)
    assert expression.verdicts(names)(*columns) == [truth(one)] * 3
    assert repr(expression.column(["record"])(columns[0], *values[1:])) == repr([one] * 3)


@pytest.mark.parametrize(
    "source", ["record.a > 2", 'record.b == "x" && record.a < 2', "host.n > 1", "record.a", "true"]
)
def test_each_record_has_its_own_value(source: str) -> None:
    expression = compile_expression(source, ["record", "time", "host"])
    host = {"n": 2}
    each = [expression(record, None, host) for record in RECORDS]
    assert repr(expression.column(("record", "time"))(RECORDS, None, host)) == repr(each)
    assert expression.verdicts(("record", "time"))(RECORDS, None, host) == [truth(value) for value in each]


def test_several_names_go_side_by_side() -> None:
    expression = compile_expression('time - timestamp("1970-01-01T00:00:00Z") > record.a', ["record", "time", "host"])
    longer = compile_expression('time > timestamp("1970-01-01T00:00:05Z") && record.a == 1', ["record", "time", "host"])
    moments = [Timestamp.from_seconds(seconds) for seconds in (4, 6, 7)]
    records = [{"a": 1}, {"a": 1}, {"a": 2}]
    assert longer.verdicts(("record", "time"))(records, moments, None) == [False, True, False]
    assert expression.verdicts(("record", "time"))(records, moments, None) == [None] * 3


def test_names_that_it_does_not_have_cannot_be_columns() -> None:
    with pytest.raises(ValueError, match="'nobody'"):
        compile_expression("record.a", ["record"]).column(["nobody"])
