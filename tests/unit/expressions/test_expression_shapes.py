"""The shapes of what expressions read, and how shapes come together."""

import pytest

from exhaust import shapes
from exhaust.expressions import Shape, check_types, compile_expression
from exhaust.expressions.shape import (
    DYNAMIC,
    INT,
    LIST,
    NULL,
    NUMBER,
    STRING,
    TIMESTAMP,
    either,
    list_of,
    map_of,
    object_of,
    optional,
)

LOAD = {"load1": "double: tasks that ran", "processes": "int: how many exist"}
SPACE = {"mountpoint": "string: where it is", "processes": "string: of another type here"}


def faults(source: str, record: Shape) -> list[str]:
    expression = compile_expression(source, ["record", "inputs"])
    return [fault.reason for fault in check_types(expression, {"record": record, "inputs": record})]


def test_a_record_has_its_fields_and_its_time() -> None:
    record = shapes.record_shape(LOAD)
    assert faults("record.load1 > record.time && record.processes > 1", record) == []
    assert faults("record.load", record) == ["record has no field 'load', did you mean 'load1'?"]


def test_a_stream_without_a_schema_may_hold_anything() -> None:
    assert shapes.record_shape({}) == shapes.records_shape([]) == shapes.records_shape([LOAD, {}]) == DYNAMIC


def test_a_record_of_several_streams_has_the_fields_of_any() -> None:
    record = shapes.records_shape([LOAD, SPACE])
    assert faults("record.load1 > 1 || record.mountpoint == '/'", record) == []
    assert faults("record.processes == 5 || record.processes == '5'", record) == []
    assert faults("record.processes == [] || record.other", record) == [
        "record.processes is an int or a string and [] is a list: they are never equal",
        "record has no field 'other'; it has load1, processes, time, mountpoint",
    ]


def test_extracted_fields_may_be_anything() -> None:
    record = shapes.with_fields(shapes.record_shape(LOAD), ["address", "load1"])
    assert faults("record.address == 5 || record.address == '5' || record.load1 == '5'", record) == []
    assert shapes.with_fields(DYNAMIC, ["address"]) == DYNAMIC


def test_inputs_have_the_values_that_their_types_parse_to() -> None:
    types = ("string", "int", "double", "bool", "duration", "size", "timestamp")
    texts = ("ip", "path", "host", "process", "list", "map")
    inputs = shapes.inputs_shape({name: name for name in (*types, *texts)})
    assert inputs.fields is not None
    assert "anything" not in map(str, inputs.fields.values())
    assert faults("inputs.size > 5 && inputs.path == '/' && inputs.duration == inputs.duration", inputs) == []


def test_times_that_travelled_may_be_seconds() -> None:
    cause = shapes.travelled(shapes.CAUSE)
    assert faults("record.since > 5 && record.due - record.since > 5", cause) == []
    assert faults("record.since == 'x' || record.labels.x == 5", cause) != []
    assert shapes.travelled(DYNAMIC) == DYNAMIC


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (INT, "an int"),
        (NULL, "null"),
        (NUMBER, "a number"),
        (TIMESTAMP, "a timestamp"),
        (either(STRING, INT), "an int or a string"),
        (either(STRING, NUMBER, LIST), "a number, a string or a list"),
        (optional(shapes.HOST), "null or a map"),
        (DYNAMIC, "anything"),
        (either(), "nothing"),
    ],
)
def test_messages_call_shapes_by_their_kinds(shape: Shape, text: str) -> None:
    assert str(shape) == text


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        (list_of(INT), list_of(STRING), list_of(either(INT, STRING))),
        (list_of(INT), LIST, LIST),
        (map_of(INT), object_of({"a": STRING}), map_of(either(INT, STRING))),
        (object_of({"a": INT}), object_of({"b": STRING}), object_of({"a": INT, "b": STRING})),
        (object_of({"a": INT}), object_of({"a": STRING}), object_of({"a": either(INT, STRING)})),
        (object_of({"a": INT}), STRING, Shape(frozenset({"map", "string"}), {"a": INT})),
        (object_of({"a": INT}), DYNAMIC, DYNAMIC),
        (object_of({}), object_of({"a": INT}), object_of({"a": INT})),
    ],
)
def test_either_of_two_shapes_is_no_narrower_than_each(left: Shape, right: Shape, both: Shape) -> None:
    assert either(left, right) == both
    assert either(right, left) == both
