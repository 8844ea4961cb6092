"""What the tests of the checker read: a service's records, and what else stands beside them."""

from collections.abc import Mapping

from exhaust import shapes
from exhaust.expressions import Shape, check_types, compile_expression

SCHEMA = {
    "service": "string: its name",
    "name": "string: the same",
    "state": "string: running or failed",
    "wanted": "bool: whether it ought to run",
    "pid": "int: its main process",
    "exit": "int: its exit status",
    "since": "timestamp: when it started",
    "cpu_percent": "double: percent of one processor",
    "memory_bytes": "int: resident memory, bytes",
    "tags": "list: what it is tagged with",
    "more": "map: what else there is",
    "odd": "octets: of a type that is not known here",
}
SHAPES: Mapping[str, Shape] = {
    **shapes.ANALYZER,
    **shapes.WORKFLOW,
    "record": shapes.record_shape(SCHEMA),
    "inputs": shapes.inputs_shape({"step": "int", "wait": "duration", "at": "timestamp", "anything": "octets"}),
    "tasks": shapes.tasks_shape(["read"]),
    "lists": shapes.lists_shape(["busy", "protected"]),
}
NAMES = (*SHAPES, "unheard")


def said(source: str, variables: Mapping[str, Shape] = SHAPES) -> list[str]:
    """The faults of an expression, each after its column."""
    faults = check_types(compile_expression(source, NAMES), variables)
    return [f"{fault.column}: {fault.reason}" for fault in faults]
