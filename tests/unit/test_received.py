"""Which numbers have come: gaps, what fills them, what comes twice."""

from hypothesis import given
from hypothesis import strategies as st

from exhaust.received import MOST_GAPS, Gap, Received


def test_numbers_in_order_leave_no_gap() -> None:
    received = Received()
    assert all(received.take(number, 1.0) for number in range(5))
    assert (received.highest, received.gaps) == (4, [])


def test_a_gap_is_known_with_when_it_was_noticed_and_what_fills_it_is_new_once() -> None:
    received = Received()
    received.take(0, 1.0)
    received.take(5, 2.0)
    assert received.gaps == [Gap(1, 4, 2.0)]
    assert received.take(3, 9.0)
    assert not received.take(3, 9.0)
    assert received.gaps == [Gap(1, 2, 2.0), Gap(4, 4, 2.0)]


def test_what_is_older_than_the_gaps_that_are_remembered_counts_as_new_rather_than_lost() -> None:
    received = Received()
    for number in range(0, 2 * MOST_GAPS + 4, 2):
        received.take(number, 1.0)
    assert received.floor == 1
    assert received.take(1, 2.0)
    assert not received.take(2, 2.0)


@given(st.lists(st.integers(0, 60), max_size=200))
def test_it_agrees_with_a_set_of_numbers(numbers: list[int]) -> None:
    received, model = Received(), set[int]()
    for number in numbers:
        assert received.take(number, 1.0) == (number not in model)
        model.add(number)
    assert received.missing == received.highest + 1 - len(model)
