"""Identifiers: sortable at the source, derived elsewhere, never the same for different things."""

import subprocess
import sys
import uuid

from hypothesis import given
from hypothesis import strategies as st

from exhaust.ids import definition_hash, derived_id, effect_key, new_id

TIMES = st.floats(0, 2**47 / 1000)
WORDS = st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]), max_size=8)


@given(TIMES, st.binary(min_size=10, max_size=10))
def test_a_new_id_is_a_uuid_of_version_7_with_its_time(now: float, entropy: bytes) -> None:
    made = uuid.UUID(new_id(now, entropy))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == int(now * 1000)


def test_the_published_example_comes_out() -> None:
    # RFC 9562, appendix A.6: rand_a is CC3, rand_b 18C4DC0C0C07398F
    noise = 0xCC3 << 68 | 0x18C4DC0C0C07398F
    assert new_id(1645557742.000, noise.to_bytes(10, "big")) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_new_ids_differ_within_a_millisecond() -> None:
    assert len({new_id(1.0) for _ in range(1000)}) == 1000


@given(TIMES, TIMES)
def test_new_ids_sort_by_their_time(one: float, other: float) -> None:
    assert (new_id(one)[:13] <= new_id(other)[:13]) == (int(one * 1000) <= int(other * 1000))


def test_a_derived_id_is_the_same_everywhere_and_for_ever() -> None:
    expected = "6e07f0d0-3746-5b1f-b398-5cd2e1849b75"
    asked = "from exhaust.ids import derived_id; print(derived_id('fact/1', ['a', 'b'], 'condition/x', '0f', 2, 12.5))"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == derived_id("fact/1", ["a", "b"], "condition/x", "0f", 2, 12.5) == expected


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=2), WORDS, WORDS, st.integers(0, 3)), unique_by=str))
def test_ids_of_different_things_differ(things: list[tuple[str, list[str], str, str, int]]) -> None:
    # The number of causes is not told apart from the producer: a producer and its causes always have the same shape.
    shapes: dict[int, list[tuple[str, list[str], str, str, int]]] = {}
    for thing in things:
        shapes.setdefault(len(thing[1]), []).append(thing)
    for alike in shapes.values():
        assert len({derived_id(*thing) for thing in alike}) == len(alike)


def test_what_a_timer_brings_about_is_told_apart_by_its_instant() -> None:
    ids = {derived_id("fact/1", ["a"], "x", due=due) for due in (None, 0.0, 1.0, 1.000001)}
    assert len(ids) == 4


def test_a_definition_is_known_by_what_it_means() -> None:
    assert definition_hash({"a": 1, "b": [1, 2]}) == definition_hash({"b": [1, 2], "a": 1})
    assert definition_hash({"a": 1}) != definition_hash({"a": 2})
    assert definition_hash({"a": [1, 2]}) != definition_hash({"a": [2, 1]})


def test_each_effect_has_a_key_of_its_own() -> None:
    keys = {effect_key(run, task, retry) for run in ("r1", "r11") for task in ("t", "1t") for retry in (0, 1)}
    assert len(keys) == 8
    assert {len(key) for key in keys} == {64}
