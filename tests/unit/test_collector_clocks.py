"""A wrong clock is told from what was held up, from a slow broker, and from our own being wrong."""

import itertools
from typing import Any

import pytest

from tests.unit.collector_listening import OWN, START, Listening, arrival, settled

DEAD = ("host.silent", "web-01")
SKEW = ("clock.skew", "web-01")


@pytest.fixture
def listening() -> Listening:
    return settled()


@pytest.mark.parametrize("ahead", [7.0, -7.0, 3600.0, -3600.0])
def test_a_wrong_clock_is_that_of_its_host_alone(listening: Listening, ahead: float) -> None:
    listening.clocks["web-01"] = ahead
    listening.advance(60)
    assert listening.opened == {SKEW}
    assert listening.facts[-1].value == pytest.approx(ahead, abs=0.1)
    listening.clocks["web-01"] = ahead / abs(ahead) * 3.0
    listening.advance(60)
    assert listening.opened == {SKEW}, "it closes only below half of what opens it"
    listening.clocks["web-01"] = 0.0
    listening.advance(30)
    assert listening.told("clock.skew")[-1] == ("closed", "cleared")


def test_the_clock_of_a_silent_host_is_not_known(listening: Listening) -> None:
    listening.clocks["web-01"] = 60.0
    listening.advance(60)
    listening.stop("web-01")
    listening.advance(60)
    assert listening.told("clock.skew")[-1] == ("closed", "withdrawn")
    assert listening.opened == {DEAD}


def test_a_clock_that_is_a_little_off_is_no_fact(listening: Listening) -> None:
    listening.clocks["web-01"] = 4.9
    listening.advance(120)
    assert listening.facts == []


def test_what_was_held_up_for_once_is_no_wrong_clock(listening: Listening) -> None:
    for first in range(0, 60, 10):
        listening.tell(*(arrival(first + n, emitter="load", time=listening.now - 20 + n) for n in range(9)))
        listening.advance(6)
        listening.tell(arrival(first + 9, emitter="load", time=listening.now))
        listening.advance(6)
    assert listening.facts == []


@pytest.mark.parametrize("how", [{"live": False, "backlog": True}, {"live": False}, {"emitter": "custom"}])
def test_what_was_held_up_or_comes_of_people_tells_of_no_clock(listening: Listening, how: dict[str, Any]) -> None:
    for n in range(20):
        listening.advance(1)
        listening.tell(arrival(n, host="web-03", time=START - 500 + n, **how))
    assert listening.facts == []


def test_a_clock_that_is_said_to_be_ahead_and_behind_by_turns_is_not_known(listening: Listening) -> None:
    for number in range(60):
        listening.tell(arrival(number, host="web-03", time=listening.now + 60.0 * (-1) ** (number // 9)))
        listening.advance(1)
    assert listening.facts == []


def test_a_wrong_clock_is_told_by_three_batches_at_least(listening: Listening) -> None:
    listening.clocks["web-03"] = 60.0
    listening.beat("web-03", "service")
    listening.advance(15)
    assert listening.opened == set()
    listening.advance(10)
    assert listening.opened == {("clock.skew", "web-03")}


def test_what_telemetry_takes_is_not_the_clocks(listening: Listening) -> None:
    listening.lag, listening.clocks["web-01"] = 2.0, -4.0
    listening.advance(120)
    assert listening.facts == []


def test_a_broker_that_gets_slower_and_slower_is_no_wrong_clock(listening: Listening) -> None:
    for number in range(40):
        listening.lag = 3.0 * number
        listening.advance(1)
        listening.tell(arrival(number, emitter="load", time=listening.now))
    listening.lag = 0.0
    listening.advance(180)
    names = {fact.name for fact in listening.facts}
    assert "telemetry.lag" in names
    assert "clock.skew" not in names


def test_our_own_clock_set_wrong_differs_from_all_and_resolves_when_it_is_right_again(listening: Listening) -> None:
    for ahead in (60.0, -60.0):
        listening.clocks[OWN] = ahead
        listening.advance(60)
        assert listening.opened == {SKEW, ("clock.skew", "web-02")}
        listening.clocks[OWN] = 0.0
        listening.advance(60)
        assert listening.opened == set()
    assert {fact.name for fact in listening.facts} == {"clock.skew"}


def test_what_opens_again_soon_is_asserted_by_its_own_time(listening: Listening) -> None:
    for number in range(70):
        ahead = 0.0 if 12 <= number < 24 else 60.0
        listening.tell(arrival(number, host="web-03", time=listening.now + ahead))
        listening.advance(1)
    _, second = dict.fromkeys(fact.episode for fact in listening.facts)
    times = [fact.time for fact in listening.facts if fact.episode == second]
    assert [later - time for time, later in itertools.pairwise(times)] == [30.0]
