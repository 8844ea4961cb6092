"""Conditions and values of the YAML: a subset of CEL, compiled to Python functions that never raise on data."""

from exhaust.expressions.checking import check_condition, check_types, result_type
from exhaust.expressions.errors import ExpressionError
from exhaust.expressions.expression import Expression, Fault, compile_expression
from exhaust.expressions.output import condition, to_json, to_text, truth
from exhaust.expressions.quantities import parse_duration, parse_quantity
from exhaust.expressions.shape import Shape
from exhaust.expressions.templates import Template, compile_template
from exhaust.expressions.times import parse_timestamp
from exhaust.expressions.values import Duration, Timestamp, Unknown

__all__ = [
    "Duration",
    "Expression",
    "ExpressionError",
    "Fault",
    "Shape",
    "Template",
    "Timestamp",
    "Unknown",
    "check_condition",
    "check_types",
    "compile_expression",
    "compile_template",
    "condition",
    "parse_duration",
    "parse_quantity",
    "parse_timestamp",
    "result_type",
    "to_json",
    "to_text",
    "truth",
]
