"""`exhaust eval`: one expression's value, or why there is none."""

import json
from collections.abc import Mapping
from typing import Any, TextIO

from exhaust.expressions import ExpressionError, Unknown, compile_expression, to_json


def evaluate(expression: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"value": …}`, `{"unknown": reason}` or `{"refused": reason}`."""
    try:
        compiled = compile_expression(expression, tuple(variables))
    except ExpressionError as exc:
        return {"refused": f"column {exc.column}: {exc}"}
    try:
        value = compiled(*(_doubled(variable) for variable in variables.values()))
    except OverflowError:
        return {"refused": "a variable holds a number that is too large for a double"}
    return {"unknown": value.reason} if isinstance(value, Unknown) else {"value": to_json(value)}


def _doubled(value: Any) -> Any:
    """Return data as it comes from outside: every number is a double."""
    match value:
        case bool():
            return value
        case int():
            return float(value)
        case list():
            return [_doubled(item) for item in value]
        case dict():
            return {key: _doubled(item) for key, item in value.items()}
    return value


def as_json(value: Any) -> str:
    """Return JSON that can be written: half a character, which JSON's escapes can spell, stays an escape."""
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()


def evaluate_lines(lines: TextIO, out: TextIO) -> None:
    """Answer each JSON line `{"expr", "vars"}` with a JSON line; a line that is none of those is refused."""
    for line in lines:
        out.write(as_json(_answer(line)) + "\n")
        out.flush()


def _answer(line: str) -> dict[str, Any]:
    try:
        question = json.loads(line)
        return evaluate(str(question["expr"]), dict(question.get("vars") or {}))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        return {"refused": f'expected {{"expr": …, "vars": {{…}}}}: {type(exc).__name__}: {exc}'}
