"""`exhaust eval`: one expression's value, or why there is none."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from exhaust.commands.command import Command, Root
from exhaust.errors import UsageError
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


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("expression", metavar="EXPR", help='an expression, or - for JSON lines {"expr", "vars"}')
    parser.add_argument("--vars", default="{}", metavar="JSON", help="the variables, as one JSON object")


def _eval(options: argparse.Namespace, root: Root) -> int:
    if options.expression == "-":
        evaluate_lines(sys.stdin, sys.stdout)
        return 0
    try:
        variables = json.loads(options.vars)
        if not isinstance(variables, dict):
            raise ValueError("a JSON object is needed")
    except ValueError as exc:
        raise UsageError(f"--vars: {exc}") from exc
    answer = evaluate(options.expression, variables)
    if "value" in answer:
        print(as_json(answer["value"]))  # noqa: T201
        return 0
    if "unknown" in answer:
        print(f"unknown: {answer['unknown']}")  # noqa: T201
        return 1
    raise UsageError(f"refused: {answer['refused']}")


COMMANDS = (
    Command(
        "eval",
        "evaluate one expression",
        """exhaust eval 'record.cpu > 90' --vars '{"record": {"cpu": 95}}'""",
        _eval,
        _arguments,
    ),
)
