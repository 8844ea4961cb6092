"""The table of kinds says what operators and functions do: each is asked with values of every kind."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final

import pytest

from exhaust.expressions import Duration, Shape, Timestamp, Unknown, check_types, compile_expression
from exhaust.expressions.access import index
from exhaust.expressions.functions import FUNCTIONS as BODIES
from exhaust.expressions.operators import ARITHMETIC, COMPARISONS, negative
from exhaust.expressions.shape import ALL, Kinds
from exhaust.expressions.signatures import FUNCTIONS, INDEX, NEGATIVE, OPERATORS, Signature, given
from exhaust.expressions.values import kind

# Of each kind enough that whatever takes the kind takes one of them, and that what is never equal is seen to be so.
SAMPLES: Final[dict[str, tuple[Any, ...]]] = {
    "null": (None,),
    "bool": (True, False),
    "int": (0, 1, 3),
    "double": (0.0, 1.0, 2.5),
    "string": ("", "a", "5", "true", "1h", "2GiB", "2024-01-01T00:00:00Z", "UTC", "10.0.0.1"),
    "list": ([], [1], ["a", "5", "10.0.0.0/8"], [None], [True], [2.5, [], {}, Timestamp(0), Duration(0)]),
    "map": ({}, {"a": 1, "5": "a"}, {1: 2}),
    "timestamp": (Timestamp(0), Timestamp.from_seconds(1_700_000_000)),
    "duration": (Duration(0), Duration.from_seconds(60)),
}


def results(body: Callable[..., Any], kinds: Iterable[str]) -> list[Any]:
    """What it yields for every choice of values of these kinds, without the unknown."""
    found = (body(*values) for values in itertools.product(*(SAMPLES[one] for one in kinds)))
    return [value for value in found if type(value) is not Unknown]


def asked(body: Callable[..., Any], count: int) -> dict[tuple[str, ...], set[str]]:
    """The kinds of its results by the kinds of its arguments, where there are any."""
    found = {kinds: set(map(kind, results(body, kinds))) for kinds in itertools.product(SAMPLES, repeat=count)}
    return {kinds: gives for kinds, gives in found.items() if gives}


def tabled(signatures: tuple[Signature, ...], count: int) -> dict[tuple[str, ...], set[str]]:
    found = {
        kinds: set(given(signatures, [Kinds({one}) for one in kinds]))
        for kinds in itertools.product(SAMPLES, repeat=count)
    }
    return {kinds: gives for kinds, gives in found.items() if gives}


def test_samples_are_of_their_kinds() -> None:
    assert set(SAMPLES) == ALL
    assert all(kind(value) == name for name, values in SAMPLES.items() for value in values)


def test_no_operator_and_no_function_is_missing() -> None:
    assert set(OPERATORS) == set(ARITHMETIC) | set(COMPARISONS)
    assert set(FUNCTIONS) | {"default"} == set(BODIES)


@pytest.mark.parametrize("sign", sorted(OPERATORS))
def test_operator_takes_and_gives_what_the_table_says(sign: str) -> None:
    body = (ARITHMETIC | COMPARISONS)[sign]
    assert asked(body, 2) == tabled(OPERATORS[sign], 2)


def test_minus_and_brackets_take_what_the_table_says() -> None:
    assert asked(negative, 1) == tabled(NEGATIVE, 1)
    assert asked(index, 2).keys() == tabled(INDEX, 2).keys()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_function_takes_and_gives_what_the_table_says(name: str) -> None:
    function = BODIES[name]
    for count in range(function.least, min(function.most, 2) + 1):
        found, table = asked(function.body, count), tabled(FUNCTIONS[name], count)
        assert found.keys() == table.keys()
        assert all(gives <= table[kinds] for kinds, gives in found.items())


@pytest.mark.parametrize("sign", sorted(COMPARISONS))
def test_comparison_has_a_fault_exactly_where_it_is_never_true(sign: str) -> None:
    """Of values whose kinds alone are known; `!=` where it is never false, unless that is what null is asked for."""
    body, compiled = COMPARISONS[sign], compile_expression(f"left {sign} right", ["left", "right"])
    for left, right in itertools.product(SAMPLES, repeat=2):
        shapes = {"left": Shape(Kinds({left})), "right": Shape(Kinds({right}))}
        wanted = sign != "!="
        never = wanted not in results(body, (left, right))
        asks_for_null = sign == "!=" and "null" in (left, right)
        assert bool(check_types(compiled, shapes)) == (never and not asks_for_null), (left, sign, right)
