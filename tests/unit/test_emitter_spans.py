"""Stretches of the log: the same as a set of all the numbers in them."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from emitters.spool.spans import Spans

SPAN = st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def numbers(spans: Spans) -> set[int]:
    return {number for start, end in spans for number in range(start, end)}


@given(st.lists(st.tuples(st.booleans(), SPAN), max_size=30), SPAN)
def test_stretches_are_the_set_of_what_is_in_them(
    changes: list[tuple[bool, tuple[int, int]]], asked: tuple[int, int]
) -> None:
    spans, model = Spans(), set[int]()
    for adds, (start, end) in changes:
        (spans.add if adds else spans.remove)(start, end)
        (model.update if adds else model.difference_update)(range(start, end))
    assert numbers(spans) == model
    assert spans.size == len(model)
    stretches = list(spans)
    assert all(before[1] < after[0] for before, after in pairwise(stretches))
    inside = set(range(*asked))
    assert spans.touches(*asked) == bool(inside & model) or not inside
    assert spans.covers(*asked) == (inside <= model) or not inside


@given(st.lists(SPAN, min_size=1), st.integers(1, 5))
def test_an_outline_has_few_stretches_and_leaves_nothing_out(given_spans: list[tuple[int, int]], most: int) -> None:
    spans = Spans(given_spans)
    outline = spans.outline(most)
    assert len(outline) <= most
    assert numbers(spans) <= numbers(Spans(outline))
    if len(list(spans)) <= most:
        assert outline == list(spans)
