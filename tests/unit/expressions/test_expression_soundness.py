"""What is said of an expression beforehand holds for every record that fits the shapes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from exhaust import shapes
from exhaust.expressions import Duration, Expression, Shape, Timestamp, Unknown, compile_expression, truth
from exhaust.expressions.checking import findings, result_type
from exhaust.expressions.functions import FUNCTIONS
from exhaust.expressions.parser import parse
from exhaust.expressions.shape import DYNAMIC, TIMESTAMP
from exhaust.expressions.spelling import spell
from exhaust.expressions.tree import (
    Arithmetic,
    Call,
    Comparison,
    Conditional,
    Index,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Name,
    Node,
    Presence,
    Select,
    Unary,
    walk,
)
from exhaust.expressions.values import kind

SCHEMA = {
    "name": "string: what it is called",
    "on": "bool: whether it is on",
    "count": "int: how many there are",
    "load": "double: how busy it is",
    "since": "timestamp: when it began",
    "tags": "list: what it is tagged with",
    "more": "map: what else there is",
}
SHAPES: Mapping[str, Shape] = {
    "record": shapes.record_shape(SCHEMA),
    "time": TIMESTAMP,
    "host": shapes.HOST,
    "cause": shapes.WORKFLOW["cause"],
    "tasks": shapes.TASKS,
}
NAMES = (*SHAPES, "dyn")
FIELDS = (*SCHEMA, "time", "nme", "labels", "role", "known", "value", "output")

# Values that fit


numbers = st.integers(-3, 9) | st.sampled_from([0.0, 0.5, -1.5, 1e300])
texts = st.sampled_from(["", "a", "5", "on", "true", "1h", "count", "2024-01-01T00:00:00Z", "10.0.0.1"])
instants = st.integers(0, 2 * 10**9).map(Timestamp.from_seconds)
spans = st.integers(-(10**6), 10**6).map(Duration.from_seconds)
plain = st.none() | st.booleans() | numbers | texts
anything = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
OF_KINDS: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "bool": st.booleans(),
    "int": st.integers(-3, 9),
    "double": st.sampled_from([0.0, 0.5, -1.5, 1e300, float("nan")]),
    "string": texts,
    "timestamp": instants,
    "duration": spans,
}


def fitting(shape: Shape) -> st.SearchStrategy[Any]:
    """Values of a shape, in which any field may be null or missing."""
    if shape == DYNAMIC:
        return anything | instants | spans
    return st.one_of(*(_of_kind(shape, name) for name in sorted(shape.kinds)))


def _of_kind(shape: Shape, name: str) -> st.SearchStrategy[Any]:
    items = fitting(shape.items) if shape.items else anything
    if name == "list":
        return st.lists(items, max_size=3)
    if name != "map":
        return OF_KINDS[name]
    if shape.fields is None:
        return st.dictionaries(st.sampled_from(FIELDS) | texts, st.none() | items, max_size=3)
    fields = {field: st.none() | fitting(inner) for field, inner in shape.fields.items()}
    return st.fixed_dictionaries({}, optional=fields)


data = st.tuples(*map(fitting, SHAPES.values()), fitting(DYNAMIC))  # in the order of NAMES


def fits(value: Any, shape: Shape) -> bool:
    """Whether a value is what was foretold; unknown always may be."""
    if type(value) is Unknown:
        return True
    if kind(value) not in shape.kinds:
        return False
    if type(value) is list:
        return all(fits(item, shape.items or DYNAMIC) for item in value)
    if type(value) is not dict:
        return True
    inner = shape.fields
    return all(
        item is None
        or (fits(item, shape.items or DYNAMIC) if inner is None else key in inner and fits(item, inner[key]))
        for key, item in value.items()
    )


# Expressions


def literal(value: bool | int | float | str | None) -> Node:
    return Literal(value, column=0)


def select(operand: Node, field: str) -> Node:
    return Select(operand, field, column=0)


literals = (st.none() | st.booleans() | numbers | texts).map(literal)
variables = st.sampled_from(NAMES).map(lambda name: Name(name, column=0))
fields = st.builds(select, st.just(Name("record", column=0)), st.sampled_from((*SCHEMA, "time")))
leaves = literals | variables | fields | fields


@st.composite
def calls(draw: st.DrawFn, inner: st.SearchStrategy[Node]) -> Node:
    name = draw(st.sampled_from(sorted(FUNCTIONS)))
    function = FUNCTIONS[name]
    arguments = draw(st.lists(inner, min_size=function.least, max_size=min(function.most, 3)))
    if name == "matches":
        arguments[1] = literal("a|b")
    return Call(name, tuple(arguments), column=0)


def runs(inner: st.SearchStrategy[Node], signs: str, least: int = 1) -> st.SearchStrategy[Node]:
    pairs = st.lists(st.tuples(st.sampled_from(signs), inner), min_size=least, max_size=3)
    return st.builds(
        lambda first, rest: Arithmetic(tuple(sign for sign, _ in rest), (first, *(term for _, term in rest)), column=0),
        inner,
        pairs,
    )


def grown(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    relations = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in"])
    some = st.lists(inner, max_size=3)
    maps = st.lists(st.tuples(texts.map(literal) | inner, inner), max_size=3)
    return st.one_of(
        st.builds(select, inner, st.sampled_from(FIELDS)),
        st.builds(lambda operand, key: Index(operand, key, column=0), inner, inner),
        st.builds(lambda operand, field: Presence(operand, field, column=0), inner, st.sampled_from(FIELDS)),
        st.builds(lambda sign, operand: Unary(sign, operand, column=0), st.sampled_from("!-"), inner),
        runs(inner, "+-"),
        runs(inner, "*/%"),
        st.builds(lambda sign, left, right: Comparison(sign, left, right, column=0), relations, inner, inner),
        st.builds(lambda sign, left, right: Comparison(sign, left, right, column=0), relations, inner, inner),
        st.builds(
            lambda sign, terms: Logic(sign, tuple(terms), column=0),
            st.sampled_from(["&&", "||"]),
            st.lists(inner, min_size=2, max_size=3),
        ),
        st.builds(lambda one, two, three: Conditional(one, two, three, column=0), inner, inner, inner),
        some.map(lambda items: ListOf(tuple(items), column=0)),
        maps.map(lambda pairs: MapOf(tuple(key for key, _ in pairs), tuple(value for _, value in pairs), column=0)),
        calls(inner),
    )


trees = grown(leaves) | st.recursive(leaves, grown, max_leaves=10)  # in deep ones a fault below hides those above


def compiled(tree: Node) -> Expression:
    """Negative numbers under a minus, and times in a call, are folded here as everywhere."""
    return compile_expression(spell(tree), NAMES)


def without_columns(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(without_columns, value))
    if not isinstance(value, Node):
        return (type(value), repr(value))
    inside = (getattr(value, field.name) for field in dataclasses.fields(value) if field.name != "column")
    return (type(value), *map(without_columns, inside))


@given(trees)
def test_what_is_spelled_is_parsed_to_the_same(tree: Node) -> None:
    assert without_columns(parse(spell(tree), NAMES)) == without_columns(tree)


@given(trees, st.lists(data, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_what_has_a_fault_is_never_true(tree: Node, cases: list[tuple[Any, ...]]) -> None:
    for node, fault in findings(compiled(tree), SHAPES):
        never = isinstance(node, Comparison) and node.operator == "!="
        part = compiled(node)
        for case in cases:
            assert truth(part(*case)) is not (not never), (part.source, fault, case)


@given(trees, st.lists(data, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_every_part_is_of_the_foretold_shape(tree: Node, cases: list[tuple[Any, ...]]) -> None:
    for node, _ in walk(tree):
        part = compiled(node)
        foretold = result_type(part, SHAPES)
        for case in cases:
            value = part(*case)
            assert fits(value, foretold), (part.source, str(foretold), value, case)
