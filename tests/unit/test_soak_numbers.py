"""The set of numbers that the soak's ledgers are kept in, against a plain set."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.soak.ledgers import Numbers, count, ranges

spans = st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def spread(of: list[tuple[int, int]]) -> Counter[int]:
    return Counter(number for first, last in of for number in range(first, last + 1))


@given(st.lists(spans, max_size=12), st.integers(1, 80), st.integers(1, 40))
def test_it_holds_what_a_set_would_and_counts_what_came_again(
    added: list[tuple[int, int]], last: int, first: int
) -> None:
    numbers, model = Numbers(added), spread(added)
    assert spread(numbers.ranges) == Counter(set(model))
    assert all(b[0] > a[1] + 1 for a, b in zip(numbers.ranges, numbers.ranges[1:], strict=False))
    assert numbers.duplicates == sum(model.values()) - len(model)
    assert set(spread(numbers.missing(last, first))) == set(range(first, last + 1)) - set(model)
    assert count(numbers.missing(last)) == len(set(range(1, last + 1)) - set(model))
    assert numbers.up_to(last) == max((number for number in model if number <= last), default=0)


@given(st.lists(st.integers(1, 40)))
def test_numbers_in_any_order_become_ranges(numbers: list[int]) -> None:
    assert set(spread(ranges(numbers))) == set(numbers)
