"""The schedule of the soak: the same for the same seed and round, and in twenty rounds all that is aimed at."""

from collections import Counter

from tests.soak.schedule import GOALS, KILLED, steps


def test_a_seed_and_a_round_say_all_of_it() -> None:
    assert steps(7, 3) == steps(7, 3)
    assert steps(7, 3) != steps(7, 4) != steps(8, 3)


def test_twenty_rounds_make_every_goal() -> None:
    made = Counter(kind for number in range(1, 21) for step in steps(1, number) for kind in step.kinds)
    assert {kind: made[kind] >= goal for kind, goal in GOALS.items()} == dict.fromkeys(GOALS, True)


def test_only_what_is_wanted_is_done() -> None:
    assert {step.kind for step in steps(1, 1, {"cut", "slow"})} == {"cut", "slow"}
    assert all("kill-agent" in step.kinds for step in steps(1, 1, {"kill-agent"}))


def test_a_first_round_has_a_fault_of_every_kind() -> None:
    assert {kind for step in steps(1, 1) for kind in step.kinds} == set(GOALS)
    assert all(len(set(step.names)) == len(step.names) for step in steps(1, 1))


def test_a_step_says_what_is_done() -> None:
    texts = [str(step) for number in range(1, 5) for step in steps(1, number)]
    assert all(name.removeprefix("kill-") in " ".join(texts) for name in KILLED)
